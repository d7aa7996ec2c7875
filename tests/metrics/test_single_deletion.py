"""Single deletion against a loop over cells, and the anchors that a rank correlation has."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from rapbench.core.errors import BadConfig
from rapbench.core.seeds import image_seed
from rapbench.core.types import Explained
from rapbench.metrics.single_deletion import SingleDeletion
from rapbench.report.statistics import estimate

Explain = Callable[..., Explained]
RowsOf = Callable[..., pd.DataFrame]


def correlations(columns: dict[str, Tensor], rows_of: RowsOf) -> np.ndarray:
    found: np.ndarray = SingleDeletion().variants(signed=True)["spearman"].statistics(rows_of(columns))
    return found[:, 0]


def blurred(image: np.ndarray) -> np.ndarray:
    """A Gaussian of 51 x 51 pixels and standard deviation 41, mirrored at the border without its last pixel."""
    bell = np.exp(-((np.arange(51) - 25.0) ** 2) / (2 * 41**2))
    bell /= bell.sum()
    for axis in (1, 2):
        width = [(0, 0), (0, 0), (0, 0)]
        width[axis] = (25, 25)
        wide = np.pad(image, width, mode="reflect")
        image = np.apply_along_axis(np.convolve, axis, wide, bell, "valid")
    return image


@pytest.mark.parametrize("baseline", ["zeros", "uniform", "blur"])
@pytest.mark.parametrize("side", [32, 30])
def test_correlations_agree_with_a_slow_restatement(
    explain: Explain, rows_of: RowsOf, baseline: str, side: int
) -> None:
    weights = torch.randn(3 * side * side, 5).double() / 40
    relevance, x = torch.randn(3, 3, side, side).round(), torch.randn(3, 3, side, side).double()
    classify = lambda x: (x.flatten(1) @ weights).tanh() * 3  # noqa: E731
    explained = explain(relevance, x=x, classify=classify, logits=classify(x))
    columns = SingleDeletion(baseline=baseline)(explained)  # type: ignore[arg-type]
    edges = [side * k // 4 for k in range(5)] if side == 32 else [0, 8, 15, 23, 30]
    for n in range(3):
        target, image = int(explained.target[n]), x[n].numpy()
        seed = image_seed(int(explained.batch.seeds[n]), "single deletion")
        drawn = torch.empty(3, side, side).uniform_(-1, 1, generator=torch.Generator().manual_seed(seed))
        shown = {"zeros": 0 * image, "uniform": drawn.double().numpy(), "blur": blurred(image)}[baseline]
        a, d = [], []
        for top, bottom in pairwise(edges):
            for left, right in pairwise(edges):
                cell = (slice(None), slice(top, bottom), slice(left, right))
                without = image.copy()
                without[cell] = shown[cell]
                a.append(relevance[n].double().numpy()[cell].sum())
                logits = classify(torch.from_numpy(np.stack([image, without])))[:, target].numpy()
                d.append(logits[0] - logits[1])
        np.testing.assert_allclose(columns["cell_relevance"][n], a, rtol=1e-12)
        np.testing.assert_allclose(columns["cell_drop"][n], d, atol=1e-5)
        np.testing.assert_allclose(correlations(columns, rows_of)[n], spearmanr(a, columns["cell_drop"][n])[0])


def test_gradient_times_input_of_a_linear_network_is_perfect_and_its_negative_the_opposite(
    explain: Explain, rows_of: RowsOf, weights: Tensor
) -> None:
    x = torch.randn(6, 3, 24, 24)
    target = (x.flatten(1) @ weights).argmax(1)
    own = x * weights.t()[target].view(-1, 3, 24, 24)
    for sign in (1, -1):
        np.testing.assert_allclose(correlations(SingleDeletion()(explain(sign * own, x=x)), rows_of), sign)


def test_random_maps_have_no_correlation_on_average(explain: Explain, rows_of: RowsOf) -> None:
    found = correlations(SingleDeletion()(explain(torch.randn(300, 24, 24))), rows_of)
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(300)
    assert 0.2 < found.std() < 0.32


def test_cells_of_equal_value_share_their_average_rank(explain: Explain, rows_of: RowsOf) -> None:
    columns = SingleDeletion()(explain(torch.randn(1, 24, 24)))
    columns["cell_relevance"] = torch.tensor([[0.0] * 12 + [1, 1, 2, 3]])
    expected = spearmanr(columns["cell_relevance"][0], columns["cell_drop"][0])[0]
    np.testing.assert_allclose(correlations(columns, rows_of), expected)


def test_undefined_correlations_are_dropped_with_their_reason(explain: Explain, rows_of: RowsOf) -> None:
    maps, x = torch.randn(5, 24, 24), torch.randn(5, 3, 24, 24)
    maps[0], maps[1, 0, 0] = 2.0, torch.nan
    maps[2] = torch.tensor([1.0, -1.0]).repeat(12)  # each cell sums to 0
    x[3] = 0
    found = estimate(
        SingleDeletion().variants(signed=True)["spearman"],
        rows_of(SingleDeletion()(explain(maps, x=x))),
        seed=0,
    )
    assert found.n == 1
    assert found.dropped == {
        "constant map": 1,
        "non-finite relevance": 1,
        "cells of equal relevance": 1,
        "no cell matters": 1,
    }


def test_logits_that_are_not_numbers_are_undefined(explain: Explain, rows_of: RowsOf) -> None:
    explained = explain(torch.randn(2, 24, 24), classify=lambda x: torch.full((len(x), 5), torch.nan))
    found = estimate(SingleDeletion().variants(signed=True)["spearman"], rows_of(SingleDeletion()(explained)), seed=0)
    assert found.dropped == {"undefined": 2}


def test_a_batch_of_flawed_maps_is_no_error(explain: Explain) -> None:
    for baseline in ("zeros", "uniform", "blur"):
        columns = SingleDeletion(baseline=baseline)(explain(torch.zeros(2, 32, 32)))  # type: ignore[arg-type]
        assert columns["cell_drop"].isnan().all()


@pytest.mark.parametrize(("baseline", "side"), [("zeros", 3), ("blur", 25)])
def test_images_that_are_too_small_are_refused(explain: Explain, baseline: str, side: int) -> None:
    with pytest.raises(BadConfig, match=rf"baseline {baseline} needs images of \d+ pixels a side, not {side}"):
        SingleDeletion(baseline=baseline)(explain(torch.randn(1, side, side)))  # type: ignore[arg-type]

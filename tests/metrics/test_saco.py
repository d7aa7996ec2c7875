"""The faithfulness coefficient against a loop over groups, and its two ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig
from rapbench.core.types import Explained
from rapbench.metrics import METRICS
from rapbench.metrics.saco import Saco
from rapbench.report.statistics import estimate

Explain = Callable[..., Explained]
RowsOf = Callable[..., pd.DataFrame]


def coefficients(columns: dict[str, Tensor], rows_of: RowsOf) -> np.ndarray:
    found: np.ndarray = Saco().variants(signed=True)["coefficient"].statistics(rows_of(columns))
    return found[:, 0]


def slow_coefficient(image: np.ndarray, relevance: np.ndarray, target: int, weights: np.ndarray, groups: int) -> float:
    def p(shown: np.ndarray) -> float:
        logits = shown.ravel() @ weights
        return float(np.exp(logits[target]) / np.exp(logits).sum())

    order, size = (-relevance.ravel()).argsort(kind="stable"), relevance.size
    s, d = [], []
    for k in range(groups):
        pixels = order[size * k // groups : size * (k + 1) // groups]
        erased = image.reshape(len(image), -1).copy()
        for pixel in pixels:
            erased[:, pixel] = [image[c].mean() for c in range(len(image))]
        s.append(relevance.ravel()[pixels].sum())
        d.append(p(image) - p(erased))
    found = total = 0.0
    for i in range(groups):
        for j in range(i + 1, groups):
            found += (s[i] - s[j]) if d[i] >= d[j] else -(s[i] - s[j])
            total += abs(s[i] - s[j])
    return found / total


@pytest.mark.parametrize("groups", [10, 7, 2])
def test_coefficients_agree_with_a_slow_restatement(
    explain: Explain, rows_of: RowsOf, weights: Tensor, groups: int
) -> None:
    wide, maps = weights.double(), torch.randn(4, 24, 24).double()
    explained = explain(maps, x=torch.randn(4, 3, 24, 24).double(), classify=lambda x: x.flatten(1) @ wide)
    found = coefficients(Saco(groups=groups)(explained), rows_of)
    for n in range(4):
        slow = slow_coefficient(
            *(explained.batch.x[n].numpy(), maps[n].numpy(), int(explained.target[n]), wide.numpy(), groups)
        )
        assert found[n] == pytest.approx(slow, abs=1e-12)
        assert -1 <= found[n] <= 1


@pytest.mark.parametrize("sign", [1, -1])
def test_what_each_pixel_adds_is_perfect_and_its_negative_the_opposite(
    explain: Explain, rows_of: RowsOf, sign: int
) -> None:
    x, weights = torch.randn(3, 3, 24, 24).double(), torch.randn(3 * 24 * 24).double() / 40
    added = (x - x.mean((2, 3), keepdim=True)) * weights.view(3, 24, 24)  # to the logit, over that of the mean colour

    def classify(x: Tensor) -> Tensor:
        logit = x.flatten(1) @ weights
        return torch.stack([logit, torch.zeros_like(logit)], 1)

    explained = explain(sign * added, x=x, classify=classify, target=torch.zeros(3, dtype=torch.int64))
    np.testing.assert_allclose(coefficients(Saco()(explained), rows_of), sign)


def test_maps_that_tell_no_groups_apart_are_dropped_with_their_reason(explain: Explain, rows_of: RowsOf) -> None:
    maps = torch.randn(4, 24, 24)
    maps[0], maps[1, 3, 3] = 1.0, torch.nan
    maps[2] = 0
    maps[2, 0, :12], maps[2, -1, 12:] = 1.0, 1.0  # two values, of which each half of the ranks has as many
    maps[2, 0, 12:], maps[2, -1, :12] = -1.0, -1.0
    columns = Saco(groups=2)(explain(maps))
    columns["group_relevance"][2] = 4.0
    found = estimate(Saco(groups=2).variants(signed=True)["coefficient"], rows_of(columns), seed=0)
    assert found.dropped == {"constant map": 1, "non-finite relevance": 1, "groups of equal relevance": 1}
    assert found.n == 1


def test_a_group_that_matters_as_much_as_a_less_relevant_one_agrees_with_it(explain: Explain, rows_of: RowsOf) -> None:
    columns = Saco(groups=3)(explain(torch.randn(2, 24, 24)))
    columns["group_relevance"] = torch.tensor([[5.0, 3.0, 2.0], [5.0, 3.0, 2.0]])
    columns["group_drop"] = torch.tensor([[0.1, 0.1, 0.1], [0.1, 0.1, 0.2]])
    np.testing.assert_allclose(coefficients(columns, rows_of), [1, (2 - 3 - 1) / (2 + 3 + 1)])


def test_probabilities_that_are_not_numbers_are_undefined(explain: Explain, rows_of: RowsOf) -> None:
    explained = explain(torch.randn(2, 24, 24), classify=lambda x: torch.full((len(x), 5), torch.nan))
    found = estimate(Saco().variants(signed=True)["coefficient"], rows_of(Saco()(explained)), seed=0)
    assert found.dropped == {"undefined": 2}


def test_more_groups_than_pixels_are_refused(explain: Explain) -> None:
    with pytest.raises(BadConfig, match="saco: 10 groups, but the image has 9 pixels"):
        Saco()(explain(torch.randn(1, 3, 3)))


def test_a_single_group_is_refused() -> None:
    with pytest.raises(BadConfig, match="groups=1: Input should be greater than or equal to 2"):
        METRICS.build(Call("saco", {"groups": "1"}))

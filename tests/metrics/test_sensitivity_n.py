"""Sensitivity-n against a loop over sets of pixels, and a network on which it is perfect."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig
from rapbench.core.seeds import image_seed
from rapbench.core.types import Explained
from rapbench.metrics import METRICS
from rapbench.metrics.sensitivity_n import SensitivityN, pearson
from rapbench.report.statistics import estimate

Explain = Callable[..., Explained]
RowsOf = Callable[..., pd.DataFrame]
SMALL = SensitivityN(sizes="1 9 200", subsets=12)


def test_correlations_agree_with_a_slow_restatement(explain: Explain, weights: Tensor) -> None:
    wide = weights.double()
    classify = lambda x: (x.flatten(1) @ wide).tanh() * 3  # noqa: E731
    explained = explain(torch.randn(3, 3, 24, 24), x=torch.randn(3, 3, 24, 24).double(), classify=classify)
    found = SMALL(explained)["pearson"]
    for i in range(3):
        draw = torch.Generator().manual_seed(image_seed(int(explained.batch.seeds[i]), "sensitivity-n"))
        places = [torch.randperm(576, generator=draw).view(24, 24) for _ in range(12)]
        target, image = int(explained.target[i]), explained.batch.x[i]
        for k, n in enumerate((1, 9, 200)):
            sums, drops = [], []
            for place in places:
                some = place < n
                assert some.sum() == n
                erased = image.clone()
                erased[:, some] = 0
                sums.append(float(explained.relevance[i].double()[:, some].sum()))
                drops.append(float((classify(image[None]) - classify(erased[None]))[0, target]))
            np.testing.assert_allclose(found[i, k], np.corrcoef(sums, drops)[0, 1], atol=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_gradient_times_input_of_a_linear_network_is_perfect_at_every_n(
    explain: Explain, rows_of: RowsOf, weights: Tensor, sign: int
) -> None:
    x, wide = torch.randn(3, 3, 24, 24).double(), weights.double()
    target = (x.flatten(1) @ wide).argmax(1)
    own = sign * x * wide.t()[target].view(-1, 3, 24, 24)
    rows = rows_of(SMALL(explain(own, x=x, classify=lambda x: x.flatten(1) @ wide)))
    for variant in SMALL.variants(signed=True).values():
        np.testing.assert_allclose(variant.statistics(rows), sign, atol=1e-9)


def test_random_maps_have_no_correlation_on_average(explain: Explain) -> None:
    found = SMALL(explain(torch.randn(40, 24, 24)))["pearson"].numpy()
    assert (abs(found.mean(0)) < 4 * found.std(0) / np.sqrt(40)).all()


def test_sets_are_each_images_own_and_of_its_seed(explain: Explain) -> None:
    relevance, x = torch.randn(1, 24, 24), torch.randn(1, 3, 24, 24)
    twice = [t.expand(2, *t.shape[1:]).contiguous() for t in (relevance, x)]
    same, other = (
        SMALL(explain(twice[0], x=twice[1], seeds=torch.tensor(seeds)))["pearson"] for seeds in ([5, 5], [5, 6])
    )
    torch.testing.assert_close(same[0], same[1])
    torch.testing.assert_close(same[0], other[0])
    assert not torch.allclose(other[0], other[1])


def test_undefined_correlations_are_dropped_with_their_reason(explain: Explain, rows_of: RowsOf) -> None:
    maps, x = torch.randn(5, 24, 24), torch.randn(5, 3, 24, 24)
    maps[0], maps[1, 0, 0] = 2.0, torch.nan
    maps[2] = 0
    maps[2, 5, 5] = 1.0  # as good as no set of one pixel holds it
    x[3] = 0
    rows, variants = rows_of(SMALL(explain(maps, x=x))), SMALL.variants(signed=True)
    flaws = {"constant map": 1, "non-finite relevance": 1}
    alike = "sets of equal relevance or effect"
    assert estimate(variants["pearson@1"], rows, seed=0).dropped == flaws | {alike: 2}
    assert estimate(variants["pearson"], rows, seed=0).dropped == flaws | {alike: 2}
    assert estimate(variants["pearson@200"], rows, seed=0).dropped == flaws | {alike: 1}


def test_values_that_are_all_equal_have_no_correlation_however_their_mean_is_rounded() -> None:
    varied, equal = torch.randn(100, 7).double(), torch.rand(100, 1, dtype=torch.float64).expand(100, 7)
    assert (equal.mean(1, keepdim=True) != equal).any()
    assert pearson(varied, equal).isnan().all()
    assert pearson(equal, varied).isnan().all()


def test_variants_are_named_after_their_n() -> None:
    assert list(SensitivityN(sizes="4 16 4").variants(signed=True)) == ["pearson", "pearson@4", "pearson@16"]


def test_sets_of_all_pixels_are_refused(explain: Explain) -> None:
    with pytest.raises(BadConfig, match="sensitivity_n: sets of 16384 pixels, but the image has 576: choose sizes"):
        SensitivityN()(explain(torch.randn(1, 24, 24)))


@pytest.mark.parametrize("sizes", ["", "0 4", "4,16", "-3", "2.5"])
def test_sizes_that_are_no_numbers_of_pixels_are_refused(sizes: str) -> None:
    with pytest.raises(BadConfig, match="sizes must be numbers of pixels, separated by spaces"):
        METRICS.build(Call("sensitivity_n", {"sizes": sizes}))

"""Average drop and increase in confidence against a loop over images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from rapbench.core.types import Explained
from rapbench.metrics.average_drop import AverageDrop
from rapbench.report.statistics import estimate

Explain = Callable[..., Explained]
RowsOf = Callable[..., pd.DataFrame]


@pytest.mark.parametrize("part", ["signed", "positive"])
def test_scores_agree_with_a_slow_restatement(explain: Explain, rows_of: RowsOf, weights: Tensor, part: str) -> None:
    wide = weights.double() / 3
    explained = explain(
        torch.randn(8, 3, 24, 24),
        x=torch.randn(8, 3, 24, 24).double(),
        classify=lambda x: x.flatten(1) @ wide,
        target=torch.arange(8) % 5,
    )
    metric = AverageDrop(part=part)  # type: ignore[arg-type]
    rows, drops, increases, means = rows_of(metric(explained)), [], [], []
    for n in range(8):
        image, target = explained.batch.x[n].numpy(), int(explained.target[n])
        relevance = explained.relevance[n].double().sum(0).numpy()
        relevance = np.maximum(relevance, 0) if part == "positive" else relevance
        mask = (relevance - relevance.min()) / np.ptp(relevance)
        before, after = (np.exp(i.ravel() @ wide.numpy()) for i in (image, image * mask))
        p, q = before[target] / before.sum(), after[target] / after.sum()
        drops.append(100 * max(0, p - q) / p)
        increases.append(100 * (q > p))
        means.append(100 * mask.mean())
    assert 0 < sum(increases) < 800
    for name, expected in (("average_drop", drops), ("increase", increases), ("mask_mean", means)):
        found = estimate(metric.variants(signed=True)[name], rows, seed=0, resamples=2)
        assert found.value == pytest.approx(np.mean(expected), rel=1e-6)
        assert found.n == 8


def test_a_map_that_lets_the_evidence_through_raises_the_probability(explain: Explain, weights: Tensor) -> None:
    x = torch.randn(6, 3, 24, 24)
    target = (x.flatten(1) @ weights).argmax(1)
    worth = (x * (weights.t()[target] - weights.mean(1)).view(-1, 3, 24, 24)).sum(1)
    good, bad = (AverageDrop()(explain((sign * worth > 0).double(), x=x)) for sign in (1, -1))
    assert (good["masked_probability"] > good["probability"]).all()
    assert (bad["masked_probability"] < bad["probability"]).all()


def test_undefined_images_are_dropped_with_their_reason(explain: Explain, rows_of: RowsOf) -> None:
    maps, x = torch.randn(4, 24, 24), torch.randn(4, 3, 24, 24)
    maps[0], maps[1, 0, 0] = -maps[0].abs() - 1, torch.nan
    metric = AverageDrop(part="positive")
    columns = metric(explain(maps, x=x))
    columns["probability"][2] = 0.0
    rows, variants = rows_of(columns), metric.variants(signed=True)
    flaws = {"constant map": 1, "non-finite relevance": 1}
    assert estimate(variants["average_drop"], rows, seed=0).dropped == flaws | {"probability of zero": 1}
    assert estimate(variants["increase"], rows, seed=0).dropped == flaws


def test_probabilities_that_are_not_numbers_are_undefined(explain: Explain, rows_of: RowsOf) -> None:
    explained = explain(torch.randn(2, 24, 24), classify=lambda x: torch.full((len(x), 5), torch.nan))
    rows = rows_of(AverageDrop()(explained))
    for name in ("average_drop", "increase"):
        found = estimate(AverageDrop().variants(signed=True)[name], rows, seed=0)
        assert found.dropped == {"undefined": 2}


def test_a_batch_of_flawed_maps_classifies_nothing(explain: Explain) -> None:
    def classify(x: Tensor) -> Tensor:
        raise AssertionError

    explained = explain(torch.zeros(2, 24, 24), classify=classify, logits=torch.zeros(2, 5))
    assert AverageDrop()(explained)["mask_mean"].isnan().all()

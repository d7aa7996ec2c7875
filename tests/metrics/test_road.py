"""ROAD against a slow restatement, and what it says of maps that work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from rapbench.core.seeds import image_seed
from rapbench.core.types import Explained
from rapbench.metrics import imputation
from rapbench.metrics.road import SHARES, Road
from rapbench.report.statistics import estimate

Explain = Callable[..., Explained]
RowsOf = Callable[..., pd.DataFrame]


def mean_of_neighbours(image: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """What is gone of an image (C, H, W), by a dense solve."""
    side = len(gone)
    weights = np.zeros((side * side, side * side))
    for i in range(side * side):
        for j in range(side * side):
            far = abs(i // side - j // side), abs(i % side - j % side)
            weights[i, j] = {(0, 1): 1 / 6, (1, 0): 1 / 6, (1, 1): 1 / 12}.get(far, 0)
    weights /= weights.sum(1, keepdims=True)
    at, flat = gone.ravel(), image.reshape(len(image), -1)
    found = flat.copy()
    if at.any():
        system = np.eye(at.sum()) - weights[np.ix_(at, at)]
        found[:, at] = np.linalg.solve(system, weights[np.ix_(at, ~at)] @ flat[:, ~at].T).T
    return found.reshape(image.shape)


def test_curves_agree_with_a_slow_restatement(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imputation, "_SETTLED", 1e-12)
    n, side = 2, 10
    weights = torch.randn(3 * side * side, 5).double() / 5
    maps = torch.randint(-3, 4, (n, side, side)).double()  # many ties, and in the second as many that are nearly so
    maps[1] += 6e-4 * torch.randn(side, side).double()
    explained = explain(
        maps,
        x=torch.randn(n, 3, side, side).double(),
        classify=lambda x: x.flatten(1) @ weights,
        target=torch.tensor([1, 4]),
        label=torch.tensor([2, -1]),
        logits=torch.zeros(n, 5),
    )
    columns, std = Road()(explained), np.array(explained.network.std)[:, None, None]
    field = torch.randn(side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for i in range(n):
        scaled = (maps[i] - maps[i].min()) / (maps[i].max() - maps[i].min()) + 1e-4 * field
        order = (-scaled.numpy()).ravel().argsort()
        seed = image_seed(int(explained.batch.seeds[i]), "road")
        noise = torch.randn(3, side, side, generator=torch.Generator().manual_seed(seed)).double().numpy()
        for k, share in enumerate(SHARES):
            count = int(share * side * side)
            for name, removed in (("morf", order[:count]), ("lerf", order[count:])):
                gone = np.zeros(side * side, bool)
                gone[removed] = True
                gone = gone.reshape(side, side)
                imputed = mean_of_neighbours(explained.batch.x[i].numpy(), gone) + gone * 0.01 * noise / std
                logits = imputed.ravel() @ weights.numpy()
                p = np.exp(logits) / np.exp(logits).sum()
                for column, asked in (("", int(explained.target[i])), ("label_", [2, -1][i])):
                    found = columns[f"{name}_{column}accuracy"][i, k], columns[f"{name}_{column}probability"][i, k]
                    expected = (logits.argmax() == asked, p[asked]) if asked >= 0 else (np.nan, np.nan)
                    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_relevance_that_works_beats_noise_and_noise_beats_its_negative(
    explain: Explain, weights: Tensor, rows_of: RowsOf
) -> None:
    x = torch.nn.functional.interpolate(torch.randn(6, 3, 8, 8), scale_factor=3) + torch.randn(6, 3, 24, 24)
    target = (x.flatten(1) @ weights).argmax(1)
    own = x * weights.t()[target].view(-1, 3, 24, 24)
    score = {}
    for name, relevance in {"own": own, "noise": torch.randn_like(own), "negated": -own}.items():
        rows = rows_of(Road()(explain(relevance, x=x, label=target)))
        score[name] = {k: estimate(v, rows, seed=0, resamples=2) for k, v in Road().variants(signed=True).items()}
    for name, variant in Road().variants(signed=True).items():
        if "probability" in name and "@0.9" not in name:
            gains = [score[m][name].value * (1 if variant.direction == "higher" else -1) for m in score]
            assert gains == sorted(gains, reverse=True)
            assert gains[0] > gains[2]


def test_a_share_removes_so_many_pixels_and_leaves_the_others(explain: Explain) -> None:
    seen: list[Tensor] = []

    def classify(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros(len(x), 5)

    explained = explain(torch.randn(1, 24, 24), classify=classify)
    seen.clear()
    Road()(explained)
    (shown,) = seen
    changed = (shown != explained.batch.x[0]).any(1).view(len(SHARES), 2, 24, 24)
    counts = torch.tensor([int(share * 576) for share in SHARES])
    assert changed[:, 0].sum((1, 2)).tolist() == counts.tolist()
    assert changed[:, 1].sum((1, 2)).tolist() == (576 - counts).tolist()
    assert (changed[:, 0] ^ changed[:, 1]).all()


def test_the_unit_of_a_map_plays_no_part(explain: Explain) -> None:
    explained = explain(torch.randn(2, 24, 24))
    tiny = Road()(replace(explained, relevance=explained.relevance * 2**-40))
    for name, column in Road()(explained).items():
        torch.testing.assert_close(tiny[name], column)


def test_an_unknown_label_and_a_map_without_an_order_are_dropped_with_their_reason(
    explain: Explain, rows_of: RowsOf
) -> None:
    maps = torch.randn(4, 24, 24)
    maps[0], maps[1, 2, 2] = 1.0, torch.inf
    columns = Road()(explain(maps, label=torch.tensor([0, 0, -1, 3])))
    variants, rows = Road().variants(signed=True), rows_of(columns)
    flaws = {"constant map": 1, "non-finite relevance": 1}
    assert estimate(variants["morf_accuracy"], rows, seed=0).dropped == flaws
    found = estimate(variants["lerf_label_probability@0.3"], rows, seed=0)
    assert (found.dropped, found.n) == (flaws | {"unknown label": 1}, 1)


def test_without_any_label_only_the_explained_class_has_values(explain: Explain, rows_of: RowsOf) -> None:
    rows = rows_of(Road()(explain(torch.randn(3, 24, 24), label=None)))
    for name, variant in Road().variants(signed=True).items():
        found = estimate(variant, rows, seed=0, resamples=2)
        assert found.n == (0 if "label" in name else 3)


def test_a_batch_of_flawed_maps_classifies_nothing(explain: Explain) -> None:
    def classify(x: Tensor) -> Tensor:
        raise AssertionError

    explained = explain(torch.zeros(2, 24, 24), classify=classify, logits=torch.zeros(2, 5))
    assert Road()(explained)["morf_accuracy"].isnan().all()

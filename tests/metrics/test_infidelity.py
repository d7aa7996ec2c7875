"""Infidelity against captum's, and networks on which it is 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
from captum.metrics import infidelity as captums
from torch import Tensor

from rapbench.core.types import Explained
from rapbench.metrics import infidelity, masked
from rapbench.metrics.draws import generators
from rapbench.metrics.infidelity import Infidelity
from rapbench.report.statistics import estimate

Explain = Callable[..., Explained]
RowsOf = Callable[..., pd.DataFrame]
Kind = Literal["square", "gaussian"]
KINDS: tuple[Kind, ...] = ("square", "gaussian")


def values(metric: Infidelity, columns: dict[str, Tensor], rows_of: RowsOf) -> dict[str, np.ndarray]:
    rows = rows_of(columns)
    return {name: variant.statistics(rows)[:, 0] for name, variant in metric.variants(signed=True).items()}


@pytest.mark.parametrize("kind", KINDS)
def test_it_agrees_with_captum_on_the_same_perturbations(
    explain: Explain, rows_of: RowsOf, weights: Tensor, kind: Kind
) -> None:
    wide = weights.double()
    classify = lambda x: (x.flatten(1) @ wide).tanh() * 3  # noqa: E731
    explained = explain(torch.randn(3, 3, 24, 24), x=torch.randn(3, 3, 24, 24).double(), classify=classify)
    metric = Infidelity(perturbation=kind, samples=8, sigma=0.3)
    found = values(metric, metric(explained), rows_of)
    for n in range(3):
        x, relevance = explained.batch.x[n : n + 1], explained.relevance[n : n + 1].double()
        for name, normalise in (("infidelity", False), ("rescaled", True)):
            (draw,) = generators(explained.batch.seeds[n : n + 1], "infidelity")

            def perturbed(inputs: Tensor, draw: torch.Generator = draw) -> tuple[Tensor, Tensor]:
                if kind == "square":
                    drawn = torch.tensor([infidelity._square(24, 24, draw) for _ in inputs])
                    inside = infidelity._within(drawn, 24, 24).unsqueeze(1).expand_as(inputs).double()
                    return inside, inputs * (1 - inside)
                noise = torch.stack([0.3 * torch.randn(3, 24, 24, generator=draw).double() for _ in inputs])
                return noise, inputs - noise

            expected = captums(
                classify,
                perturbed,
                x,
                relevance,
                target=int(explained.target[n]),
                n_perturb_samples=8,
                normalize=normalise,
            )
            assert found[name][n] == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_linear_network_shares_explain_squares_and_slopes_explain_noise(
    explain: Explain, rows_of: RowsOf, weights: Tensor, kind: Kind
) -> None:
    x, wide = torch.randn(3, 3, 24, 24).double(), weights.double()
    target = (x.flatten(1) @ wide).argmax(1)
    slopes = wide.t()[target].view(-1, 3, 24, 24)
    metric = Infidelity(perturbation=kind, samples=20)
    for factor in (1.0, 7.0):
        relevance = factor * (slopes * x if kind == "square" else slopes)
        explained = explain(relevance, x=x, classify=lambda x: x.flatten(1) @ wide)
        found = values(metric, metric(explained), rows_of)
        np.testing.assert_allclose(found["rescaled"], 0, atol=1e-9)
        assert (np.abs(found["infidelity"]) < 1e-9).all() == (factor == 1)


def test_squares_are_whole_and_of_every_side_up_to_the_largest() -> None:
    draw = torch.Generator().manual_seed(0)
    squares = infidelity._within(torch.tensor([infidelity._square(28, 40, draw) for _ in range(400)]), 28, 40)
    for square in squares:
        rows, cols = square.any(1).sum(), square.any(0).sum()
        assert rows == cols
        assert square.sum() == rows * cols
    assert {int(s.any(1).sum()) for s in squares} == set(range(1, 11))
    reached = squares.any(0)
    assert all(edge.any() for edge in (reached[0], reached[-1], reached[:, 0], reached[:, -1]))


def test_more_samples_than_a_batch_of_inputs_give_the_same_values(
    explain: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained = explain(torch.randn(2, 24, 24))
    metric = Infidelity(samples=9, perturbation="gaussian")
    whole = metric(explained)
    monkeypatch.setitem(masked.NUM_INPUTS, "cpu", 4)
    for name, column in metric(explained).items():
        torch.testing.assert_close(column, whole[name], rtol=1e-5, atol=1e-8)


def test_undefined_images_are_dropped_with_their_reason(explain: Explain, rows_of: RowsOf) -> None:
    maps = torch.randn(4, 24, 24)
    maps[0], maps[1, 0, 0] = 2.0, torch.nan
    maps[2] = 0
    maps[2, 0, 0] = 1.0  # a corner that hardly a square covers
    metric = Infidelity(samples=2)
    rows = rows_of(metric(explain(maps)))
    flaws, variants = {"constant map": 1, "non-finite relevance": 1}, metric.variants(signed=True)
    assert estimate(variants["infidelity"], rows, seed=0).dropped == flaws
    unsaid = flaws | {"no relevance where perturbed": 1}
    assert estimate(variants["rescaled"], rows, seed=0).dropped == unsaid

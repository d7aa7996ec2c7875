"""The quality of signal estimators against least squares on an explicit distractor, unit by unit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.errors import UnsupportedLayer
from rapbench.methods.signals import quality
from rapbench.methods.signals.quality import Correlations, Directions, Samples, Spread, readouts, samples
from rapbench.relprop.layers import Weighted
from rapbench.relprop.tracing.trace import trace

Array = NDArray[np.float64]
GROUPS, INPUTS, UNITS = 2, 7, 3


def made(count: int, seed: int) -> Samples:
    """Correlated, skewed inputs and the outputs of units with a bias."""
    shared = torch.Generator().manual_seed(0)
    mix = torch.randn(GROUPS, INPUTS, INPUTS, generator=shared).double()
    weight, bias = torch.randn(GROUPS, UNITS, INPUTS, generator=shared).double(), torch.randn(UNITS, generator=shared)
    x = (torch.randn(GROUPS, count, INPUTS, generator=torch.Generator().manual_seed(seed)).double() @ mix).clamp(min=0)
    y = x @ weight.transpose(1, 2)
    return Samples(x, y, y + bias > 0)


def estimators() -> dict[str, Directions]:
    noise = torch.randn(3, GROUPS, UNITS, INPUTS, generator=torch.Generator().manual_seed(5)).double()
    return {"one": Directions(noise[0], noise[0]), "two": Directions(noise[1], noise[2])}


def slow_rho(first: tuple[Array, ...], second: tuple[Array, ...], plus: Array, minus: Array) -> float:
    """1 - corr(y, v·d) on the second samples, v by ridge regression of y on d on the first."""

    def distractor(x: Array, y: Array, on: Array) -> Array:
        return x - np.where(on[:, None], plus, minus) * y[:, None]

    d, y = distractor(*first), first[1]
    centred = first[0] - first[0].mean(0)
    ridge = 1e-6 * (centred**2).mean(0).mean()
    d = d - d.mean(0)
    v = np.linalg.solve(d.T @ d / len(d) + ridge * np.eye(d.shape[1]), d.T @ (y - y.mean()) / len(d))
    return float(1 - np.corrcoef(second[1], distractor(*second) @ v)[0, 1])


def cut(whole: Samples, parts: int) -> list[Samples]:
    return [Samples(*some) for some in zip(*(t.chunk(parts, 1) for t in whole), strict=True)]


def fast_rho(first: Samples, second: Samples, parts: int) -> Tensor:
    spread = Spread(GROUPS, INPUTS, UNITS, torch.device("cpu"))
    for some in cut(first, parts):
        spread.add(some)
    found = Correlations(estimators(), readouts(spread, estimators()))
    for some in cut(second, parts):
        found.add(some)
    return found.rho()


@pytest.mark.parametrize("widest", [quality.WIDEST, INPUTS - 1])
def test_the_closed_form_agrees_with_least_squares_of_every_unit(widest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "WIDEST", widest)  # a layer one wider keeps its samples in place of a covariance
    first, second = made(500, 1), made(300, 2)
    rho = fast_rho(first, second, parts=3)
    for n, estimator in enumerate(estimators().values()):
        for group in range(GROUPS):
            for unit in range(UNITS):
                a, b = (
                    (s.x[group].numpy(), s.y[group, :, unit].numpy(), s.on[group, :, unit].numpy())
                    for s in (first, second)
                )
                expected = slow_rho(a, b, estimator.plus[group, unit].numpy(), estimator.minus[group, unit].numpy())
                assert rho[n, group, unit].item() == pytest.approx(expected, abs=1e-7)


def test_a_wide_layer_keeps_no_more_samples_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "WIDEST", INPUTS - 1)
    monkeypatch.setattr(quality, "ROWS", 200)
    first, second = made(500, 1), made(300, 2)
    few = Samples(*(t[:, :200] for t in first))
    assert torch.allclose(fast_rho(first, second, 5), fast_rho(few, second, 2), atol=1e-9)


def test_both_fitted_estimators_leave_nothing_in_the_samples_they_were_fitted_to() -> None:
    found = made(400, 1)
    x, y, on = found

    def direction(regime: Tensor) -> Tensor:
        """E_g[x y] - E_g[x] E[y], over its product with the weights."""
        share = regime.double() / regime.double().sum(1, keepdim=True)
        mean = y.mean(1, keepdim=True)
        covariance = (share * (y - mean)).transpose(1, 2) @ x
        gain = (share * (y - mean) * y).sum(1)  # w·(E_g[x y] - E_g[x] E[y])
        return covariance / gain.unsqueeze(2)

    a, plus, minus = (direction(regime) for regime in (torch.ones_like(on), on, ~on))
    fitted = {"S_a": Directions(a, a), "S_a+-": Directions(plus, minus)}
    spread = Spread(GROUPS, INPUTS, UNITS, torch.device("cpu"))
    spread.add(found)
    correlations = Correlations(fitted, readouts(spread, fitted))
    correlations.add(found)
    assert torch.allclose(correlations.rho(), torch.ones(2, GROUPS, UNITS).double(), atol=1e-5)


def test_an_output_that_does_not_vary_has_no_quality() -> None:
    found = made(100, 1)
    found.y[0, :, 1] = 2.5
    assert fast_rho(found, found, 1)[:, 0, 1].isnan().all()


@pytest.mark.parametrize("positions", [5, 1000])
def test_samples_are_patches_and_their_outputs(positions: int) -> None:
    conv = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2).double()
    x = torch.randn(2, 4, 9, 8).double()
    (layer,) = (layer for layer in trace(conv, x).layers if isinstance(layer, Weighted))
    y = conv(x).detach()
    patches, outputs, on = samples(layer, x, y, positions, torch.Generator().manual_seed(1))
    number = min(positions, y[0, 0].numel()) * 2
    assert (patches.shape, outputs.shape) == ((2, number, 12), (2, number, 3))
    weight, bias = (t.detach().view(2, 3, -1) for t in (conv.weight, conv.bias))
    assert torch.allclose(patches @ weight.transpose(1, 2), outputs)
    assert torch.equal(outputs + bias.transpose(1, 2) > 0, on)
    if positions == 1000:
        every = functional.unfold(x[:, :2], (3, 2), (1, 2), (1, 0), (2, 1)).transpose(1, 2).flatten(0, 1)
        assert torch.equal(patches[0].sort(0).values, every.sort(0).values), "each once"


def test_layers_without_patches_are_refused() -> None:
    graph = trace(nn.Conv1d(2, 3, 3), torch.randn(1, 2, 9))
    (layer,) = (layer for layer in graph.layers if isinstance(layer, Weighted))
    with pytest.raises(UnsupportedLayer, match="no patches for conv1d"):
        samples(layer, torch.randn(1, 2, 9), torch.randn(1, 3, 7), 4, torch.Generator())


def test_the_same_seed_draws_the_same_positions() -> None:
    x = torch.randn(2, 2, 9, 9)
    (layer,) = (layer for layer in trace(nn.Conv2d(2, 3, 3), x).layers if isinstance(layer, Weighted))
    y = layer.function(x).detach()
    draw: Callable[[], Tensor] = lambda: samples(layer, x, y, 4, torch.Generator().manual_seed(7))[0]  # noqa: E731
    assert torch.equal(draw(), draw())

"""Masked inputs classified by a compiled network: the same numbers within rounding, and rows that say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported

from rapbench.core.errors import BadConfig
from rapbench.results.store import Store
from rapbench.run.batches import Batches
from rapbench.run.engine import execute
from rapbench.run.plan import Experiment
from rapbench.run.resolve import prepare
from rapbench.run.scorer import Scorer
from rapbench.run.spec import RunSpec

SPEC = {"dataset": "doubles:Squares", "model": "doubles:tiny", "weights": "random", "device": "cpu", "limit": 3}
METRICS = "guards,perturbation(pixels=10, steps=4)"


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()


def prepared(out: Path, **options: object) -> Experiment:
    return prepare(RunSpec.read(None, {**SPEC, "method": "input_gradient", "metric": METRICS, "out": out, **options}))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Compiling leaves a network as it is; the shapes that it is given."""
    shapes: list[tuple[int, ...]] = []

    def compiled(module: nn.Module, **_: object) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            shapes.append(tuple(x.shape))
            logits: Tensor = module(x)
            return logits

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    return shapes


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@torch.no_grad()
def test_logits_of_the_compiled_network_are_the_networks_within_rounding(precision: str) -> None:
    net, x = network(), torch.randn(7, 3, 8, 8)
    plain, compiled = (Scorer(net, precision, Batches(4), compiled=compiled)(x) for compiled in (False, True))
    bound = {"fp32": 1e-5, "bf16": 0.05}[precision]
    torch.testing.assert_close(compiled, plain, rtol=bound, atol=bound)


def test_every_batch_that_is_compiled_for_has_the_same_size(eager: list[tuple[int, ...]]) -> None:
    net, x = network(), torch.randn(7, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(Scorer(net, "fp32", Batches(4), compiled=True)(x), net(x))
    assert eager == [(4, 3, 8, 8), (4, 3, 8, 8)]


def test_rows_say_that_scoring_was_compiled_and_keep_their_keys(tmp_path: Path, eager: list[tuple[int, ...]]) -> None:
    experiments = {name: prepared(tmp_path / name, compile_scoring=name == "on") for name in ("on", "off")}
    frames = {}
    for name, experiment in experiments.items():
        store = Store(tmp_path / name)
        execute(experiment, experiment.pending(store), store, lambda count: None)
        cell = next(cell for cell in experiment.cells.values() if cell.metric.startswith("perturbation"))
        frames[name] = store.rows(cell, experiment.blocks(cell))
    assert eager
    on, off = (frames[name].origins[0] for name in ("on", "off"))
    assert dict(on) == {**off, "scoring": "compiled"}
    assert [c.key for c in experiments["on"].cells.values()] == [c.key for c in experiments["off"].cells.values()]
    for column in ("lerf_logit", "morf_probability"):
        one, other = (np.stack(frames[name].frame[column].to_list()) for name in ("on", "off"))
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_network_that_does_not_compile_is_refused_by_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: nn.Module, **__: object) -> Callable[[Tensor], Tensor]:
        def forward(_: Tensor) -> Tensor:
            raise Unsupported("no compiler here")

        return forward

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(BadConfig, match=r"compile_scoring: torch\.compile fails: .*no compiler here"):
        Scorer(network(), "fp32", Batches(4), compiled=True)(torch.randn(2, 3, 8, 8))

"""Masked inputs classified in an arithmetic of their own: what it changes, and what it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

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


def prepared(out: Path, **options: object) -> Experiment:
    return prepare(RunSpec.read(None, {**SPEC, "method": "input_gradient", "metric": METRICS, "out": out, **options}))


def columns(out: Path, **options: object) -> dict[str, np.ndarray]:
    """All columns of a run's rows, by name."""
    experiment, store = prepared(out, **options), Store(out)
    execute(experiment, experiment.pending(store), store, lambda count: None)
    frames = [store.rows(cell, experiment.blocks(cell)).frame for cell in experiment.cells.values()]
    return {name: np.stack(frame[name].to_list()) for frame in frames for name in frame.columns}


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())  # noqa: PLR0124 - not a number


def test_scoring_in_another_precision_changes_the_outcomes_and_no_map(tmp_path: Path) -> None:
    exact, rounded = (columns(tmp_path / name, scoring_precision=name) for name in ("same", "bf16"))
    apart = {name for name in exact if not _alike(exact[name], rounded[name])}
    assert apart
    assert apart <= {
        f"{order}_{outcome}" for order in ("lerf", "morf") for outcome in ("probability", "logit", "accuracy")
    }
    np.testing.assert_allclose(rounded["lerf_logit"], exact["lerf_logit"], rtol=0.05, atol=0.05)


def test_the_clean_image_is_scored_in_the_arithmetic_of_the_steps(tmp_path: Path) -> None:
    found = columns(tmp_path, scoring_precision="bf16")
    first = torch.from_numpy(found["lerf_logit"][:, 0])
    assert torch.equal(first, first.bfloat16().double())
    assert not np.array_equal(found["lerf_logit"][:, 0], found["logit"])


def test_the_scoring_precision_changes_the_key_unless_it_is_that_of_the_run(tmp_path: Path) -> None:
    def keys(**options: object) -> list[str]:
        return [cell.key for cell in prepared(tmp_path, **options).cells.values()]

    assert keys() == keys(scoring_precision="same") == keys(scoring_precision="fp32")
    assert keys(precision="bf16") == keys(precision="bf16", scoring_precision="bf16")
    assert set(keys()).isdisjoint(keys(scoring_precision="bf16"))
    assert set(keys(scoring_precision="fp64")).isdisjoint(keys(precision="fp64"))


def test_tf32_is_refused_on_a_cpu_also_for_scoring(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="scoring_precision tf32 is a mode of CUDA devices"):
        prepared(tmp_path, scoring_precision="tf32")


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
def test_logits_do_not_depend_on_the_batch(precision: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    x = torch.randn(7, 3, 8, 8)
    with torch.no_grad():
        one, three = (Scorer(net, precision, Batches(size))(x) for size in (1, 3))
    assert one.dtype == (torch.float64 if precision == "fp64" else torch.float32)
    torch.testing.assert_close(
        one, three, rtol=2e-2 if precision == "bf16" else 1e-5, atol=1e-2 if precision == "bf16" else 1e-6
    )

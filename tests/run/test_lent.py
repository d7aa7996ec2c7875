"""Methods and metrics from outside: none changes what another sees, and what one raises does not end the others."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rude import DEEDS, RETURNED

from rapbench.core.errors import BadConfig
from rapbench.metrics import masked
from rapbench.results.store import Store
from rapbench.run.engine import Fault, execute
from rapbench.run.lent import leaving_no_trace
from rapbench.run.plan import Task
from rapbench.run.resolve import prepare
from rapbench.run.spec import RunSpec


@pytest.fixture
def ran(tmp_path: Path) -> Callable[..., tuple[dict[str, list[float]], list[str]]]:
    """The sums of the maps that a run stored by method, and what failed."""

    def run(method: str, metric: str = "outside_inside", **options: Any) -> tuple[dict[str, list[float]], list[str]]:
        defaults = {"model": "doubles:tiny", "weights": "random", "dataset": "doubles:Squares", "device": "cpu"}
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        given = {**defaults, "limit": 3, "out": out, "method": method, "metric": metric, **options}
        experiment, store = prepare(RunSpec.read(None, given)), Store(out)
        failures: list[str] = []

        def failed(task: Task, fault: Fault) -> bool:
            failures.append(str(fault))
            return True

        execute(experiment, experiment.pending(store), store, lambda count: None, failed=failed)
        held = (one for one in store.held() if one.cell.metric == "guards")
        return {one.cell.method: list(one.rows.frame["relevance_sum"]) for one in held}, failures

    return run


@pytest.mark.parametrize("deed", DEEDS)
def test_what_a_method_does_changes_no_other_s_numbers_and_is_refused_where_it_outlasts_it(ran: Any, deed: str) -> None:
    alone, _ = ran("rude:Pure,rap")
    beside, failures = ran(f"rude:Rude(deed={deed}),rude:Pure,rap")
    assert {name: beside[name] for name in alone} == alone
    harmless = deed in {"scale_pixels", "record_gradients"}
    assert len(failures) == (0 if harmless else 1)
    assert (f"rude:Rude(deed={deed})" in beside) == harmless
    assert all(failure.startswith(f"method rude:Rude(deed={deed}): ") for failure in failures)
    assert torch.is_grad_enabled()


def test_the_change_is_named(ran: Any) -> None:
    _, (weights,) = ran("rude:Rude(deed=scale_weights)")
    assert "changes the network (0.weight)" in weights
    _, (drawn,) = ran("rude:Rude(deed=numpy)")
    assert "draws from the global generator of numpy" in drawn
    _, (raised,) = ran("rude:Rude(deed=scale_weights_and_fail)")
    assert raised == "method rude:Rude(deed=scale_weights_and_fail): ArithmeticError: out"


@pytest.mark.parametrize("returned", RETURNED)
def test_what_is_no_map_of_the_images_is_refused_by_name(ran: Any, returned: str) -> None:
    maps, (failure,) = ran(f"rude:Rude(returns={returned}),random")
    assert list(maps) == ["random"]
    assert failure.startswith(f"method rude:Rude(returns={returned}): returns ")
    assert "shape (3, 3, 224, 224)" in failure


def test_a_method_that_failed_is_not_tried_again(ran: Any) -> None:
    _, failures = ran("rude:Rude(deed=scale_weights_and_fail)", dataset="doubles:Squares(count=70)", limit=70)
    assert len(failures) == 1


def test_a_metric_changes_no_other_s_numbers(ran: Any) -> None:
    alone, _ = ran("rap,random", "segmentation")
    beside, failures = ran("rap,random", "rude:Careless,segmentation")
    assert (beside, failures) == (alone, [])


@pytest.mark.parametrize(("does", "said"), [("fail", "ArithmeticError: out"), ("sum", "returns () as sum")])
def test_what_a_metric_raises_does_not_end_the_others(ran: Any, does: str, said: str) -> None:
    maps, (failure,) = ran("rap,random", f"rude:Careless(does={does}),segmentation")
    assert set(maps) == {"rap", "random"}
    assert failure.startswith(f"metric rude:Careless(does={does}): {said}")


def test_a_metric_that_runs_out_of_memory_is_asked_again_with_fewer_inputs_and_that_is_remembered(
    ran: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(masked.NUM_INPUTS, "cpu", 32)
    _, failures = ran("rap", "rude:Careless(does=fill the memory)")
    assert failures == []
    assert masked.NUM_INPUTS["cpu"] == 8
    monkeypatch.setattr(masked, "_FEW_INPUTS", 64)
    masked.NUM_INPUTS["cpu"] = 32
    _, (failure,) = ran("rap", "rude:Careless(does=fill the memory)")
    assert failure.endswith("OutOfMemoryError: no room")


def test_a_metric_that_fails_by_one_method_is_computed_of_the_others(tmp_path: Path) -> None:
    given = {"model": "doubles:tiny", "weights": "random", "dataset": "doubles:Squares(count=40)", "device": "cpu"}
    spec = {**given, "limit": 40, "method": "rude:Rude,rap", "metric": "rude:Picky", "out": tmp_path}
    experiment, store = prepare(RunSpec.read(None, spec)), Store(tmp_path)
    said: list[str] = []

    def failed(task: Task, fault: Fault) -> bool:
        said.append(str(fault))
        return True

    execute(experiment, experiment.pending(store), store, lambda count: None, failed=failed)
    assert said == ["metric rude:Picky of rude:Rude: ArithmeticError: no map"]
    held = {one.cell.method: len(one.rows.frame) for one in store.held() if one.cell.metric == "rude:Picky"}
    assert held == {"rap": 40}


def test_without_anyone_told_a_failure_is_raised_as_it_is(ran: Any, tmp_path: Path) -> None:
    given = {"model": "doubles:tiny", "weights": "random", "dataset": "doubles:Squares", "device": "cpu", "limit": 1}
    experiment = prepare(RunSpec.read(None, {**given, "method": "rude:Rude(returns=one map)", "out": tmp_path}))
    with pytest.raises(BadConfig, match="returns"):
        execute(experiment, experiment.tasks(), Store(tmp_path), lambda count: None)


def test_the_global_generators_are_afterwards_as_before() -> None:
    def states() -> list[object]:
        return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]  # noqa: NPY002

    def draw() -> None:
        with leaving_no_trace(torch.device("cpu")):
            torch.rand(3)
            np.random.rand()  # noqa: NPY002
            random.random()

    before = states()
    with pytest.raises(BadConfig, match="draws from the global generator of torch"):
        draw()
    assert states() == before

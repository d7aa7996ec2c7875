"""What a run will cost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from doubles import Counting
from torch import Tensor

from rapbench.core.errors import BadConfig
from rapbench.doctor.probe import Measured, probe
from rapbench.metrics.perturbation import Perturbation
from rapbench.results.store import Store
from rapbench.run.engine import execute
from rapbench.run.resolve import prepare
from rapbench.run.spec import RunSpec


def test_a_probe_counts_what_is_still_to_be_done_and_stores_nothing(tmp_path: Path) -> None:
    options = {"dataset": "doubles:Squares", "model": "doubles:tiny", "weights": "random", "out": tmp_path}
    options |= {"method": "gradient,center", "metric": "segmentation,perturbation(steps=2, images=3)", "device": "cpu"}
    experiment = prepare(RunSpec.read(None, options))
    store = Store(tmp_path)
    costs = {cost.stage: cost for cost in probe(experiment, experiment.pending(store))}
    assert {stage: cost.images for stage, cost in costs.items()} == {
        "reading": 40,
        "classifying": 40,
        "explaining by gradient": 40,
        "explaining by center": 40,
        "scoring by guards": 80,
        "scoring by segmentation": 80,
        "scoring by perturbation(steps=2)": 6,
    }
    assert costs["classifying"].forwards == 1
    assert all(cost.seconds > 0 for cost in costs.values())
    assert not list(tmp_path.iterdir())

    execute(experiment, [t for t in experiment.pending(store) if t.block.start == 0], store, lambda count: None)
    left = {cost.stage: cost.images for cost in probe(experiment, experiment.pending(store))}
    assert left == {stage: 16 if stage.startswith("scoring") else 8 for stage in costs if "perturbation" not in stage}


def test_a_constant_map_at_the_end_does_not_hide_what_scoring_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all_background as the last method perturbation was priced at nothing."""
    scored: list[Tensor] = []
    curves = Perturbation.__call__
    monkeypatch.setattr(
        Perturbation, "__call__", lambda own, explained: (scored.append(explained.pixels), curves(own, explained))[1]
    )
    options = {"dataset": "doubles:Squares", "model": "doubles:tiny", "weights": "random", "out": tmp_path}
    options |= {"method": "gradient,all_background", "metric": "perturbation(steps=2)", "device": "cpu", "limit": 2}
    experiment = prepare(RunSpec.read(None, options))
    probe(experiment, experiment.pending(Store(tmp_path)))
    assert {pixels.unique().numel() > 1 for pixels in scored} == {True}


def test_a_stage_that_takes_too_long_is_stopped_and_said_to_take_at_least_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rapbench.doctor.probe._SHORTEST", 0.05)
    measured = Measured(left=0.0)
    assert measured.time(("slow", ""), 1, lambda: time.sleep(30)) is None
    assert measured.time(("quick", ""), 2, lambda: "map") == "map"
    assert measured.stopped == {("slow", "")}
    assert 0.05 <= measured.seconds["slow", ""] < 5


def test_stages_of_one_network_are_timed_once(tmp_path: Path) -> None:
    options = {"dataset": "doubles:Squares", "model": "doubles:tiny", "weights": "random", "out": tmp_path}
    options |= {"method": "doubles:Counting", "metric": "guards", "device": "cpu"}
    one, other = (prepare(RunSpec.read(None, {**options, "limit": limit})) for limit in (2, 3))
    measured = Measured()
    probe(one, one.tasks(), measured)
    Counting.explained.clear()
    costs = {cost.stage: cost.images for cost in probe(other, other.tasks(), measured)}
    assert Counting.explained == []
    assert costs["explaining by doubles:Counting"] == 3


def test_what_a_method_raises_while_it_is_timed_is_one_line(tmp_path: Path) -> None:
    options = {"dataset": "doubles:Squares", "model": "doubles:tiny", "weights": "random", "out": tmp_path}
    options |= {"method": "rude:Rude(deed=scale_weights_and_fail)", "device": "cpu", "limit": 2}
    experiment = prepare(RunSpec.read(None, options))
    with pytest.raises(BadConfig, match=r"explaining by rude.*: ArithmeticError: out"):
        probe(experiment, experiment.tasks())


def test_stages_are_timed(tmp_path: Path) -> None:
    options = {"dataset": "doubles:Squares", "model": "doubles:tiny", "weights": "random", "out": tmp_path}
    experiment = prepare(RunSpec.read(None, {**options, "method": "center", "metric": "guards", "limit": 2}))
    store = Store(tmp_path)
    stages = execute(experiment, experiment.pending(store), store, lambda count: None)
    assert set(stages) == {"reading", "classifying", "explaining by center", "scoring by guards"}
    assert min(stages.values()) > 0
    assert execute(experiment, experiment.pending(store), store, lambda count: None) == {}


@pytest.mark.parametrize("readers", [0, 1])
@pytest.mark.slow
def test_readers_change_no_number(tmp_path: Path, readers: int) -> None:
    options = {"dataset": "doubles:Squares", "model": "doubles:tiny", "weights": "random", "readers": readers}
    experiment = prepare(RunSpec.read(None, {**options, "method": "gradient", "out": tmp_path, "limit": 3}))
    store = Store(tmp_path)
    execute(experiment, experiment.pending(store), store, lambda count: None)
    sums = {
        round(float(x), 6)
        for one in store.held()
        if one.cell.metric == "guards"
        for x in one.rows.frame["relevance_sum"]
    }
    assert len(sums) == 3

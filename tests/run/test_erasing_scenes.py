"""Erasing by a method that works, beside erasing at random: what every metric of erasure must tell apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from rapbench.report.result import results
from rapbench.results.store import Store
from rapbench.run.engine import execute
from rapbench.run.resolve import prepare
from rapbench.run.spec import RunSpec


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["deletion_insertion(step=5018)", "fraction_perturbation(fill=mean)"])
def test_what_a_method_calls_relevant_is_missed_sooner_than_random_pixels_and_the_rest_later(
    tmp_path: Path, metric: str
) -> None:
    options = {"method": "lrp_a1b0,random", "metric": metric, "limit": 12, "device": "cpu", "out": tmp_path}
    experiment = prepare(RunSpec.read(None, options))
    store = Store(tmp_path)
    execute(experiment, experiment.pending(store), store, lambda count: None)
    found = {
        (result.cell.method, result.variant): result
        for held in store.held()
        for result in results(held)
        if held.cell.metric == metric
    }
    assert found
    for (method, variant), result in found.items():
        if method == "random":
            continue
        ours, theirs = result.estimate.value, found["random", variant].estimate.value
        assert ours is not None
        assert theirs is not None
        assert ours <= theirs if result.direction == "lower" else ours >= theirs, variant

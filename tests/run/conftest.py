"""A small run in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rapbench.cli.finished import collected
from rapbench.results.store import Store
from rapbench.run.engine import execute
from rapbench.run.resolve import prepare
from rapbench.run.spec import RunSpec

Run = Callable[..., tuple[list[dict[str, Any]], int]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs options over small defaults; gives the results and the number of explanations computed."""

    def once(**options: object) -> tuple[list[dict[str, Any]], int]:
        defaults = {
            "model": "doubles:tiny",
            "weights": "random",
            "dataset": "doubles:Squares",
            "out": tmp_path / "runs",
            "method": "doubles:Counting",
            "metric": "outside_inside,segmentation",
            "device": "cpu",
        }
        experiment = prepare(RunSpec.read(None, {**defaults, **options}))
        store = Store(experiment.spec.out)
        tasks = experiment.pending(store)
        execute(experiment, tasks, store, lambda count: None)
        documents = [result.document() for result in collected(experiment, store)]
        return documents, sum(task.block.stop - task.block.start for task in tasks)

    return once

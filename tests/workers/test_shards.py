"""Many workers, one result."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rapbench.cli.finished import collected
from rapbench.core.errors import BadConfig, SpecMismatch
from rapbench.metrics import METRICS
from rapbench.models.digits import mnist_cnn
from rapbench.results.claims import Claims
from rapbench.results.notes import read_note
from rapbench.results.store import Store
from rapbench.run.engine import execute
from rapbench.run.plan import Experiment
from rapbench.run.resolve import prepare
from rapbench.run.selection import settled
from rapbench.run.spec import RunSpec
from rapbench.workers.notes import Plan
from rapbench.workers.shards import ATTEMPTS, Shard, failures, work, written_plan

TESTS = Path(__file__).parents[1]
BASE = {"model": "doubles:tiny", "weights": "random", "dataset": "doubles:Squares(count=150)", "device": "cpu"}


def unheard(_: int) -> None:
    pass


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., Experiment]:
    def build(**options: object) -> Experiment:
        defaults = {**BASE, "method": "gradient,random", "metric": "segmentation", "out": tmp_path / "runs"}
        return prepare(RunSpec.read(None, {**defaults, **options}))

    return build


def tables(experiment: Experiment) -> str:
    return json.dumps([r.document() for r in collected(experiment, Store(experiment.spec.out))])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.glob("*/*.parquet")}


@pytest.mark.parametrize("text", ["3/3", "1", "-1/4", "a/b", "1/0", "1/4/2"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadConfig, match=r"write i/N with i from 0 to N - 1, or env"):
        Shard.parse(text)


def test_a_shard_is_read_from_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BadConfig, match="are set"):
        Shard.parse("env")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert Shard.parse("env") == Shard(1, 3)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "9")
    assert Shard.parse("env") == Shard(4, 9)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_the_shards_are_all_the_tasks_each_once(prepared: Callable[..., Experiment], count: int) -> None:
    experiment = prepared()
    names = [experiment.task_id(t) for k in range(count) for t in Shard(k, count).of(experiment.tasks())]
    assert names == [experiment.task_id(task) for task in experiment.tasks()]
    assert len(set(names)) == 2 * 5


@pytest.mark.parametrize(
    "metric",
    [
        pytest.param(name, marks=() if name == "outside_inside" else pytest.mark.slow)
        for name in METRICS
        if name not in {"guards", "grid_pointing"}  # which are in every run; and of grids, see tests/run/test_grid.py
    ],
)
def test_many_workers_in_any_order_end_with_the_bytes_of_one(
    prepared: Callable[..., Experiment], tmp_path: Path, metric: str
) -> None:
    few = {
        "perturbation": "perturbation(steps=2)",
        "degradation": "degradation(steps=2)",
        "road": "road(images=3)",
        "sensitivity_n": "sensitivity_n(sizes=1 9, subsets=3)",
        "infidelity": "infidelity(samples=3)",
    }
    options = {"metric": few.get(metric, metric), "method": "gradient,random", "limit": 70}
    if metric == "digit_conversion":
        torch.manual_seed(0)
        weights = tmp_path / "untrained.npz"
        np.savez(weights, **{key: value.numpy() for key, value in mnist_cnn().state_dict().items()})
        options |= {"dataset": "digits", "model": "mnist_cnn", "weights": str(weights)}
    one, many = prepared(**options, out=tmp_path / "one"), prepared(**options, out=tmp_path / "many")
    work([one], Shard(0, 1), Store(one.spec.out), unheard)
    shards = [Shard(k, 4) for k in range(4)]
    random.Random(0).shuffle(shards)
    for shard in shards:
        work([many], shard, Store(many.spec.out), unheard)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert tables(many) == tables(one)


@pytest.mark.slow
def test_a_shard_done_is_found_done(prepared: Callable[..., Experiment]) -> None:
    experiment = prepared()
    store = Store(experiment.spec.out)
    first = work([experiment], Shard(0, 2), store, unheard)
    again = work([experiment], Shard(0, 2), store, unheard)
    assert (first.done, first.found, again.done, again.found) == (5, 0, 0, 5)


@pytest.mark.slow
def test_a_corrupt_file_is_computed_again(prepared: Callable[..., Experiment], tmp_path: Path) -> None:
    experiment = prepared()
    work([experiment], Shard(0, 1), Store(experiment.spec.out), unheard)
    before, good = tables(experiment), contents(tmp_path / "runs")
    for n, path in enumerate(sorted((tmp_path / "runs").glob("*segmentation*/*.parquet"))):
        content = bytearray(path.read_bytes())
        content[len(content) * n // 10] ^= 1 << n % 8
        path.write_bytes(content)
    outcome = work([experiment], Shard(0, 1), Store(experiment.spec.out), unheard)
    assert (outcome.done, outcome.found) == (10, 0)
    assert contents(tmp_path / "runs") == good
    assert tables(experiment) == before


def test_of_files_that_begin_alike_the_longest_counts(prepared: Callable[..., Experiment]) -> None:
    store = Store(prepared().spec.out)
    for limit in (50, 40):
        work([prepared(limit=limit, metric="guards")], Shard(0, 1), Store(store.root), unheard)
    short = prepared(limit=40, metric="guards", out=store.root.parent / "short")
    work([short], Shard(0, 1), Store(short.spec.out), unheard)
    for path in short.spec.out.glob("*/0000032-0000040-*.parquet"):
        (store.root / path.parent.name / path.name).write_bytes(path.read_bytes())
    whole = prepared(limit=50, metric="guards")
    assert whole.pending(store) == []
    assert [len(store.rows(cell, whole.blocks(cell)).frame) for cell in whole.cells.values()] == [50, 50]


def test_a_corrupt_file_never_enters_a_table(prepared: Callable[..., Experiment], tmp_path: Path) -> None:
    experiment = prepared()
    work([experiment], Shard(0, 1), Store(experiment.spec.out), unheard)
    path = min((tmp_path / "runs").glob("*segmentation*/*.parquet"))
    content = bytearray(path.read_bytes())
    content[40] ^= 255
    path.write_bytes(content)
    held = next(one for one in Store(experiment.spec.out).held() if one.cell.folder == path.parent.name)
    assert len(held.rows.frame) == 150 - 32


@dataclass(frozen=True, kw_only=True)
class Moody:
    """Raises on the images whose seed is divisible by five, as a poisoned image would make it."""

    title: ClassVar[str] = "Moody"
    signed: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        if (seeds % 53 == 0).any():
            raise ZeroDivisionError("poisoned\nfor good")
        return x


@pytest.mark.slow
def test_a_task_that_fails_is_recorded_and_the_others_are_done(
    prepared: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    import doubles

    monkeypatch.setattr(doubles, "Moody", Moody, raising=False)
    experiment = prepared(method="doubles:Moody,random")
    store = Store(experiment.spec.out)
    for attempt in range(1, ATTEMPTS + 2):
        outcome = work([experiment], Shard(0, 1), store, unheard)
        assert 0 < len(outcome.failed) < 5
        assert {failures(store.root, name) for name in outcome.failed} == {min(attempt, ATTEMPTS)}
    assert outcome.found == 10 - len(outcome.failed)
    record = json.loads((store.root / "failures" / f"{outcome.failed[0]}.json").read_text())
    assert record["last_line"] == "ZeroDivisionError: for good"
    assert not list((store.root / "claims").iterdir())


def test_rows_of_other_versions_are_not_added_to_unless_allowed(
    prepared: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepared(limit=40)
    work([first], Shard(0, 1), Store(first.spec.out), unheard)
    monkeypatch.setattr("rapbench.run.plan.versions", lambda: {"torch": "9.9"})
    with pytest.raises(SpecMismatch, match=r"here it is .*torch 9\.9.*--allow-mixed"):
        prepared().pending(Store(first.spec.out))
    assert prepared(limit=40).pending(Store(first.spec.out)) == [], "reading what is there is no mixing"
    assert prepared(allow_mixed=True).pending(Store(first.spec.out))


@pytest.mark.slow
def test_the_plan_tells_what_is_done(prepared: Callable[..., Experiment]) -> None:
    experiment = prepared()
    store = Store(experiment.spec.out)
    plan = written_plan({"": experiment}, store.root)
    assert read_note(Plan, store.root / "plans" / f"{plan.digest}.json") == plan

    def done() -> int:
        return sum(all(list(store.root.glob(f"{file}-*.parquet")) for file in task.files) for task in plan.tasks)

    assert (done(), len(plan.tasks)) == (0, 10)
    work([experiment], Shard(0, 2), store, unheard)
    assert done() == 5
    work([experiment], Shard(1, 2), store, unheard)
    assert done() == 10


def test_a_damaged_plan_is_written_again(prepared: Callable[..., Experiment], tmp_path: Path) -> None:
    plan = written_plan({"": prepared()}, tmp_path)
    file = tmp_path / "plans" / f"{plan.digest}.json"
    file.write_bytes(file.read_bytes()[:-1])
    written_plan({"": prepared()}, tmp_path)
    assert read_note(Plan, file) == plan


@pytest.mark.parametrize("content", ["", '{"count": "3"}', "[3]", '{"count": 9, "task": "x"}'])
def test_a_damaged_note_of_a_failure_counts_as_none_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    note = tmp_path / "failures" / "task.json"
    assert failures(tmp_path, "task") == 0
    note.parent.mkdir()
    note.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert failures(tmp_path, "task") == failures(tmp_path, "task") == 0
    assert [str(note) in record.message for record in caplog.records] == [True]


def test_images_are_selected_once_for_all_workers(tmp_path: Path) -> None:
    options = {"model": "resnet50", "dataset": "scenes", "method": "center", "metric": "guards", "device": "cpu"}
    spec = RunSpec.read(None, {**options, "select": "correct", "limit": 5, "out": tmp_path})
    first, second = settled(prepare(spec)), settled(prepare(spec))
    assert first.order == second.order
    assert len(list((tmp_path / "selections").iterdir())) == 1


def command(out: Path, *more: str) -> list[str]:
    options = {**BASE, "dataset": "doubles:Squares(count=320)", "method": "rap,random", "out": str(out)}
    options |= {"metric": "outside_inside,segmentation"}
    return [sys.executable, "-m", "rapbench", "run", *(p for k, v in options.items() for p in (f"--{k}", v)), *more]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_killed_at_twenty_random_moments_end_with_the_bytes_of_an_undisturbed_run(tmp_path: Path) -> None:
    def finished(out: Path) -> Any:
        done = subprocess.run(command(out, "--json"), capture_output=True, text=True, check=True, cwd=TESTS)
        return json.loads(done.stdout)["results"]

    def start(k: int) -> subprocess.Popen[bytes]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command(tmp_path / "b", "--shard", f"{k}/3"), cwd=TESTS, **quiet)

    def num_files() -> int:
        return len(list((tmp_path / "b").glob("*/*.parquet")))

    def progress(seconds: float) -> None:
        """Waits for another file; not for ever, since all may be there."""
        before, limit = num_files(), time.monotonic() + seconds
        while num_files() <= before and time.monotonic() < limit:
            time.sleep(0.01)

    undisturbed, draws, partial = finished(tmp_path / "a"), random.Random(0), 0
    running = {k: start(k) for k in (2, 0, 1)}
    try:
        for kill in range(20):
            if kill % 4 == 0:
                progress(seconds=30)
            time.sleep(draws.uniform(0, 1.5))
            k = draws.choice([2, 0, 1])
            running[k].send_signal(draws.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            running[k].wait()
            partial += 0 < num_files() < len(contents(tmp_path / "a"))
            if draws.random() < 0.3 and (held := sorted((tmp_path / "b").glob("*/*.parquet"))):
                draws.choice(held).write_bytes(b"torn")
            running[k] = start(k)
        assert partial, "no kill fell into the middle of the work"
        assert [process.wait() for process in running.values()] == [0, 0, 0]
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    assert finished(tmp_path / "b") == undisturbed
    assert contents(tmp_path / "b") == contents(tmp_path / "a")


@pytest.mark.slow
def test_workers_on_one_machine_share_the_work(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f".{os.pathsep}{TESTS.parent}"}
    workers = command(tmp_path, "--workers", "2")
    done = subprocess.run(workers, capture_output=True, text=True, check=True, cwd=TESTS, env=environment)
    assert "shard 0/2: 10 tasks done" in done.stderr
    assert "shard 1/2: 10 tasks done" in done.stderr
    assert "nothing to compute: all rows are in" in done.stdout
    assert len(list((tmp_path / "plans").iterdir())) == 1


def test_what_another_worker_has_claimed_is_left_to_it(prepared: Callable[..., Experiment]) -> None:
    experiment = prepared(limit=40)
    store, tasks = Store(experiment.spec.out), experiment.tasks()
    with Claims(store.root / "claims") as other, Claims(store.root / "claims") as mine:
        assert other.take(experiment.task_id(tasks[0]))
        execute(experiment, tasks, store, unheard, mine)
        assert [experiment.task_id(task) for task in experiment.pending(store)] == [experiment.task_id(tasks[0])]
        assert not mine.take(experiment.task_id(tasks[0]))


@pytest.mark.slow
def test_a_worker_waits_for_what_others_have_claimed(prepared: Callable[..., Experiment]) -> None:
    experiment = prepared(limit=40)
    store = Store(experiment.spec.out)
    leases = store.root / "claims"
    leases.mkdir(parents=True)
    dead = leases / experiment.task_id(experiment.tasks()[0])
    dead.write_text(json.dumps({"host": "a node that died", "pid": 1, "id": "x"}))
    began = time.monotonic()
    outcome = work([experiment], Shard(0, 1), store, unheard, lease_seconds=3)
    assert (outcome.done, outcome.failed) == (4, ())
    assert time.monotonic() - began > 2
    assert experiment.pending(store) == []

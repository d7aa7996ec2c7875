"""`rapbench status`: what it makes of plans, block files, leases, notes of failures, and jobs."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rapbench.cli.status import status
from rapbench.core.errors import DataMissing, RapbenchError
from rapbench.results.claims import LEASE_SECONDS, Claims
from rapbench.workers import jobs, slurm
from rapbench.workers.scheduler import Job, Resources

CELLS = ("squares.tiny.rap.guards.0123", "squares.tiny.rap.segmentation.4567")


class Folder:
    """A results folder with one plan of blocks of 32 images, each scored by two metrics."""

    def __init__(self, root: Path, blocks: int) -> None:
        self.root = root
        starts = [32 * n for n in range(blocks)]
        self.files = [[f"{cell}/{start:07d}-{start + 32:07d}" for cell in CELLS] for start in starts]
        tasks = [{"id": f"task-{n}", "images": 32, "files": files} for n, files in enumerate(self.files)]
        for name in ("plans", "failures", "claims", *CELLS):
            (root / name).mkdir(parents=True)
        plan = {"digest": "feed", "parts": ["vgg16", "resnet50"], "tasks": tasks}
        (root / "plans" / "feed.json").write_text(json.dumps(plan))

    def done(self, task: int, seconds_ago: float = 3600.0) -> None:
        for file in self.files[task]:
            self.written(f"{file}-89abcdef.parquet", seconds_ago)

    def written(self, name: str, seconds_ago: float = 3600.0) -> None:
        path = self.root / name
        path.touch()
        os.utime(path, (time.time() - seconds_ago,) * 2)

    def failed(self, task: int) -> None:
        note = {"task": f"task-{task}", "count": 2, "last_line": "RuntimeError: no", "host": "node7", "time": 0.0}
        (self.root / "failures" / f"task-{task}.json").write_text(json.dumps(note))


Show = Callable[..., str]


@pytest.fixture
def show(tmp_path: Path) -> Show:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(status)

    def lines(*arguments: str, out: Path = tmp_path) -> str:
        result = CliRunner().invoke(app, ["--out", str(out), *arguments])
        if isinstance(result.exception, RapbenchError):
            raise result.exception
        assert result.exit_code == 0
        return result.stdout

    return lines


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, blocks=4)


def test_a_task_is_done_when_every_metric_has_its_file(folder: Folder, show: Show) -> None:
    folder.done(0)
    folder.written(f"{folder.files[1][0]}-89abcdef.parquet")
    assert show() == "plan feed (vgg16, resnet50): 1/4 tasks done\n"
    folder.written(f"{folder.files[1][1]}-89abcdef.parquet")
    assert "2/4 tasks done" in show()


@pytest.mark.parametrize(
    ("name", "done"),
    [
        ("0000000-0000032-89abcdef.parquet", 1),
        ("0000000-0000064-89abcdef.parquet", 1),
        ("0000000-0000016-89abcdef.parquet", 0),
        (".0000000-0000032-89abcdef.parquet.77", 0),
        ("0000000-0000032.parquet", 0),
        ("notes.parquet", 0),
    ],
)
def test_only_whole_files_that_hold_the_block_count(folder: Folder, show: Show, name: str, done: int) -> None:
    for cell in CELLS:
        folder.written(f"{cell}/{name}")
    assert f"{done}/4 tasks done" in show()


def test_running_is_what_a_worker_claims_that_has_shown_itself_lately(folder: Folder, show: Show) -> None:
    folder.done(0)
    with Claims(folder.root / "claims") as first, Claims(folder.root / "claims") as second:
        assert all([first.take("task-0"), first.take("task-1"), second.take("task-2"), second.take("of another plan")])
        assert "1/4 tasks done, 2 running" in show()
        for worker in (folder.root / "claims").glob("task-2"):
            os.utime(worker, (time.time() - LEASE_SECONDS - 1,) * 2)
        assert "1/4 tasks done, 1 running" in show()
    assert "running" not in show()


def test_the_rate_is_that_of_the_recent_past_and_gives_the_time_left(folder: Folder, show: Show) -> None:
    folder.done(0, seconds_ago=5000)
    folder.done(1, seconds_ago=100)
    folder.done(2, seconds_ago=60)
    with Claims(folder.root / "claims") as claims:
        claims.take("task-3")
        plan = json.loads(show("--json"))["plans"][0]
        text = show()
    assert plan["images_per_second"] == pytest.approx(32 / 100, rel=0.1)
    assert plan["seconds_left"] == pytest.approx(100, rel=0.1)
    assert "3/4 tasks done, 1 running, 0.3 images/s, 2 min left" in text
    assert json.loads(show("--json"))["plans"][0]["images_per_second"] is None


def test_a_failure_is_shown_with_its_last_line_until_its_task_is_done(folder: Folder, show: Show) -> None:
    folder.failed(1)
    folder.failed(77)  # of another plan
    assert show().splitlines() == [
        "plan feed (vgg16, resnet50): 0/4 tasks done, 1 failed",
        "  task-1 on node7, 2x: RuntimeError: no",
    ]
    folder.done(1)
    assert "failed" not in show()


@pytest.mark.parametrize("content", ["", "[]", '{"digest": 1}', '{"digest": "beef", "parts": [], "tasks": [{}]}', None])
def test_damaged_notes_are_named_and_the_rest_is_shown(
    folder: Folder, show: Show, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    folder.failed(1)
    (folder.root / "jobs").mkdir()
    damaged = [folder.root / name / "bad.json" for name in ("failures", "plans", "jobs")]
    for path in damaged:
        if content is None:
            path.mkdir()
        else:
            path.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert show().splitlines() == [
            "plan feed (vgg16, resnet50): 0/4 tasks done, 1 failed",
            "  task-1 on node7, 2x: RuntimeError: no",
        ]
    assert [str(path) in record.message for path, record in zip(damaged, caplog.records, strict=True)] == [True] * 3


@pytest.mark.parametrize("file", ["a", "a/1-2", "../a/0000000-0000032", "a\0/0000000-0000032", f"a/{'9' * 5000}-0"])
def test_a_plan_of_files_that_cannot_be_is_left_out(folder: Folder, show: Show, file: str) -> None:
    plan = {"digest": "beef", "parts": [], "tasks": [{"id": "x", "images": 1, "files": [file]}]}
    (folder.root / "plans" / "beef.json").write_text(json.dumps(plan))
    assert "beef" not in show()


def test_what_is_no_lease_hides_none(folder: Folder, show: Show) -> None:
    with Claims(folder.root / "claims") as claims:
        claims.take("task-1")
        (folder.root / "claims" / "task-0").symlink_to("nowhere")
        (folder.root / "claims" / "task-2").mkdir()
        folder.written("claims/task-3", seconds_ago=-2 * LEASE_SECONDS)
        assert "1 running" in show()


def recorded(folder: Folder, *numbers: str) -> Path:
    """The folder of jobs, with a note for each."""
    there = folder.root / "jobs"
    there.mkdir()
    for number in numbers:
        job = Job(scheduler="slurm", command=["rapbench", "run"], shards=3, folder=there, resources=Resources())
        (there / f"{number}.json").write_text(jobs.note(job))
    return there


def test_jobs_that_failed_without_a_word_point_at_the_folder(
    folder: Folder, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = recorded(folder, "12")
    monkeypatch.setattr(
        slurm, "_answer", lambda *command, seconds: ["12|FAILED|x", "12|PENDING|Priority", "99|FAILED|x"]
    )
    silent = f"job 12: 3 shards: 1 FAILED, 1 PENDING (Priority); no shard wrote to {there}: do the nodes see it?"
    assert silent in show()
    (there / "12_0.log").touch()
    assert "do the nodes see it" not in show()


def test_without_slurm_the_rest_is_still_shown(
    folder: Folder, show: Show, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorded(folder, "12")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert show().splitlines() == [
        "plan feed (vgg16, resnet50): 0/4 tasks done",
        "job 12: 3 shards, states unknown (no Slurm on this machine: there is no squeue)",
    ]


def test_a_folder_without_runs_says_so_and_a_missing_one_is_refused(tmp_path: Path, show: Show) -> None:
    assert show() == f"no run has begun in {tmp_path}\n"
    with pytest.raises(DataMissing, match="no results folder"):
        show(out=tmp_path / "none")


def test_ten_thousand_files_are_looked_through_folder_by_folder(
    tmp_path: Path, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path, blocks=5000)
    for task in range(5000):
        folder.done(task, seconds_ago=task)
    looked: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr("os.scandir", lambda path: looked.append(path) or scandir(path))
    assert "5000/5000 tasks done" in show()
    assert len(looked) == len(set(map(str, looked))) < 10

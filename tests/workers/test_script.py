"""The script of a shard, run as Slurm's nodes run it, with Slurm's commands played by scripts that note their calls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rapbench.core.errors import BadConfig
from rapbench.workers.scheduler import Job, Resources
from rapbench.workers.script import script


class Node:
    """A node that runs the first shard of jobs."""

    def __init__(self, folder: Path) -> None:
        self.commands, self.calls = folder / "bin", folder / "calls"
        self.commands.mkdir()
        self.calls.touch()
        for name, answer in {"scontrol": "", "sinfo": "node7", "squeue": "RUNNING"}.items():
            (self.commands / name).write_text(f"#!/bin/sh\necho {name} $* >>{self.calls}\necho {answer}\n")
            (self.commands / name).chmod(0o755)

    def start(self, job: Job) -> subprocess.Popen[bytes]:
        """A shard whose output goes to `log` in the job's folder."""
        job.folder.mkdir(exist_ok=True)
        (job.folder / "script").write_text(script(job))
        slurm = {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_PARTITION": "gpu"}
        path = {"PATH": f"{self.commands}{os.pathsep}{os.environ['PATH']}", "SLURMD_NODENAME": "node7"}
        with (job.folder / "log").open("wb") as log:
            return subprocess.Popen(
                ["/bin/bash", job.folder / "script"], stdout=log, env={**os.environ, **slurm, **path}
            )

    def requeued(self) -> int:
        return self.calls.read_text().count("scontrol requeue 77_0\n")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def job(folder: Path, *command: str, **resources: object) -> Job:
    return Job(scheduler="slurm", command=command, shards=3, folder=folder, resources=Resources(**resources))  # type: ignore[arg-type]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_shard_that_fails_is_queued_again_as_often_as_was_asked(node: Node, tmp_path: Path, retries: int) -> None:
    runs, asked = 0, -1
    while node.requeued() > asked:
        asked = node.requeued()
        assert node.start(job(tmp_path / "jobs", "false", retries=retries)).wait() == 1
        runs += 1
    assert runs == retries + 1


def test_a_shard_that_ends_well_is_not_queued_again(node: Node, tmp_path: Path) -> None:
    assert node.start(job(tmp_path / "jobs", "true")).wait() == 0
    assert node.calls.read_text() == ""


@pytest.mark.parametrize(("told", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR2, 1)])
def test_a_shard_that_is_told_to_stop_ends_its_work_and_is_queued_again(
    node: Node, tmp_path: Path, told: signal.Signals, code: int
) -> None:
    started, ended = tmp_path / "started", tmp_path / "ended"
    work = f"trap 'echo >{ended}; exit 143' TERM; echo >{started}; for n in $(seq 1000); do sleep 0.05; done"
    shard = node.start(job(tmp_path / "jobs", "bash", "-c", work))
    while not started.exists():
        time.sleep(0.02)
    shard.send_signal(told)
    assert shard.wait(timeout=20) == code
    assert ended.exists()
    assert node.requeued() == 1


ODD = (
    "two words",
    "it's",
    'a "quote"',
    "100%",
    "%A",
    "$HOME",
    "`id`",
    "back\\slash",
    "two\nlines",
    "{braces}",
    "# no",
    "é",
)


def test_a_command_is_given_its_arguments_as_they_were_typed(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s a $HOME of "100%" {jobs}'
    shown = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]
    setup = ("export FROM_SETUP='a  b'", 'echo "$FROM_SETUP {x} 100%"')
    assert node.start(job(folder, *shown, *ODD, setup=setup)).wait() == 0
    first, second = (folder / "log").read_text().splitlines()
    assert first == "a  b {x} 100%"
    assert json.loads(second) == [*ODD, "--shard", "0/3"]
    assert json.loads((folder / "77.json").read_text())["command"] == [*shown, *ODD]


def test_a_folder_of_any_name_that_slurm_can_be_told_is_told(tmp_path: Path) -> None:
    text = script(job(tmp_path / 'it\'s 100% of "%A"', "true"))
    name = 'it\'"\'"\'s 100%% of "%%A"'
    assert f"\n#SBATCH --output='{tmp_path}/{name}/%A_%a.log'\n" in text


@pytest.mark.parametrize("name", ["two\nlines", "back\\slash"])
def test_what_slurm_cannot_be_told_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadConfig, match=r"^output '[^\n]+': Slurm takes no line breaks and no backslashes"):
        script(job(tmp_path / name, "true"))
    with pytest.raises(BadConfig, match=r"^partition '[^\n]+': Slurm takes"):
        script(job(tmp_path, "true", partition=name))

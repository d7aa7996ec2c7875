"""Runs on a real Slurm: arrays, tasks that are killed, preempted, requeued or out of time, and the printed script."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from rapbench.cli.cancel import cancel
from rapbench.cli.run import run
from rapbench.cli.status import status
from rapbench.cli.submit import PASSED_ON, submit
from rapbench.core.errors import BadConfig, DataMissing, RapbenchError, UnknownName
from rapbench.workers import jobs, slurm
from rapbench.workers.scheduler import Job, Resources

TESTS = Path(__file__).parents[1]
SMALL = ["--model", "doubles:tiny", "--weights", "random", "--metric", "outside_inside", "--device", "cpu"]
LITTLE = ["--gpus", "0", "--cpus", "1", "--memory", "1G"]
PATIENCE = 150.0

Rapbench = Callable[..., Result]


def _running() -> bool:
    found = shutil.which("sinfo")
    return bool(found) and not subprocess.run([str(found)], capture_output=True, check=False).returncode


@pytest.fixture
def rapbench(monkeypatch: pytest.MonkeyPatch) -> Rapbench:
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{TESTS.parent}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command(context_settings=PASSED_ON)(submit)
    app.command()(run)
    app.command()(status)
    app.command()(cancel)

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(result.exception, RapbenchError):
            raise result.exception
        return result

    return invoke


Fake = Callable[[str, str], None]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """Puts a script in the place of one of Slurm's commands."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)

    def put(name: str, script: str) -> None:
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    return put


class Cluster:
    """What a test does with Slurm around a results folder."""

    def __init__(self, rapbench: Rapbench, folder: Path) -> None:
        self.rapbench, self.out, self.go = rapbench, folder / "runs", folder / "go"

    def options(self, images: int) -> list[object]:
        """A run whose processes wait after their first block until the test lets them go."""
        method = f"waiting:Waiting(until={self.go})"
        return [*SMALL, "--dataset", f"doubles:Squares(count={images})", "--method", method, "--out", self.out]

    def submit(self, images: int, *options: object) -> str:
        done = self.rapbench("submit", *self.options(images), *LITTLE, *options)
        assert done.stdout.startswith("job ")
        return done.stdout.split()[1].rstrip(":")

    def status(self) -> dict[str, Any]:
        """Of the one plan, and states of all jobs together under `jobs`."""
        found = json.loads(self.rapbench("status", "--out", self.out, "--json").stdout)
        plan = found["plans"][0] if found["plans"] else {"done": 0, "running": 0, "tasks": 0, "failures": []}
        return {**plan, "jobs": " ".join(found["jobs"].values())}

    def rows(self, out: Path | None = None) -> dict[str, bytes]:
        out = out or self.out
        return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("*/*.parquet")}

    def assert_undisturbed(self, images: int) -> None:
        """The rows are those of one process that nothing happened to."""
        alone = self.out.parent / "alone"
        assert self.go.exists()
        assert self.rapbench("run", *self.options(images), "--out", alone).exit_code == 0
        assert self.rows() == self.rows(alone)


@pytest.fixture
def cluster(rapbench: Rapbench, tmp_path: Path) -> Iterator[Cluster]:
    if not _running():
        pytest.skip("no Slurm is running here; scripts/slurm_localhost.sh start starts one")
    there = Cluster(rapbench, tmp_path)
    yield there
    if jobs.recorded(there.out / "jobs"):
        rapbench("cancel", "--out", there.out)


def until(true: Callable[[], object]) -> None:
    """Waits for something to become true."""
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.3)


def lines(*command: str, given: str | None = None) -> list[str]:
    """What a command prints."""
    return subprocess.run(command, input=given, check=True, capture_output=True, text=True).stdout.splitlines()


def nodes() -> list[str]:
    """Of the partition that is the default."""
    (partition,) = {line[:-1] for line in lines("sinfo", "--noheader", "--format=%P") if line.endswith("*")}
    return lines("sinfo", "--noheader", "--Node", f"--partition={partition}", "--format=%N")


def restarts(task: str) -> int:
    text = " ".join(lines("scontrol", "show", "job", task))
    return int(text.partition("Restarts=")[2].split()[0])


@pytest.mark.slow
def test_an_array_of_four_shares_a_run_and_status_follows_it(cluster: Cluster) -> None:
    cluster.submit(256, "--shards", 4)
    until(lambda: cluster.status()["done"] == 4)
    until(lambda: cluster.status()["running"] == 4)
    seen = cluster.status()
    assert (seen["done"], seen["tasks"]) == (4, 8)
    assert "4 shards: 4 RUNNING" in seen["jobs"]
    cluster.go.touch()
    until(lambda: "4 COMPLETED" in cluster.status()["jobs"])
    assert cluster.status()["done"] == 8
    cluster.assert_undisturbed(256)


@pytest.mark.slow
def test_a_shard_killed_goes_on_on_another_node_and_one_requeued_goes_on(cluster: Cluster) -> None:
    job = cluster.submit(128, "--shards", 2)
    until(lambda: cluster.status()["done"] == 2)
    until(lambda: cluster.status()["running"] == 2)
    first = dict(line.split() for line in lines("squeue", "--noheader", "--array", "--format=%i %N"))
    for lease in (cluster.out / "claims").glob("[!.]*0000032-0000064*"):
        os.kill(json.loads(lease.read_text())["pid"], signal.SIGKILL)
    lines("scontrol", "requeue", f"{job}_1")
    until(lambda: restarts(f"{job}_0") == restarts(f"{job}_1") == 1)
    cluster.go.touch()
    until(lambda: "2 COMPLETED" in cluster.status()["jobs"])
    note = cluster.out / "jobs" / f"{job}_0.failures"
    assert note.read_text().split() == [first[f"{job}_0"]]
    assert not (cluster.out / "jobs" / f"{job}_1.failures").exists()
    (second,) = lines("squeue", "--noheader", "--states=all", f"--jobs={job}_0", "--format=%N")
    if len(nodes()) > 1:
        assert second != first[f"{job}_0"]
    cluster.assert_undisturbed(128)


@pytest.mark.slow
def test_a_task_that_fails_on_a_broken_node_is_done_on_another(cluster: Cluster) -> None:
    if len(nodes()) < 2:
        pytest.skip("this Slurm has one node only")
    note = cluster.out.parent / "broken"
    options = [*SMALL, "--dataset", "doubles:Squares(count=32)", "--method", f"waiting:BrokenNode(note={note})"]
    cluster.rapbench("submit", *options, "--out", cluster.out, *LITTLE, "--shards", 1)
    until(lambda: cluster.status()["failures"])
    (failure,) = cluster.status()["failures"]
    assert failure["count"] == 1
    assert failure["last_line"] == f"RuntimeError: {note.read_text()} is broken"
    until(lambda: "1 COMPLETED" in cluster.status()["jobs"])
    assert cluster.status()["failures"] == []
    assert cluster.status()["done"] == 1


@pytest.mark.slow
def test_time_limits_end_in_another_run_that_goes_on(cluster: Cluster) -> None:
    """One job that was submitted and one from the printed script, at the same time and on the same work."""
    limited = ["--shards", 1, "--time", 1]
    submitted = cluster.submit(128, *limited)
    script = cluster.rapbench("submit", "--print", *cluster.options(128), *LITTLE, *limited).stdout
    (printed,) = lines("sbatch", "--parsable", given=script)
    until(lambda: all(restarts(f"{job}_0") for job in (submitted, printed)))
    assert cluster.status()["done"] in {1, 2}
    cluster.go.touch()
    until(lambda: cluster.status()["jobs"].count("1 COMPLETED") == 2)
    cluster.assert_undisturbed(128)


@pytest.mark.slow
def test_what_is_preempted_goes_on_afterwards(cluster: Cluster) -> None:
    if "urgent" not in lines("sinfo", "--noheader", "--format=%R"):
        pytest.skip("this Slurm has no partition that preempts")
    job = cluster.submit(64, "--shards", 1)
    until(lambda: cluster.status()["running"] and cluster.status()["done"])
    urgent = ["--partition=urgent", "--exclusive", f"--nodes={len(nodes())}", "--output=/dev/null", "--wrap=sleep 1"]
    lines("sbatch", *urgent)
    until(lambda: restarts(job))
    cluster.go.touch()
    until(lambda: "1 COMPLETED" in cluster.status()["jobs"])
    cluster.assert_undisturbed(64)


@pytest.mark.slow
def test_cancel_ends_the_jobs_of_a_folder_and_keeps_what_is_done(cluster: Cluster) -> None:
    gpus = int(any("gpu" in line for line in lines("sinfo", "--noheader", "--format=%G")))
    job = cluster.submit(128, "--shards", 2, "--gpus", gpus)
    other = lines("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 60")[0]
    until(lambda: cluster.status()["done"] == 2)
    each = set(lines("squeue", "--noheader", "--array", f"--jobs={job}", "--format=%b"))
    assert all("gpu" in asked for asked in each) == bool(gpus)
    assert cluster.rapbench("cancel", "--out", cluster.out).stdout == f"cancelled: {job}\n"
    until(lambda: "2 CANCELLED" in cluster.status()["jobs"])
    assert cluster.status()["done"] == 2
    assert lines("squeue", "--noheader", f"--jobs={other}", "--format=%T") != []
    lines("scancel", other)
    assert cluster.rapbench("cancel", "--out", cluster.out).stdout.startswith("nothing to cancel")


def test_an_unknown_partition_is_refused_with_the_nearest(cluster: Cluster) -> None:
    with pytest.raises(UnknownName, match="no partition 'locl': did you mean local"):
        cluster.submit(32, "--partition", "locl")
    assert not cluster.out.exists()


def test_what_slurm_refuses_is_one_line(cluster: Cluster) -> None:
    with pytest.raises(BadConfig, match=r"^Slurm refuses the job: Invalid --mem specification$"):
        cluster.submit(32, "--memory", "much")


def test_without_slurm_submit_says_so_and_the_script_is_still_printed(
    rapbench: Rapbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    options = ["submit", *SMALL, "--dataset", "doubles:Squares", "--out", tmp_path / "runs", "--method", "rap"]
    with pytest.raises(BadConfig, match=r"no Slurm on this machine: .* --print"):
        rapbench(*options)
    script = rapbench(*options, "--print", "--setup", "module load cuda").stdout
    assert script.startswith("#!/bin/bash\n")
    assert "\nmodule load cuda\n" in script
    assert "#SBATCH --gpus-per-node=1\n" in script


def test_a_partition_that_sinfo_does_not_name_is_refused(rapbench: Rapbench, fake: Fake, tmp_path: Path) -> None:
    fake("sinfo", "echo 'gpu|node1|node1'; echo 'cpu|node2|node2'")
    fake("sbatch", "echo 77")
    options = ["submit", *SMALL, "--dataset", "doubles:Squares", "--out", tmp_path / "runs", "--method", "rap"]
    with pytest.raises(UnknownName, match="no partition 'gpuu': did you mean gpu"):
        rapbench(*options, "--partition", "gpuu")


def test_the_script_that_is_printed_is_the_one_that_is_queued(rapbench: Rapbench, fake: Fake, tmp_path: Path) -> None:
    fake("sinfo", "echo 'gpu|node1|node1'")
    fake("sbatch", f"cat >{tmp_path}/queued; echo 77")
    config = tmp_path / "run.toml"
    config.write_text('metric = "segmentation"\nmethod = "rap"\n')
    options = [*SMALL[:4], "--dataset", "doubles:Squares", "--config", config, "--out", tmp_path / "runs"]
    printed = rapbench("submit", *options, "--print").stdout
    assert rapbench("submit", *options).stdout.startswith("job 77: 1 shards; ")
    assert (tmp_path / "queued").read_text() == printed
    (copy,) = (tmp_path / "runs" / "jobs").glob("run.*.toml")
    assert f"--config {copy}" in printed
    assert copy.read_bytes() == config.read_bytes()


def test_a_job_is_told_as_json_where_that_is_asked_for(rapbench: Rapbench, fake: Fake, tmp_path: Path) -> None:
    fake("sinfo", "echo 'gpu|node1|node1'")
    fake("sbatch", "echo '77;cluster'")
    options = [*SMALL, "--dataset", "doubles:Squares", "--method", "rap", "--out", tmp_path / "runs", "--json"]
    told = json.loads(rapbench("submit", *options, "--shards", 2).stdout)
    assert told == {"job": "77", "shards": 2, "out": str(tmp_path / "runs")}


def test_a_papers_table_is_submitted_as_it_is_run(rapbench: Rapbench, tmp_path: Path) -> None:
    images = ["--dataset", "doubles:Squares", "--limit", "64", "--select", "all"]
    options = ["rap2020/table1", *images, *SMALL[:4], "--method", "rap,random"]
    script = rapbench("submit", *options, "--out", tmp_path, "--print", "--setup", "module load cuda").stdout
    assert f"-P -m rapbench run {' '.join(options)} --out {tmp_path} --shard " in script


@pytest.fixture(params=["INT", "TERM", "HUP"])
def interrupt(request: pytest.FixtureRequest) -> Iterator[str]:
    """A signal that ends this process as an interrupt in a terminal does; in the background a shell has it ignored."""
    number = signal.Signals[f"SIG{request.param}"]
    before = signal.signal(number, signal.default_int_handler)
    yield request.param
    signal.signal(number, before)


def test_an_interrupt_waits_until_the_job_is_noted(fake: Fake, tmp_path: Path, interrupt: str) -> None:
    fake("sbatch", f"kill -{interrupt} {os.getpid()}; sleep 0.5; echo 78")
    job = Job(scheduler="slurm", command=["x"], shards=2, folder=tmp_path, resources=Resources())
    with pytest.raises(KeyboardInterrupt):
        jobs.queued(job)
    assert jobs.recorded(tmp_path) == [jobs.Queued(job="78", scheduler="slurm", shards=2)]


def test_a_job_that_cannot_be_cancelled_leaves_the_others_cancelled(fake: Fake, tmp_path: Path) -> None:
    fake("squeue", "echo '78|RUNNING|None'")
    fake("scancel", f"echo $* >{tmp_path}/ended")
    for number, name in {"77": "slorm", "78": "slurm"}.items():
        job = Job(scheduler=name, command=["x"], shards=2, folder=tmp_path, resources=Resources())
        (tmp_path / f"{number}.json").write_text(jobs.note(job))
    with pytest.raises(BadConfig, match=r"^77 not cancelled \(no scheduler named 'slorm'.*\); 78 cancelled$"):
        jobs.cancelled(tmp_path)
    assert (tmp_path / "ended").read_text() == "78\n"


def test_a_results_folder_in_memory_is_refused_where_other_machines_are_to_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_file_system", lambda path: "tmpfs")
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    job = Job(scheduler="slurm", command=["x"], shards=1, folder=tmp_path / "jobs", resources=Resources())
    monkeypatch.setattr(
        slurm, "_answer", lambda *command: ["gpu|far-away|far-away"] if "%R" in command[-1] else ["far-away"]
    )
    with pytest.raises(BadConfig, match=r"in this machine's memory \(tmpfs\)"):
        slurm.Slurm().examine(job)


def test_a_missing_config_or_a_wrong_option_is_found_before_anything_is_queued(
    rapbench: Rapbench, tmp_path: Path
) -> None:
    with pytest.raises(DataMissing, match="no config file"):
        rapbench("submit", "--config", tmp_path / "none.toml")
    assert "--methd" in rapbench("submit", "--methd", "rap").output
    with pytest.raises(UnknownName, match="rap"):
        rapbench("submit", *SMALL, "--dataset", "doubles:Squares", "--method", "rapp")
    with pytest.raises(BadConfig, match="--shard"):
        rapbench("submit", "--shard", "0/2")


def test_cancel_without_jobs_says_so(rapbench: Rapbench, tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no job was submitted"):
        rapbench("cancel", "--out", tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("2:00:00", 7200), ("1-12", 129600), ("1-12:30", 131400), ("1-0:0:1", 86401)],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert Resources(time=text).seconds == seconds

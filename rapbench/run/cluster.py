"""Runs as job arrays of a Slurm cluster, through submitit."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from pathlib import Path

import submitit
from submitit.core.utils import DelayedSubmission, FailedJobError, FailedSubmissionError

from rapbench.core.errors import BadConfig
from rapbench.run import slurm
from rapbench.run.slurm import Resources

_MOST_TIME_LIMITS = 100
"""How often one task goes on after its time limit: an end to one that is too short for any progress."""

_SECONDS_TO_STOP = 10.0
_AN_AGE = 1e9

_DEAF = ("sh", "-c", 'trap "" USR2; exec "$@"', "sh")
"""Slurm's warning goes to every process of a task; the run is told by the one that waits for it."""


@dataclass(frozen=True, kw_only=True)
class Array:
    """Each task of an array: one shard of a run, which goes on after a time limit and elsewhere after a failure.

    Attributes:
        command: `rapbench run` and its options.
        count: of shards.
        folder: `jobs` in the results folder; failures are noted there, a line with the node for each.
        retries: how often a failed shard is tried again.
    """

    command: tuple[str, ...]
    count: int
    folder: Path
    retries: int
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)

    def __call__(self, shard: int) -> None:
        """Runs a shard to its end; what stopped it decides whether, when and where it is run again."""
        command = [*_DEAF, *self.command, "--shard", f"{shard}/{self.count}"]
        process = subprocess.Popen(command)  # noqa: S603 (what the user typed)
        self._processes.append(process)
        code = process.wait(_AN_AGE)  # with a timeout, so that `checkpoint`, which interrupts it, can wait as well
        if not code:
            return
        task = submitit.JobEnvironment().job_id
        if code in {-signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT}:
            if slurm.state(task) == "RUNNING":  # preempted; a task cancelled or requeued from outside is not running
                slurm.requeue(task)
        else:
            self._failed(task)
        sys.exit(1)

    def checkpoint(self, shard: int) -> DelayedSubmission:
        """What is left to do when time is up: the same, after the shard at work has let go of its claims."""
        for process in self._processes:
            process.terminate()
            try:
                process.wait(_SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
        return DelayedSubmission(replace(self), shard)

    def _failed(self, task: str) -> None:
        """Notes a failure, and tries again where others are left."""
        note = self.folder / f"{task}.failures"
        with note.open("a") as file:
            file.write(f"{os.environ['SLURMD_NODENAME']}\n")
        nodes = note.read_text().splitlines()
        if len(nodes) <= self.retries:
            slurm.requeue(task, but_not_on=set(nodes))


def submit(command: Sequence[str], resources: Resources, folder: Path) -> str:
    """Queues a run as a job array; its number.

    Args:
        command: `rapbench run` and its options.
        resources: what each task gets.
        folder: where logs and notes go: `jobs` in the results folder.

    Raises:
        BadConfig: Slurm refuses the job.
    """
    folder = folder.absolute()
    array = Array(command=tuple(command), count=resources.tasks, folder=folder, retries=resources.retries)
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=_MOST_TIME_LIMITS)
    executor.update_parameters(
        job_name="rapbench",
        partition=resources.partition,
        gpus_per_node=resources.gpus or None,
        cpus_per_task=resources.cpus,
        mem=resources.memory,
        time=-(-resources.seconds // 60),
        signal_delay_s=resources.warning_seconds,
        array_parallelism=resources.max_parallel,
        setup=list(resources.setup),
        stderr_to_stdout=True,
        srun_args=["--cpus-per-task", str(resources.cpus)],  # which srun no longer takes over from sbatch
        additional_parameters={"requeue": True},
    )
    try:
        with redirect_stderr(io.StringIO()):  # where submitit repeats what sbatch says
            jobs = executor.map_array(array, range(resources.tasks))
    except (FailedJobError, FailedSubmissionError) as error:
        raise BadConfig(f"Slurm refuses the job: {_reason(error)}") from error
    job = str(jobs[0].job_id).partition("_")[0]
    slurm.record(folder, job, resources.tasks, command)
    return job


def _reason(error: Exception) -> str:
    """The line of sbatch's that says why, out of what submitit tells about a failed command."""
    text = f"{error.__cause__ or ''}\n{error}"
    lines = [line.strip() for line in text.splitlines() if "error:" in line]
    return lines[-1].rpartition("error: ")[2] if lines else str(error)

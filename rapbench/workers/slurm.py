"""Slurm, by its own commands: what it offers, what it queues, and what became of it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rapbench.core.catalogue import nearest
from rapbench.core.errors import BadConfig, UnknownName
from rapbench.workers.scheduler import Job
from rapbench.workers.script import script

_ANSWER_SECONDS = 20.0
_GLANCE_SECONDS = 1.0
"""How long `states` waits: the rest of a status needs no Slurm."""
_IN_MEMORY = ("tmpfs", "ramfs")
_ACTIVE = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED"}


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """Job arrays, one element a shard; they requeue themselves."""

    def examine(self, job: Job) -> None:
        """Checks that Slurm answers, has the partition, and that its nodes can see the results folder.

        Raises:
            BadConfig: no Slurm here, it does not answer, or the nodes cannot see the results folder.
            UnknownName: no such partition.
        """
        if not shutil.which("sbatch"):
            raise BadConfig("no Slurm on this machine: there is no sbatch; --print writes the script for one with it")
        rows = [line.split("|") for line in _answer("sinfo", "--all", "--noheader", "--Node", "--format=%R|%n|%N")]
        known, wanted = sorted({name for name, *_ in rows}), job.resources.partition
        if wanted and wanted not in known:
            raise UnknownName(f"Slurm has no partition {wanted!r}: {nearest(wanted, known)}")
        out = job.folder.parent
        kind = _file_system(out)
        if kind in _IN_MEMORY and not _only_this_machine():
            raise BadConfig(
                f"{out} is in this machine's memory ({kind}), where no node can see it; choose another --out"
            )

    def script(self, job: Job) -> str:
        return script(job)

    def submit(self, job: Job) -> str:
        (number, *_) = _answer("sbatch", "--parsable", given=script(job), refused="Slurm refuses the job")
        return number.partition(";")[0]  # the cluster's name may follow

    def states(self, jobs: Collection[str]) -> dict[str, Counter[str]]:
        """How many shards of each job are in each state that Slurm still knows of; a waiting one has its reason.

        Raises:
            BadConfig: Slurm does not answer.
        """
        found: dict[str, Counter[str]] = {job: Counter() for job in jobs}
        query = ("squeue", "--noheader", "--array", "--states=all", "--me", "--format=%F|%T|%r")
        for line in _answer(*query, seconds=_GLANCE_SECONDS) if jobs else ():
            job, state, reason = line.split("|", 2)
            if job in found:
                found[job][f"{state} ({reason})" if state == "PENDING" else state] += 1
        return found

    def cancel(self, jobs: Collection[str]) -> list[str]:
        states = self.states(jobs)
        active = [job for job in jobs if any(state.partition(" ")[0] in _ACTIVE for state in states[job])]
        if active:
            _answer("scancel", *active)
        return active


def _answer(
    *command: str, given: str | None = None, seconds: float = _ANSWER_SECONDS, refused: str = "Slurm"
) -> list[str]:
    """The lines that a command of Slurm prints; what it says on its way to failing is raised."""
    name = command[0]
    try:
        done = subprocess.run(  # noqa: S603 (no shell)
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=True,
            start_new_session=True,  # an interrupt typed here is not for it
        )
    except FileNotFoundError as error:
        raise BadConfig(f"no Slurm on this machine: there is no {name}") from error
    except subprocess.TimeoutExpired as error:
        raise BadConfig(f"Slurm does not answer: {name} took more than {seconds:g} s") from error
    except subprocess.CalledProcessError as error:
        raise BadConfig(f"{refused}: {_reason(error.stderr) or f'{name} failed'}") from error
    return done.stdout.splitlines()


def _reason(text: str) -> str:
    """The line that says why, out of what a command of Slurm says."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.rpartition("error: ")[2] for line in lines if "error: " in line]
    return next(iter([*errors[-1:], *lines]), "")


def _only_this_machine() -> bool:
    hosts = set(_answer("sinfo", "--all", "--noheader", "--Node", "--format=%n"))
    return hosts <= {socket.gethostname(), socket.gethostname().partition(".")[0]}


def _file_system(path: Path) -> str:
    """The kind of file system that a path is on, as the kernel names it; empty where that is not known."""
    path = path.absolute()
    with suppress(OSError):
        mounts = (line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
        kinds = {Path(point): kind for point, kind in mounts}
        return next((kinds[place] for place in (path, *path.parents) if place in kinds), "")
    return ""

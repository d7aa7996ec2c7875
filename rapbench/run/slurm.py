"""Slurm's own commands: what it offers, what became of jobs, and a script that needs nothing but sbatch."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rapbench.core.catalogue import nearest
from rapbench.core.errors import BadConfig, UnknownName

WARNING_SECONDS = 90
"""How long before a time limit Slurm says so; short limits leave a quarter of their time."""

_ANSWER_SECONDS = 20.0
_IN_MEMORY = ("tmpfs", "ramfs")
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a job array asks Slurm for; each field is the option of `rapbench submit` with the same name."""

    tasks: int
    partition: str | None
    gpus: int
    cpus: int
    memory: str
    time: str
    max_parallel: int
    retries: int
    setup: tuple[str, ...]

    @property
    def seconds(self) -> int:
        """The time limit of one task, which Slurm reads as minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S.

        Raises:
            BadConfig: none of these, or nothing.
        """
        match = _TIME.fullmatch(self.time)
        if not match:
            raise BadConfig(f"time {self.time!r} is not one that Slurm reads, such as 2:00:00 or 1-12 (days-hours)")
        days, *rest = match.groups()
        given = [int(part) for part in rest if part is not None]
        units = (3600, 60, 1) if days or len(given) == 3 else (60, 1)
        seconds = int(days or 0) * 86400 + sum(n * unit for n, unit in zip(given, units, strict=False))
        if not seconds:
            raise BadConfig("time must be longer than nothing")
        return seconds

    @property
    def warning_seconds(self) -> int:
        """How long before its limit a task is told to stop."""
        return min(WARNING_SECONDS, self.seconds // 4)


def examine(resources: Resources, out: Path) -> None:
    """Checks what can be known before anything is queued.

    Raises:
        BadConfig: no Slurm here, it does not answer, or the nodes cannot see the results folder.
        UnknownName: no such partition.
    """
    if not shutil.which("sbatch"):
        raise BadConfig("no Slurm on this machine: there is no sbatch; --print writes the script for a machine with it")
    rows = [line.split("|") for line in _answer("sinfo", "--all", "--noheader", "--Node", "--format=%R|%n|%N")]
    partitions = sorted({name for name, *_ in rows})
    if resources.partition and resources.partition not in partitions:
        raise UnknownName(f"Slurm has no partition {resources.partition!r}: {nearest(resources.partition, partitions)}")
    kind = _file_system(out)
    if kind in _IN_MEMORY and not _only_this_machine():
        raise BadConfig(f"{out} is in this machine's memory ({kind}), where no node can see it; choose another --out")


def states(jobs: Collection[str]) -> dict[str, Counter[str]]:
    """How many tasks of each job are in each state that Slurm still knows of; a waiting one has its reason.

    Raises:
        BadConfig: Slurm does not answer.
    """
    found: dict[str, Counter[str]] = {job: Counter() for job in jobs}
    if jobs:
        query = ("squeue", "--noheader", "--array", "--states=all", "--me", "--format=%F|%T|%r")
        for line in _answer(*query, seconds=1.0):
            job, state, reason = line.split("|", 2)
            if job in found:
                found[job][f"{state} ({reason})" if state == "PENDING" else state] += 1
    return found


def is_active(state: str) -> bool:
    """Whether a task in a state, as `states` names it, has not ended."""
    return state.partition(" ")[0] in {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED"}


def state(job: str) -> str:
    """The state of one task of an array, empty where Slurm does not know it."""
    with suppress(BadConfig):
        return _answer("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")[0]
    return ""


def cancel(jobs: Iterable[str]) -> None:
    """Cancels jobs; those that have ended stay as they are.

    Raises:
        BadConfig: Slurm does not answer.
    """
    _answer("scancel", *jobs)


def requeue(job: str, but_not_on: Collection[str] = ()) -> None:
    """Ends a running task and queues it again, on other nodes than the given ones where its partition has others.

    Raises:
        BadConfig: Slurm refuses.
    """
    others = set(_nodes(job)) - set(but_not_on) if but_not_on else set()
    commands = [["scontrol", "requeue", job]]
    if others:
        commands += [["scontrol", "update", f"JobId={job}", f"ExcNodeList={','.join(sorted(but_not_on))}"]]
    # A task that requeues itself is sent SIGTERM at once, with all its processes, and has a while to end.
    _answer("sh", "-c", 'trap "" TERM; ' + " && ".join(map(shlex.join, commands)))


def record(folder: Path, job: str, tasks: int, command: Sequence[str]) -> None:
    """Notes a submitted job in a results folder's `jobs`."""
    (folder / f"{job}.json").write_text(json.dumps({"job": job, "tasks": tasks, "command": [*command]}) + "\n")


def recorded(folder: Path) -> dict[str, int]:
    """Submitted jobs and their numbers of tasks, by age."""
    found = {}
    for path in sorted(folder.glob("[0-9]*.json"), key=lambda path: int(path.stem)):
        with suppress(OSError, ValueError, KeyError):
            found[path.stem] = int(json.loads(path.read_text())["tasks"])
    return found


def script(command: Sequence[str], resources: Resources, folder: Path) -> str:
    """The job array as text for sbatch.

    Args:
        command: `rapbench run` and its options.
        resources: what each task gets.
        folder: where logs and notes go: `jobs` in the results folder.
    """
    options = {
        "job-name": "rapbench",
        "array": f"0-{resources.tasks - 1}%{resources.max_parallel}",
        "partition": resources.partition,
        "gpus-per-node": resources.gpus or None,
        "cpus-per-task": resources.cpus,
        "mem": resources.memory,
        "time": resources.time,
        "signal": f"B:USR2@{resources.warning_seconds}",
        "output": folder.absolute() / "%A_%a.log",
        "open-mode": "append",
    }
    flags = [f"#SBATCH --{key}={value}" for key, value in options.items() if value is not None]
    note = json.dumps({"tasks": resources.tasks, "command": [*command]})
    body = _BODY.format(
        setup="".join(f"{line}\n" for line in resources.setup),
        folder=shlex.quote(str(folder.absolute())),
        note=shlex.quote(note),
        command=shlex.join(command),
        retries=resources.retries,
        count=resources.tasks,
    )
    hint = f"# Its log needs the folder: mkdir -p {shlex.quote(str(folder.absolute()))}, then sbatch this file."
    return "\n".join(["#!/bin/bash", hint, *flags, "#SBATCH --requeue", body])


_BODY = """
{setup}jobs={folder}
task="${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
printf '%s\\n' {note} >"$jobs/$SLURM_ARRAY_JOB_ID.json"

# The time limit is near: stop, keep what is done, and go on from there in the next run of this task.
go_on() {{
    kill -TERM "$work"
    wait "$work"
    scontrol requeue "$task"
    exit 1
}}
trap go_on USR2

{command} --shard "$SLURM_ARRAY_TASK_ID/{count}" &
work=$!
wait "$work"
code=$?
case $code in
    0) exit 0 ;;
    # Slurm is ending the task. Where it still counts as running it is preempted; otherwise Slurm knows what comes next.
    130 | 143) if [ "$(squeue --noheader --jobs="$task" --format=%T)" = RUNNING ]; then scontrol requeue "$task"; fi ;;
    *)
        echo "${{SLURMD_NODENAME:-$(hostname)}}" >>"$jobs/$task.failures"
        if [ "$(wc -l <"$jobs/$task.failures")" -le {retries} ]; then scontrol requeue "$task"; fi
        ;;
esac
exit $code
"""


def _answer(*command: str, seconds: float = _ANSWER_SECONDS) -> list[str]:
    """The lines that a command of Slurm prints."""
    name = command[0]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)  # noqa: S603 (no shell)
    except FileNotFoundError as error:
        raise BadConfig(f"no Slurm on this machine: there is no {name}") from error
    except subprocess.TimeoutExpired as error:
        raise BadConfig(f"Slurm does not answer: {name} took more than {seconds:g} s") from error
    except subprocess.CalledProcessError as error:
        raise BadConfig(f"Slurm: {_first_line(error.stderr) or f'{name} failed'}") from error
    return done.stdout.splitlines()


def _nodes(job: str) -> list[str]:
    """The nodes of the partition that a job is in."""
    (partition,) = _answer("squeue", "--noheader", f"--jobs={job}", "--format=%P")
    return _answer("sinfo", "--noheader", "--Node", f"--partition={partition}", "--format=%N")


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


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

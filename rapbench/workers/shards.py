"""The share of a run that one of many workers does, and what the others can see of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rapbench.core.errors import BadConfig, RapbenchError
from rapbench.core.writing import write_whole
from rapbench.results.claims import LEASE_SECONDS, Claims
from rapbench.results.notes import readable_notes
from rapbench.results.store import Store
from rapbench.run.engine import Fault, Progress, execute
from rapbench.run.plan import Experiment, Task
from rapbench.workers.notes import Failure, Plan, PlannedTask

_POLL_SECONDS = 2.0
ATTEMPTS = 3
"""How often a task is tried, by whichever workers, before it is left alone."""
_SHARD = re.compile(r"(\d+)/(\d+)")
_FROM_SCHEDULERS = (("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"), ("RANK", "WORLD_SIZE"))


@dataclass(frozen=True)
class Shard:
    """The `index`-th of `count` shares of a run's tasks, from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`i/N`, or `env` for what Slurm's job arrays or torchrun set.

        Raises:
            BadConfig: another form, or an index that is not below the count.
        """
        if text == "env":
            text = next(
                (f"{os.environ[i]}/{os.environ[n]}" for i, n in _FROM_SCHEDULERS if {i, n} <= os.environ.keys()), ""
            )
            if not text:
                names = " nor ".join("/".join(pair) for pair in _FROM_SCHEDULERS)
                raise BadConfig(f"--shard env: neither {names} are set")
        match = _SHARD.fullmatch(text)
        if not match or int(match[1]) >= int(match[2]):
            raise BadConfig(f"--shard {text}: write i/N with i from 0 to N - 1, or env")
        return cls(int(match[1]), int(match[2]))

    def of(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """Its tasks among all: neighbours, which share images."""
        start, stop = (len(tasks) * n // self.count for n in (self.index, self.index + 1))
        return tasks[start:stop]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Tasks of a shard done since it began, found done, and names of those that failed or were left alone."""

    done: int
    found: int
    failed: tuple[str, ...]


def work(
    experiments: Sequence[Experiment],
    shard: Shard,
    store: Store,
    progress: Progress,
    *,
    lease_seconds: float = LEASE_SECONDS,
) -> Outcome:
    """Does one shard of the experiments, one task after the other.

    A task that raises is recorded and the next one is tried; after `ATTEMPTS` failures a task is left alone.
    """
    done, found, failed = 0, 0, []
    with Claims(store.root / "claims", lease_seconds) as claims:
        for experiment in experiments:
            tasks, broken = shard.of(experiment.tasks()), _Failures(experiment, store.root)
            left = _left(experiment, tasks, store, broken)
            found += len(tasks) - len(left) - len(broken.names)
            began = len(left)
            while left:
                execute(experiment, left, store, progress, claims, broken)
                left = _left(experiment, tasks, store, broken)
                if left:  # claimed by other workers: they finish, or their leases expire
                    time.sleep(_POLL_SECONDS)
            done += began - sum(name in broken.now for name in broken.names)
            failed += broken.names
    return Outcome(done=done, found=found, failed=tuple(failed))


def _left(experiment: Experiment, tasks: Sequence[Task], store: Store, broken: _Failures) -> list[Task]:
    """What is pending of some tasks, but for those that have failed, now or too often."""
    ids = {experiment.task_id(task) for task in tasks}
    pending = {experiment.task_id(task): task for task in experiment.pending(store)}
    for name in ids & pending.keys() - set(broken.names):
        if failures(store.root, name) >= ATTEMPTS:
            broken.names.append(name)
    return [task for name, task in pending.items() if name in ids and name not in broken.names]


class _Failures:
    """Records what tasks raise; stops the worker where no other task would fare better."""

    def __init__(self, experiment: Experiment, root: Path) -> None:
        self._experiment, self._root = experiment, root
        self.names: list[str] = []
        """Of tasks that failed, now or too often before."""
        self.now: list[str] = []

    def __call__(self, task: Task, fault: Fault) -> bool:
        name, error = self._experiment.task_id(task), fault.error
        if isinstance(error, RapbenchError):
            raise BadConfig(str(fault)) from error
        if name not in self.now:  # by another of its metrics
            _record(self._root, name, error)
            self.names.append(name)
            self.now.append(name)
        if "CUDA error" in str(error):  # the device is lost to this process
            raise error
        return False


def failures(root: Path, task: str) -> int:
    """How often a task has failed so far; none, with a line in the log, where its note is damaged."""
    path = _failure(root, task)
    return sum(note.count for _, note in readable_notes(Failure, [path] if path.exists() else []))


def _failure(root: Path, task: str) -> Path:
    return root / "failures" / f"{task}.json"


def _record(root: Path, task: str, error: Exception) -> None:
    lines = str(error).strip().splitlines()
    failure = Failure(
        task=task,
        count=failures(root, task) + 1,
        last_line=f"{type(error).__name__}: {lines[-1] if lines else ''}",
        host=socket.gethostname(),
    )
    write_whole(_failure(root, task), json.dumps(asdict(failure)).encode())


def plan(experiments: Mapping[str, Experiment]) -> Plan:
    """What a run consists of."""
    tasks = tuple(
        PlannedTask(
            id=experiment.task_id(task), images=experiment.num_images(task), files=tuple(experiment.files(task))
        )
        for experiment in experiments.values()
        for task in experiment.tasks()
    )
    digest = hashlib.sha256(json.dumps([task.id for task in tasks]).encode()).hexdigest()[:16]
    return Plan(digest=digest, parts=tuple(experiments), tasks=tasks)


def written_plan(experiments: Mapping[str, Experiment], root: Path) -> Plan:
    """The plan, written down where other commands find it."""
    whole = plan(experiments)
    file, content = root / "plans" / f"{whole.digest}.json", json.dumps(asdict(whole)).encode()
    if not (file.is_file() and file.read_bytes() == content):
        write_whole(file, content)
    return whole

"""What runs shards on other machines: the job it is given, and what it must be able to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rapbench.core.errors import BadConfig

_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each shard is given; each field is the option of `rapbench submit` with the same name."""

    partition: str | None = None
    gpus: int = 1
    cpus: int = 4
    memory: str = "16G"
    time: str = "2:00:00"
    max_parallel: int = 64
    retries: int = 2
    setup: tuple[str, ...] = ()

    @property
    def seconds(self) -> int:
        """The time limit of one shard, written as minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S.

        Raises:
            BadConfig: none of these, or nothing.
        """
        match = _TIME.fullmatch(self.time)
        if not match:
            raise BadConfig(f"time {self.time!r} cannot be read: write it as 2:00:00 or 1-12 (days-hours)")
        days, *rest = match.groups()
        given = [int(part) for part in rest if part is not None]
        units = (3600, 60, 1) if days or len(given) == 3 else (60, 1)
        seconds = int(days or 0) * 86400 + sum(n * unit for n, unit in zip(given, units, strict=False))
        if not seconds:
            raise BadConfig("time must be longer than nothing")
        return seconds


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run as an array of shards.

    Attributes:
        scheduler: what it is given to, as `--scheduler` names it.
        command: `rapbench run` and its options; the i-th shard adds `--shard i/N`.
        shards: N.
        folder: `jobs` in the results folder, absolute: for logs and notes.
        resources: what each shard is given.
    """

    scheduler: str
    command: Sequence[str]
    shards: int
    folder: Path
    resources: Resources


class Scheduler(Protocol):
    """Runs the shards of jobs.

    It runs one again that was preempted, that came to its time limit, or that failed, `Resources.retries` times and
    elsewhere if it can; told by SIGTERM, a shard stops at once and keeps what is done. An implementation is a frozen
    dataclass whose fields, if any, are parameters in brackets.
    """

    def examine(self, job: Job) -> None:
        """Checks what can be known before a job is queued.

        Raises:
            RapbenchError: what is wrong, and what to do about it.
        """
        ...

    def script(self, job: Job) -> str:
        """The text that is queued, as `rapbench submit --print` shows it."""
        ...

    def submit(self, job: Job) -> str:
        """Queues a job; its number or name, which can be that of a file."""
        ...

    def states(self, jobs: Collection[str]) -> Mapping[str, Counter[str]]:
        """How many shards of each job are in each state that is still known, in the scheduler's own words."""
        ...

    def cancel(self, jobs: Collection[str]) -> list[str]:
        """Ends jobs; those of them that had not ended before."""
        ...

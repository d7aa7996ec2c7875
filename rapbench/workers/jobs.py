"""The jobs of a results folder, each noted there: who has the folder can watch and cancel them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadConfig, RapbenchError
from rapbench.core.writing import write_whole
from rapbench.results.notes import Count, readable_notes
from rapbench.workers import SCHEDULERS
from rapbench.workers.scheduler import Job, Scheduler

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class Note:
    """What `<job>.json` holds of a job."""

    scheduler: str
    shards: Count


@dataclass(frozen=True, kw_only=True)
class Queued(Note):
    """A job as its note tells of it."""

    job: str


def scheduler(text: str) -> Scheduler:
    """The scheduler of a name, or of `module:Class` for one from outside.

    Raises:
        UnknownName: there is none.
        BadConfig: parameters that are wrong.
    """
    found: Scheduler = SCHEDULERS.build(parse_call(text))
    return found


def note(job: Job) -> str:
    """What a results folder holds of a job, in `<job>.json`."""
    return json.dumps({"scheduler": job.scheduler, "shards": job.shards, "command": [*job.command]})


def queued(job: Job) -> str:
    """Gives a job to its scheduler, and notes its number; an interrupt waits until that is done.

    Raises:
        RapbenchError: the scheduler refuses it.
    """
    with _uninterrupted():
        number = scheduler(job.scheduler).submit(job)
        write_whole(job.folder / f"{number}.json", f"{note(job)}\n".encode())
    return number


def recorded(folder: Path) -> list[Queued]:
    """The jobs of a results folder's `jobs`, by age."""
    paths = sorted(folder.glob("[!.]*.json"), key=lambda path: path.lstat().st_mtime)
    return [Queued(job=path.stem, **asdict(note)) for path, note in readable_notes(Note, paths)]


def told(folder: Path) -> dict[str, str]:
    """A line on each job of a results folder's `jobs`: how many of its shards are in which state."""
    lines: dict[str, str] = {}
    for name, jobs in _by_scheduler(folder).items():
        try:
            states = scheduler(name).states([one.job for one in jobs])
        except RapbenchError as error:
            lines |= {one.job: f"{one.shards} shards, states unknown ({error})" for one in jobs}
        else:
            lines |= {one.job: _line(one, states.get(one.job, {}), folder) for one in jobs}
    return lines


def cancelled(folder: Path) -> list[str]:
    """Ends the jobs of a results folder's `jobs`; those that had not ended before.

    Raises:
        BadConfig: a scheduler does not answer or is none; jobs of others have been ended all the same.
    """
    ended: list[str] = []
    faults: list[str] = []
    for name, jobs in _by_scheduler(folder).items():
        numbers = [one.job for one in jobs]
        try:
            ended += scheduler(name).cancel(numbers)
        except RapbenchError as error:
            faults.append(f"{', '.join(numbers)} not cancelled ({error})")
    if faults:
        raise BadConfig("; ".join([*faults, *(f"{job} cancelled" for job in ended)]))
    return ended


def _by_scheduler(folder: Path) -> dict[str, list[Queued]]:
    found: dict[str, list[Queued]] = {}
    for one in recorded(folder):
        found.setdefault(one.scheduler, []).append(one)
    return found


def _line(one: Queued, states: Mapping[str, int], folder: Path) -> str:
    text = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    if states.get("FAILED") and not any(folder.glob(f"{one.job}_*log*")):
        text += f"; no shard wrote to {folder}: do the nodes see it?"
    return f"{one.shards} shards: {text or 'ended'}"


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Signals that would end this process wait until the block is left."""
    came: list[int] = []
    before = {ending: signal.signal(ending, lambda number, _: came.append(number)) for ending in _ENDING}
    try:
        yield
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)
        for number in came:
            signal.raise_signal(number)

"""How far the runs into a results folder are, from names, times and small notes alone: no rows are read."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rapbench.core.errors import DataMissing
from rapbench.results.claims import LEASE_SECONDS
from rapbench.results.notes import readable_notes
from rapbench.workers.notes import Failure, Plan

RECENT_SECONDS = 600.0
"""The time over which the rate is measured."""

_BLOCK_FILE = re.compile(r"(\d+)-(\d+)-[0-9a-f]{8}\.parquet")

BlockFiles = Mapping[int, tuple[int, float]]
"""Of the files in a cell's folder: first image -> the image after the last, and when the file was written."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far one plan is.

    Attributes:
        digest: the plan's name.
        parts: of the config that it covers; '' is a run without parts.
        tasks: how many there are; one is a method on a block of images.
        done: with all their rows.
        running: claimed by a worker that is alive.
        failures: of tasks that are not done.
        images_per_second: explained images, one for each method, in the recent past; None where nothing is running.
        seconds_left: at that rate.
    """

    digest: str
    parts: tuple[str, ...]
    tasks: int
    done: int
    running: int
    failures: tuple[Failure, ...]
    images_per_second: float | None
    seconds_left: float | None


def statuses(out: Path) -> list[Status]:
    """How far every plan of a results folder is.

    Raises:
        DataMissing: no such folder.
    """
    if not out.is_dir():
        raise DataMissing(f"no results folder {out}")
    held: dict[str, BlockFiles] = {}
    running = _leased(out / "claims")
    failures = [note for _, note in readable_notes(Failure, _notes(out / "failures"))]
    plans = readable_notes(Plan, _notes(out / "plans"))
    return [_status(plan, out, held, running, failures) for _, plan in plans]


def _status(
    plan: Plan, out: Path, held: dict[str, BlockFiles], running: set[str], failures: Iterable[Failure]
) -> Status:
    images = {task.id: task.images for task in plan.tasks}
    written = {task.id: _written(task.files, out, held) for task in plan.tasks}
    done = {task: when for task, when in written.items() if when is not None}
    at_work = (running & images.keys()) - done.keys()
    rate = _rate([(when, images[task]) for task, when in done.items()]) if at_work else None
    left = sum(images[task] for task in images.keys() - done.keys())
    return Status(
        digest=plan.digest,
        parts=plan.parts,
        tasks=len(images),
        done=len(done),
        running=len(at_work),
        failures=tuple(f for f in failures if f.task in images and f.task not in done),
        images_per_second=rate,
        seconds_left=left / rate if rate else None,
    )


def _written(files: Iterable[str], out: Path, held: dict[str, BlockFiles]) -> float | None:
    """When the last file of a task was written, None where one is missing.

    Args:
        files: the task's, as `folder/first-last`; a longer one with the same first image does as well.
        out: the results folder.
        held: files by folder; folders not seen yet are added.
    """
    latest = 0.0
    for file in files:
        folder, _, block = file.rpartition("/")
        if folder not in held:
            held[folder] = _block_files(out / folder)
        start, stop = (int(number) for number in block.split("-"))
        there, when = held[folder].get(start, (0, 0.0))
        if there < stop:
            return None
        latest = max(latest, when)
    return latest


def _block_files(folder: Path) -> BlockFiles:
    found: dict[int, tuple[int, float]] = {}
    for name, written in _files(folder):
        if match := _BLOCK_FILE.fullmatch(name):
            start, stop = int(match[1]), int(match[2])
            found[start] = max(found.get(start, (0, 0.0)), (stop, written))
    return found


def _rate(done: list[tuple[float, int]]) -> float | None:
    """Images per second since the first task of the recent past, whose own images came before."""
    now = max([time.time(), *(when for when, _ in done)])
    recent = sorted((when, count) for when, count in done if when > now - RECENT_SECONDS)
    images = sum(count for _, count in recent[1:])
    return images / (now - recent[0][0]) if images else None


def _leased(folder: Path) -> set[str]:
    """The tasks that workers hold which have lately shown that they are alive."""
    now = time.time()
    return {name for name, renewed in _files(folder) if name[0] != "." and abs(now - renewed) < LEASE_SECONDS}


def _files(folder: Path) -> Iterator[tuple[str, float]]:
    """Name and time of modification of each file in a folder, but for those that vanish meanwhile."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_file(follow_symlinks=False):
                    yield entry.name, entry.stat(follow_symlinks=False).st_mtime


def _notes(folder: Path) -> list[Path]:
    """The notes of a folder, by name, without those that are being written."""
    return sorted(folder.glob("[!.]*.json"))

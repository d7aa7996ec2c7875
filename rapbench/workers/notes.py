"""What workers note in a results folder for other commands: what a run consists of, and what failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from rapbench.results.notes import Count

BlockName = Annotated[str, Field(pattern=r"^[^/\x00]+/[0-9]{7,15}-[0-9]{7,15}$")]
"""A block file as `folder/first-last`, without the digits of its content."""


@dataclass(frozen=True, kw_only=True)
class PlannedTask:
    """A task of a plan: its name, how many images it explains, and the block files that it writes."""

    id: str
    images: Count
    files: tuple[BlockName, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run consists of, as `plans/<digest>.json` holds it; `parts` are those of its config, '' without any."""

    digest: str
    parts: tuple[str, ...]
    tasks: tuple[PlannedTask, ...]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A task that failed, as `failures/<task>.json` holds it: how often, where last, and what its error said last."""

    task: str
    count: Count
    last_line: str
    host: str

"""The page that the stages of a benchmark write: kept on disk as it grows, so that what was measured stays."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from measured import row


class OutOfTimeError(Exception):
    """The time given to all stages is over."""


@dataclass
class Section:
    """What one stage says: sentences, tables, and the same numbers for a program."""

    title: str
    page: Page
    lines: list[str] = field(default_factory=list)
    data: list[dict[str, object]] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    seconds: float = 0.0

    def say(self, text: str) -> None:
        """A sentence."""
        self.columns = ()
        self.lines += ["", text]
        print(f"  {text}", flush=True)

    def table(self, *columns: str) -> None:
        """The head of a table, whose rows follow."""
        self.columns = columns
        self.lines += ["", row(columns), row(["---"] * len(columns))]
        print(f"  {row(columns)}", flush=True)

    def row(self, *cells: object) -> None:
        """A row of the table begun last; raises OutOfTimeError after it where time is over."""
        line = row(map(_short, cells))
        self.lines.append(line)
        self.data.append(dict(zip(self.columns, cells, strict=True)))
        print(f"  {line}", flush=True)
        self.page.check()


@dataclass
class Page:
    """All sections, and the time that is left for more."""

    folder: Path
    minutes: float
    started: float = field(default_factory=time.monotonic)
    sections: list[Section] = field(default_factory=list)
    ends: float = 0.0

    def left(self) -> float:
        """Seconds until the time of all stages, or of the one that runs, is over."""
        return min(self.started + 60 * self.minutes, self.ends) - time.monotonic()

    def check(self) -> None:
        """Raises OutOfTimeError where it is."""
        if self.left() <= 0:
            raise OutOfTimeError

    def stage(self, title: str, function: Callable[[Section], None], most: float) -> None:
        """Runs a stage for at most so many seconds; whatever happens to it, what it said is kept."""
        section, start = Section(title, self), time.monotonic()
        self.sections.append(section)
        self.ends = start + most
        print(f"\n{title} ({self.left():.0f} s left)", flush=True)
        try:
            self.check()
            function(section)
        except OutOfTimeError:
            section.say("left out from here on: the time for it was over")
        except Exception as error:  # noqa: BLE001 - a stage that fails does not end the others
            section.say(f"failed: {traceback.format_exception_only(error)[-1].strip().splitlines()[-1]}")
            section.data.append({"traceback": traceback.format_exc()})
        section.seconds = time.monotonic() - start
        print(f"  ({section.seconds:.1f} s)", flush=True)
        self.write()

    def write(self) -> None:
        """The page for people and the one for programs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        head = "# Speed and parity on a GPU\n\nMeasured by `scripts/benchmark.py gpu`.\n"
        parts = ["\n".join([f"## {s.title}", *s.lines, "", f"({s.seconds:.0f} s)", ""]) for s in self.sections]
        text = "\n".join([head, *parts])
        (self.folder / "benchmark_gpu.md").write_text(text)
        held = [{"stage": s.title, "seconds": s.seconds, "said": s.lines, "rows": s.data} for s in self.sections]
        (self.folder / "benchmark_gpu.json").write_text(json.dumps(held, indent=1, default=str))


def _short(cell: object) -> str:
    """Three digits of a number, all of one above a thousand."""
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.3g}" if abs(cell) < 1000 else f"{cell:.0f}"

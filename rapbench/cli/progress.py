"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType
from typing import Never

from tqdm import tqdm

from rapbench.core.stages import listening

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_WORTH_A_LINE = 1.0
"""A stage that is over sooner has no line of its own."""


@dataclass
class _Stage:
    """A stage that is at work."""

    name: str
    images: int
    of: str
    start: float
    advanced: int = 0

    def __str__(self) -> str:
        name = f"{self.of}: {self.name}" if self.of else self.name
        if not self.advanced:
            return name
        inside = f"{self.advanced} of {self.images}" if self.advanced <= self.images else f"{self.advanced} inputs"
        return f"{name} ({inside})"


class Ahead:
    """How long the rest of some work will take, by what each stage of it has taken for an image so far."""

    def __init__(self, work: Mapping[str, int]) -> None:
        self._work = work
        self._seconds: Counter[str] = Counter()
        self._images: Counter[str] = Counter()

    def measured(self, stage: str, images: int, seconds: float) -> None:
        """A stage took so many seconds for so many images."""
        self._seconds[stage] += seconds  # type: ignore[assignment]
        self._images[stage] += images

    def seconds(self, current: str = "", images: int = 0, elapsed: float = 0.0) -> float | None:
        """What is left, of which a stage has been at so many images for a time; None while a stage is unmeasured."""
        left = {stage: max(0, count - self._images[stage]) for stage, count in self._work.items()}
        rates = {stage: self._rate(stage) for stage, count in left.items() if count}
        if not rates or None in rates.values():
            return None if rates else 0.0
        begun = min(elapsed, (rates.get(current) or 0.0) * images)
        return max(0.0, sum((rate or 0.0) * left[stage] for stage, rate in rates.items()) - begun)

    def _rate(self, stage: str) -> float | None:
        """Seconds an image; of a method that has not explained yet, those of the others."""
        if self._images[stage]:
            return self._seconds[stage] / self._images[stage]
        kind = stage.partition(" by ")[0]
        alike = [other for other in self._work if kind == "explaining" and other.startswith(f"{kind} by ")]
        count = sum(self._images[other] for other in alike)
        return sum(self._seconds[other] for other in alike) / count if count else None


class ProgressBar:
    """What is at work and, where there is a total, how much of it is done, its rate and the time left.

    A line appears every ten seconds, and where a stage takes longer than one for the first time.
    """

    def __init__(self, total: int = 0, what: str = "images", work: Mapping[str, int] | None = None) -> None:
        """With the images that each stage of the work has to do, the time left is reckoned by stage."""
        self._total, self._what, self._done, self._start = total, what, 0, time.monotonic()
        self._ahead = None if work is None else Ahead(work)
        self._stages: list[_Stage] = []
        self._told: set[str] = set()
        self._last_line = self._start
        self._over, self._within = Event(), ExitStack()
        self._terminal = sys.stderr.isatty()
        self._bar: tqdm[Never] | None = None  # drawn once a tick has come: what is over at once has none
        self._ticker = Thread(target=self._tick, daemon=True)

    def _terminal_bar(self) -> tqdm[Never]:
        counted = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}{postfix}"
        return tqdm(
            total=self._total or None,
            unit=self._what,
            file=sys.stderr,
            dynamic_ncols=True,
            leave=bool(self._total),
            bar_format=counted if self._total else "{desc} {elapsed}",
        )

    def __call__(self, count: int) -> None:
        """So many more of the total are done."""
        self._done = self._done + count if not self._total else min(self._total, self._done + count)

    def begins(self, stage: str, images: int, of: str) -> None:
        """See `Listener`."""
        self._stages.append(_Stage(stage, images, of, time.monotonic()))

    def advances(self, images: int) -> None:
        """See `Listener`."""
        if self._stages:
            self._stages[-1].advanced += images

    def ends(self) -> None:
        """See `Listener`."""
        stage = self._stages.pop()
        if self._ahead:
            self._ahead.measured(stage.name, stage.images, time.monotonic() - stage.start)

    def line(self) -> str:
        """What is at work and how far it is."""
        stage = self._stages[-1] if self._stages else None
        return ": ".join(filter(None, [str(stage or ""), ", ".join(self._counts(stage)) if self._total else ""]))

    def _counts(self, stage: _Stage | None) -> list[str]:
        rate = self._done / max(time.monotonic() - self._start, 1e-9)
        left = self._seconds_left(stage, rate)
        told = [f"{self._done}/{self._total} {self._what}"] + [f"{rate:.1f} {self._what}/s"] * bool(self._done)
        return told if left is None or self._done == self._total else [*told, f"{left:.0f} s left"]

    def _seconds_left(self, stage: _Stage | None, rate: float) -> float | None:
        if self._ahead is None:
            return (self._total - self._done) / rate if rate else None
        if stage is None:
            return self._ahead.seconds()
        return self._ahead.seconds(stage.name, stage.images, time.monotonic() - stage.start)

    def _tick(self) -> None:
        while not self._over.wait(_SECONDS_WORTH_A_LINE / 4):
            stage, now = self._stages[-1:], time.monotonic()
            new = any(s.name not in self._told and now - s.start >= _SECONDS_WORTH_A_LINE for s in stage)
            if self._terminal:
                self._draw()
            elif new or now - self._last_line >= _SECONDS_BETWEEN_LINES:
                self._write(now)

    def _draw(self) -> None:
        stage = self._stages[-1] if self._stages else None
        bar = self._bar = self._terminal_bar() if self._bar is None else self._bar
        bar.n = self._done
        bar.set_description_str(str(stage or ""), refresh=False)
        bar.set_postfix_str(", ".join(self._counts(stage)[1:]), refresh=False)
        bar.refresh()

    def _write(self, now: float) -> None:
        if line := self.line():
            sys.stderr.write(f"{line}\n")
        self._told |= {stage.name for stage in self._stages}
        self._last_line = now

    def __enter__(self) -> ProgressBar:
        self._within.enter_context(listening(self))
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._within.close()
        self._over.set()
        self._ticker.join()
        if self._bar is not None:
            self._draw()
            self._bar.close()
        elif self._total and self._done == self._total:
            self._write(time.monotonic())

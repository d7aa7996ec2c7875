"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class ProgressBar:
    """Counts images, or explanations where every method explains every image, with their rate and the time left."""

    def __init__(self, total: int, what: str = "images") -> None:
        self._total, self._what, self._done, self._start = total, what, 0, time.monotonic()
        self._line_due = self._start + _SECONDS_BETWEEN_LINES
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, unit=f" {what}", file=sys.stderr, dynamic_ncols=True) if terminal else None

    def __call__(self, count: int) -> None:
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif (now := time.monotonic()) >= self._line_due or self._done == self._total:
            rate = self._done / (now - self._start)
            left = (self._total - self._done) / rate
            what = self._what
            sys.stderr.write(f"{self._done}/{self._total} {what}, {rate:.1f} {what}/s, {left:.0f} s left\n")
            self._line_due = now + _SECONDS_BETWEEN_LINES

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

"""What methods and metrics raise during a run: told at once, and again at its end."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from rapbench.run.engine import Fault
    from rapbench.run.plan import Task


class Failures(dict[str, str]):
    """What failed, 'method NAME' or 'metric NAME', with what it said; it is not tried again."""

    def __init__(self, *, debug: bool = False) -> None:
        super().__init__()
        self._debug = debug

    def __call__(self, task: Task, fault: Fault) -> bool:
        """Says it on stderr in one line, with debug also where it was raised."""
        if self._debug:
            said("".join(traceback.format_exception(fault.error)).rstrip())
        self[fault.who] = " ".join(str(fault).split())
        said(f"rapbench: {self[fault.who]}")
        return True


def said(line: str) -> None:
    """A line on stderr, above the progress bar where there is one."""
    tqdm.write(line, file=sys.stderr)

"""Methods and images that wait for a test or break a node or a process; on the command line, code from outside."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from doubles import Squares
from torch import Tensor, nn

from rapbench.core.types import Sample

SECONDS_BETWEEN_LOOKS = 0.1
BLOCK = 32


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The input itself as its relevance; after its first block of images, a process waits until a file is there."""

    title: ClassVar[str] = "Waiting"
    signed: ClassVar[bool] = True
    explained: ClassVar[list[int]] = []

    until: str = field(default="", metadata={"selection": True})  # maps do not depend on it

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        while self.until and sum(self.explained) >= BLOCK and not Path(self.until).exists():
            time.sleep(SECONDS_BETWEEN_LOOKS)
        self.explained.append(len(x))
        return x


@dataclass(frozen=True, kw_only=True)
class BrokenNode:
    """The input itself as its relevance, but not on the first node that tried, which is noted in a file."""

    title: ClassVar[str] = "Broken node"
    signed: ClassVar[bool] = True

    note: str = field(metadata={"selection": True})

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        node, note = os.environ["SLURMD_NODENAME"], Path(self.note)
        if not note.exists():
            note.write_text(node)
        if note.read_text() == node:
            raise RuntimeError(f"lamp out\n{node} is broken")
        return x


@dataclass(frozen=True, kw_only=True)
class Noted(Squares):
    """Bright squares that take their time; notes which process read one, which an image may kill."""

    folder: str = "."
    deadly: int = -1

    def __getitem__(self, index: int) -> Sample:
        (Path(self.folder) / str(os.getpid())).touch()
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(SECONDS_BETWEEN_LOOKS)
        return super().__getitem__(index)

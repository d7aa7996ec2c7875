"""Who works on what: leases in a folder that workers share; those of workers that are gone expire."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Annotated

from pydantic import Field

from rapbench.core.errors import BadConfig, BadData
from rapbench.results.notes import read_note

LEASE_SECONDS = 300.0
"""How long a lease outlives the last sign of its worker."""


def _numbering() -> str:
    """What tells apart the containers of a host, each of which numbers its own processes; empty where none can be."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


@dataclass(frozen=True, kw_only=True)
class _Holder:
    """The process that a lease belongs to: its number, and among which processes that number is known."""

    pid: Annotated[int, Field(gt=0, lt=2**31)]
    host: str = field(default_factory=socket.gethostname)
    numbering: str = field(default_factory=_numbering)

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended."""
        return self == _Holder(pid=self.pid) and not _alive(self.pid)


class Claims:
    """The leases of one worker, renewed in the background until they are released.

    A lease is a file that can be made once. It has expired when its worker is known to be gone (same host, no such
    process) or has not renewed it for the lease's time, whatever it holds. What is no file was never a lease. All times
    are the file system's own, so clocks may differ.
    """

    def __init__(self, folder: Path, lease_seconds: float = LEASE_SECONDS) -> None:
        self._folder, self._seconds = folder, lease_seconds
        self._mine: set[Path] = set()
        self._done = threading.Event()
        self._pulse = folder / f".{uuid.uuid4().hex}"

    def __enter__(self) -> Claims:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._pulse.open("x") as file:
                json.dump(asdict(_Holder(pid=os.getpid())), file)
            self._sweep()
        except OSError as error:
            raise BadConfig(f"cannot write to {self._folder}: {error.strerror}; choose another --out") from error
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._renewing.join()
        for path in [*self._mine, self._pulse]:
            self._give_back(path)

    def take(self, task: str) -> bool:
        """Whether the task is now this worker's."""
        path = self._folder / task
        if self._expired(path):
            self._break(path)
        try:
            os.link(self._pulse, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise BadConfig(f"cannot claim work in {self._folder}: {error.strerror}") from error
        self._mine.add(path)
        return True

    def release(self, task: str) -> None:
        """Gives a task back, done or not."""
        path = self._folder / task
        self._mine.discard(path)
        self._give_back(path)

    def _give_back(self, path: Path) -> None:
        """Removes a lease that is still this worker's: one that outlived its time may be another's by now."""
        with suppress(OSError):
            if path.samefile(self._pulse):
                path.unlink()

    def _expired(self, path: Path) -> bool:
        try:
            status = path.lstat()
            age = self._now() - status.st_mtime
        except OSError:
            return False
        return not stat.S_ISREG(status.st_mode) or abs(age) > self._seconds or _is_left_behind(path)

    def _now(self) -> float:
        """The file system's time."""
        os.utime(self._pulse)
        return self._pulse.stat().st_mtime

    def _sweep(self) -> None:
        """Removes what killed workers of this host have left behind."""
        for path in self._folder.iterdir():
            if _is_left_behind(path):
                self._break(path)

    def _break(self, path: Path) -> None:
        """Removes an expired lease; of several workers that try, one succeeds."""
        grave = self._folder / f".{uuid.uuid4().hex}"
        with suppress(OSError):
            path.rename(grave)
            grave.unlink()

    def _renew(self) -> None:
        """All leases are links to one file: touching it renews them all."""
        while not self._done.wait(self._seconds / 5):
            with suppress(OSError):
                os.utime(self._pulse)


def _is_left_behind(path: Path) -> bool:
    """Whether the process that a file belongs to is known to have ended."""
    with suppress(BadData):
        return read_note(_Holder, path).is_gone
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True

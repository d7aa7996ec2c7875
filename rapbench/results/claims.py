"""Who works on what: leases in a folder that workers share; those of workers that are gone expire."""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rapbench.core.errors import BadConfig

LEASE_SECONDS = 300.0
"""How long a lease outlives the last sign of its worker."""


class Claims:
    """The leases of one worker, renewed in the background until they are released.

    A lease is a file that can be made once. It has expired when its worker is known to be gone (same host, no such
    process) or has not renewed it for the lease's time. All times are the file system's own, so clocks may differ.
    """

    def __init__(self, folder: Path, lease_seconds: float = LEASE_SECONDS) -> None:
        self._folder, self._seconds = folder, lease_seconds
        self._mine: set[Path] = set()
        self._done = threading.Event()
        self._me = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex}
        self._pulse = folder / f".{self._me['id']}"

    def __enter__(self) -> Claims:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._pulse.write_text(json.dumps(self._me))
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
            with suppress(OSError):
                path.unlink()

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
        with suppress(OSError):
            path.unlink()

    def _expired(self, path: Path) -> bool:
        try:
            holder = json.loads(path.read_text())
            age = self._now() - path.stat().st_mtime
        except (OSError, ValueError):
            return False
        gone = holder.get("host") == self._me["host"] and not _alive(holder.get("pid"))
        return gone or age > self._seconds

    def _now(self) -> float:
        """The file system's time."""
        os.utime(self._pulse)
        return self._pulse.stat().st_mtime

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


def _alive(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True

"""What files hold, in digits. A file is read once, and again after it was written to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from rapbench.core.cache import cache_folder
from rapbench.core.errors import BadConfig
from rapbench.core.writing import write_whole

_READERS = 8
Stamp = tuple[int, int]
"""Size, and time of the last modification in nanoseconds."""


def content_digests(files: Iterable[Path]) -> list[str]:
    """16 hexadecimal digits of BLAKE2 over each file's content, 'missing' for one that cannot be read.

    They are remembered in the cache folder by place, size and time of modification: of a data set, only files that have
    changed since are read.
    """
    paths = [file.absolute() for file in files]
    memory = cache_folder() / "contents" / f"{_short(b''.join(os.fsencode(path) for path in paths))}.json"
    known, stamps = _remembered(memory), [_stamp(path) for path in paths]
    fresh = [
        path for path, stamp in zip(paths, stamps, strict=True) if stamp and known.get(str(path), ())[:2] != (*stamp,)
    ]
    with ThreadPoolExecutor(_READERS) as pool:
        read = dict(zip(fresh, pool.map(_digest, fresh), strict=True))
    found = [
        "missing" if stamp is None else read[path] if path in read else str(known[str(path)][2])
        for path, stamp in zip(paths, stamps, strict=True)
    ]
    if fresh:
        _remember(memory, paths, stamps, found)
    return found


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    except OSError:
        return "missing"


def _short(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _remembered(memory: Path) -> Mapping[str, tuple[object, ...]]:
    """What an earlier call found, by path; nothing where its note is not there or not whole."""
    try:
        held = json.loads(memory.read_text())
        return {str(path): (int(size), int(when), str(digest)) for path, (size, when, digest) in held.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _remember(memory: Path, paths: Sequence[Path], stamps: Sequence[Stamp | None], found: Sequence[str]) -> None:
    """Writes a note for later calls; where the cache cannot be written, they read the files again."""
    note = {
        str(path): (*stamp, digest)
        for path, stamp, digest in zip(paths, stamps, found, strict=True)
        if stamp and digest != "missing"
    }
    with suppress(BadConfig):
        write_whole(memory, json.dumps(note).encode())

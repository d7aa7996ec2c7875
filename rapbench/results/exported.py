"""A folder of rows for others, read as the results folder that it holds, once its checksums are seen to hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from rapbench.core.errors import BadData

CELLS = "cells"
"""The results folder in an exported one."""
SUMS = "SHA256SUMS"
"""The checksums of all its other files, which are written last."""


def results_folder(root: Path) -> Path:
    """The folder whose cells are read: of an exported one that which it holds, and else itself.

    Raises:
        BadData: an exported folder is half written, or holds other files than were written.
    """
    if not is_exported(root):
        return root
    cells, sums = root / CELLS, _sums(root / SUMS)
    if not any(name.startswith(f"{CELLS}/") for name in sums):
        raise BadData("no export of rapbench", root, f"its {SUMS} names no {CELLS}")
    for name, digest in sums.items():
        if digest != _digest(root / name):
            raise BadData("damaged export", root / name, "export the rows again, or copy the folder again")
    for path in _files(cells):
        if path.relative_to(root).as_posix() not in sums:
            raise BadData("file in an export that it did not write", path, "move it away")
    return cells


def is_exported(root: Path) -> bool:
    """Whether a folder is an exported one, whole or not."""
    return (root / CELLS).is_dir() or (root / SUMS).is_file()


def listed(root: Path) -> frozenset[str]:
    """The files that the export in a folder wrote, its checksums included; none where there is none that is whole."""
    try:
        return frozenset({*_sums(root / SUMS), SUMS})
    except BadData:
        return frozenset()


def _sums(path: Path) -> dict[str, str]:
    """Digests by name, as `sha256sum` writes them."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadData("half-written export", path.parent, f"it has no {SUMS} that can be read") from error
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _digest(path: Path) -> str | None:
    """Of a file's content; None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if not path.is_dir())

"""This machine: its libraries, its memory, and the disk of the results folder."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from rapbench import __version__
from rapbench.core.errors import BadConfig
from rapbench.doctor.finding import Finding, Level, shown

_LIBRARIES = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "pillow")
_LITTLE_MEMORY, _LITTLE_DISK = 2**31, 2**30
"""Bytes that a batch through VGG-16, and the rows of 10,000 images with all metrics, stay well below."""


def libraries() -> Finding:
    """Whether the libraries import, and which versions they have."""
    try:
        import torchvision  # noqa: F401 - imports torch, and breaks beside a torch of another build
    except (ImportError, RuntimeError, OSError) as error:
        told = f"torch and torchvision do not import ({error}): install the two as a pair from one package index"
        return Finding(level="FAIL", subject="libraries", message=" ".join(told.split()))
    found = {
        "Python": platform.python_version(),
        "rapbench": __version__,
        **{name: version(name) for name in _LIBRARIES},
    }
    message = ", ".join(f"{name} {number}" for name, number in found.items())
    return Finding(level="ok", subject="libraries", message=message)


def memory() -> Finding:
    """How much memory is free."""
    free = _free_memory()
    if free >= _LITTLE_MEMORY:
        return Finding(level="ok", subject="memory", message=f"{shown(free)} free")
    message = f"{shown(free)} free: large networks need more; end other programs, or pass --batch-size 1"
    return Finding(level="warn", subject="memory", message=message)


def _free_memory() -> int:
    """Bytes that the system can give."""
    table = Path("/proc/meminfo")
    if table.exists():
        kilobytes = dict(line.split(":", 1) for line in table.read_text().splitlines())
        return int(kilobytes["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def disk(out: Path) -> list[Finding]:
    """Whether the results folder, or the nearest folder above it that exists, can be written."""
    folder = next(path for path in (out, *out.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise BadConfig(f"{out} cannot be written ({error.strerror}): choose another --out") from error
    level: Level = "ok" if free >= _LITTLE_DISK else "warn"
    advice = "" if level == "ok" else "; rows of a full data set may not fit, choose another --out"
    return [Finding(level=level, subject="disk", message=f"{out} can be written, {shown(free)} free{advice}")]

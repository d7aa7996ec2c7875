"""Weight files from the net: where they are kept, and what to do where there is none."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import torch

from rapbench.core.errors import DataMissing

_SECONDS_WITHOUT_A_BYTE = 30.0


def cached(name: str) -> Path:
    """Where PyTorch keeps a weight file of that name."""
    return Path(torch.hub.get_dir(), "checkpoints", name)


def download(url: str, file: Path, what: str, *, checksum: str | None = None) -> None:
    """Brings a weight file here.

    Args:
        url: where it is.
        file: where it will be.
        what: weights and network, for the error.
        checksum: first digits of its SHA-256.

    Raises:
        DataMissing: it cannot be brought, or is another file; the message says where to put it.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _impatient():
            torch.hub.download_url_to_file(url, str(file), hash_prefix=checksum, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataMissing(
            f"cannot download {what} ({error}): put {file.name} into {file.parent}, or pass its path as --weights"
        ) from error


@contextmanager
def _impatient() -> Iterator[None]:
    """Lets what is read from the net fail after a while without a byte; torch has no such option."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS_WITHOUT_A_BYTE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

"""Where what is computed once for all runs is kept."""

import os
import tempfile
from pathlib import Path

from rapbench.core.errors import BadConfig


def cache_folder() -> Path:
    """The folder that RAPBENCH_CACHE names, `~/.cache/rapbench` by default."""
    return Path(os.environ.get("RAPBENCH_CACHE") or "~/.cache/rapbench").expanduser()


def refuse_unwritable(folder: Path, cure: str) -> None:
    """Tries a folder before what is to be kept in it is computed; it is made if it is not there.

    Args:
        folder: where a file will be written.
        cure: what to do where that cannot be.

    Raises:
        BadConfig: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadConfig(f"cannot write into {folder} ({error.strerror}): {cure}") from error

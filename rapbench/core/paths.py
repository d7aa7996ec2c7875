"""Paths as a user types them, on the command line, in a config or in brackets."""

from __future__ import annotations

from pathlib import Path


def typed_path(text: str | Path) -> Path:
    """The path that was meant: `~` is the home folder.

    Raises:
        ValueError: it is empty, or one that this system cannot have or look at.
    """
    if not str(text) or "\0" in str(text):
        raise ValueError(f"a path is needed, not {str(text)!r}")
    try:
        path = Path(text).expanduser()
        path.exists()
    except OSError as error:
        raise ValueError(f"{error.strerror}: {str(text)[:80]}") from error
    except RuntimeError as error:  # of a user who is not known here
        raise ValueError(f"{error} {text}") from error
    return path

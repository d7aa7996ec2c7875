"""Paths as a user types them, on the command line, in a config or in brackets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator


def typed_path(text: str | Path) -> Path:
    """The path that was meant: `~` is the home folder.

    Raises:
        ValueError: it is empty, not in UTF-8, which not every library can open, or one that this system cannot have.
    """
    name = str(text)
    if not name or "\0" in name or name.encode(errors="replace").decode() != name:
        raise ValueError(f"a path in UTF-8 is needed, not {name!r}")
    try:
        path = Path(name).expanduser()
        path.exists()
    except OSError as error:
        raise ValueError(f"{error.strerror}: {name[:80]}") from error
    except RuntimeError as error:  # of a user who is not known here
        raise ValueError(f"{error} {name}") from error
    return path


def _as_path(value: object) -> object:
    return typed_path(value) if isinstance(value, str) else value


TypedPath = Annotated[Path, BeforeValidator(_as_path)]
"""A field or parameter that holds such a path."""


def stem_of(name: str) -> str:
    """A name as part of a file's name: each run of what is neither letter, digit nor `_.=-` is a hyphen."""
    return re.sub(r"[^\w.=-]+", "-", name).strip("-")

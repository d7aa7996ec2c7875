"""Small JSON files by which workers and commands tell each other things; a damaged one takes no other along."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from rapbench.core.errors import BadData

_LOG = logging.getLogger(__name__)

N = TypeVar("N")
Count = Annotated[int, Field(ge=0, lt=2**31)]


def read_note(kind: type[N], path: Path) -> N:
    """What a note holds, of the types that its kind, a dataclass, says.

    Raises:
        BadData: it cannot be read, or holds something else.
    """
    if not path.is_file():  # nothing is waited for that a pipe may bring
        raise BadData("not a file", path)
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise BadData("unreadable note", path, str(error.strerror)) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadData("damaged note", path, f"{where}: {first['msg']}" if where else first["msg"]) from error


def readable_notes(kind: type[N], paths: Iterable[Path]) -> Iterator[tuple[Path, N]]:
    """The notes that can be read, each with its path; the others are named in the log."""
    for path in paths:
        try:
            yield path, read_note(kind, path)
        except BadData as error:
            _say(f"{error}: left out, delete it to be rid of this line")


@cache
def _say(line: str) -> None:
    """Once a process, which may look again and again."""
    _LOG.warning(line)

"""Parameters that are files: typed as paths, told apart by what they hold."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, Generic, Protocol, Self, TypeVar, Union, get_args, get_origin


class Content(Protocol):
    """What a file holds that a method or metric takes."""

    @classmethod
    def load(cls, file: Path) -> Self:
        """The content of a file; an error of the package where it is missing or holds something else."""
        ...

    @property
    def digest(self) -> str:
        """Changes when numbers that rest on the content may: enters the key of every result."""
        ...


C = TypeVar("C", bound=Content)


@dataclass(frozen=True)
class File(Generic[C]):
    """A file of some kind of content. It is read when first needed, and again after it was written to.

    Attributes:
        kind: the class of its content.
        path: as typed.
    """

    kind: type[C]
    path: Path

    def read(self) -> C:
        """What the file holds."""
        content: C = _content(self.kind, self.path, self.stamp)
        return content

    @property
    def digest(self) -> str:
        """The content's digest, wherever the file lies."""
        return _digest(self.kind, self.path, self.stamp)

    @property
    def stamp(self) -> Hashable:
        """What changes when the file, or what is in the folder, does; None where there is none."""
        if not self.path.exists():
            return None
        status = self.path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino

    def __str__(self) -> str:
        return str(self.path)


def file_kind(hint: object) -> type[Content] | None:
    """The kind of content in a field's type, `File[kind]` or a union with it; None where it takes no file."""
    for member in _members(hint):
        if get_origin(member) is File:
            kind: type[Content] = get_args(member)[0]
            return kind
    return None


def without_file(hint: object) -> Any:
    """What else a field may hold; where that is nothing, what no text is."""
    rest = tuple(member for member in _members(hint) if get_origin(member) is not File)
    return Union[rest] if rest else File  # noqa: UP007 - of a tuple


def _members(hint: object) -> tuple[object, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


@lru_cache(maxsize=1)  # patterns of a large network take as much memory as the network
def _content(kind: Any, path: Path, stamp: Hashable) -> Any:  # noqa: ARG001 - part of the cache's key
    return kind.load(path)


@lru_cache(maxsize=64)
def _digest(kind: Any, path: Path, stamp: Hashable) -> str:
    digest: str = _content(kind, path, stamp).digest
    return digest

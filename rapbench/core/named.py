"""Methods, metrics and data sets under the names that a user types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from rapbench.core.catalogue import Call
from rapbench.core.files import File

T = TypeVar("T")

LATER = {"later": True}
"""Metadata of a parameter that came after rows had been stored: at its default it leaves no trace in their keys."""


@dataclass(frozen=True)
class Named(Generic[T]):
    """A method, metric or data set with its catalogue name."""

    name: str
    thing: T
    given: frozenset[str] = frozenset()
    """Parameters that are not the user's to set."""

    @property
    def label(self) -> str:
        """`name(parameter=value, ...)` with what numbers depend on and is no default, in the order of the fields.

        It can be typed: a file is written as its path.
        """
        return self._label(str)

    @property
    def folder(self) -> str:
        """The label as the name of a folder, the same for files that hold the same: the first digits of a digest."""
        return self._label(lambda file: file.digest[:8])

    @property
    def digest(self) -> str | None:
        """Of the files that it takes, None where it takes none."""
        values = _values(self.thing).values()
        return " ".join(value.digest for value in values if isinstance(value, File)) or None

    def _label(self, written: Callable[[File[Any]], str]) -> str:
        defaults = _defaults(self.thing)
        chosen = {key: value for key, value in _values(self.thing).items() if value != defaults[key]}
        texts = {key: written(v) if isinstance(v, File) else str(v) for key, v in chosen.items()}
        return str(Call(self.name, {key: text for key, text in texts.items() if key not in self.given}))


def parameters(thing: Any) -> dict[str, Any]:
    """The parameters that numbers depend on, defaults included.

    A file counts by its digest, which is not among them: where there is something else to choose, it is the word
    'file', and else it is left out. So is the path of images, which count by their fingerprint, and a parameter that
    came later and is at its default.
    """
    defaults = _defaults(thing)
    later = {field.name for field in fields(thing) if "later" in field.metadata}
    values = {
        key: value
        for key, value in _values(thing).items()
        if not isinstance(value, Path) and not (key in later and value == defaults[key])
    }
    kept = {key: value for key, value in values.items() if not isinstance(value, File) or defaults[key] is not None}
    return {key: "file" if isinstance(value, File) else value for key, value in kept.items()}


def _values(thing: Any) -> dict[str, Any]:
    return {field.name: getattr(thing, field.name) for field in fields(thing) if "selection" not in field.metadata}


def _defaults(thing: Any) -> dict[str, Any]:
    """The default of each field, None where it has none."""
    return {field.name: None if field.default is MISSING else field.default for field in fields(thing)}


def said_of(cls: type, parameter: str) -> str:
    """What a class, or one that it inherits from, says of a parameter under Attributes; may be empty."""
    for one in cls.__mro__:
        attributes = inspect.cleandoc(one.__doc__ or "").partition("\nAttributes:\n")[2].partition("\n\n")[0]
        found = re.search(rf"^    {parameter}: (.*(?:\n     .*)*)", attributes, re.MULTILINE)
        if found:
            return " ".join(found[1].split())
    return ""

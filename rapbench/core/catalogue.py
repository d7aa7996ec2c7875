"""Names of methods, models, datasets and metrics, resolved lazily: listing them imports nothing."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple, get_type_hints

from rapbench.core.errors import BadConfig, UnknownName


class Call(NamedTuple):
    """A name with parameters, as typed: `perturbation(space=raw)`."""

    name: str
    parameters: dict[str, str]

    def __str__(self) -> str:
        inner = ", ".join(f"{key}={value}" for key, value in self.parameters.items())
        return f"{self.name}({inner})" if inner else self.name


_CALL = re.compile(r"\s*([\w.:]+)\s*(?:\((.*)\))?\s*", re.DOTALL)


def parse_call(text: str) -> Call:
    """The name and parameters of `name` or `name(key=value, ...)`.

    Raises:
        BadConfig: the text has another form.
    """
    match = _CALL.fullmatch(text)
    if not match:
        raise BadConfig(f"cannot read {text!r}: write name or name(parameter=value, ...)")
    parameters: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in (match[2] or "").split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value) or key in parameters:
            raise BadConfig(f"cannot read {part!r} in {text!r}: write name(parameter=value, ...), each parameter once")
        parameters[key] = value.strip("'\"")
    return Call(match[1], parameters)


def split_calls(texts: list[str]) -> list[Call]:
    """The calls of options that were repeated, joined by commas, or both; commas in brackets separate parameters."""
    parts = [part for text in texts for part in re.split(r",(?![^()]*\))", text)]
    return [parse_call(part) for part in parts if part.strip()]


def nearest(name: str, known: list[str]) -> str:
    """The sentence that helps after a wrong name: the nearest one, or all of them."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known) or 'none'}"


@dataclass(frozen=True)
class Entry:
    """Where a catalogue's name leads (`module:attribute`) and one line on what it is."""

    target: str
    summary: str


class Catalogue(Mapping[str, Entry]):
    """The names of one kind of thing, each leading to a class or function that is imported when first needed."""

    def __init__(self, kind: str, entries: Mapping[str, Entry]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, name: str) -> Any:
        """The class or function behind a name, or behind `module:attribute` for code from outside.

        Raises:
            UnknownName: no such name; the message offers the nearest.
        """
        target = name if ":" in name else self[name].target if name in self else ""
        if not target:
            raise UnknownName(f"no {self.kind} named {name!r}: {nearest(name, list(self))}")
        module, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ModuleNotFoundError, AttributeError) as error:
            if ":" not in name:
                raise
            raise UnknownName(f"cannot load {self.kind} {name!r}: {error}") from error

    def build(self, call: Call, **given: object) -> Any:
        """An instance of the frozen dataclass behind a call; `given` are fields that are not the user's to set.

        Raises:
            UnknownName: no such name.
            BadConfig: no such parameter (the message offers the nearest), or a value of the wrong type or range.
        """
        from pydantic import TypeAdapter, ValidationError

        cls = self.load(call.name)
        if not (isinstance(cls, type) and is_dataclass(cls)):
            raise BadConfig(f"{self.kind} {call.name} must be a dataclass whose fields are its parameters")
        known = [field.name for field in fields(cls) if field.init and field.name not in given]
        for key in call.parameters:
            if key not in known:
                raise BadConfig(f"{self.kind} {call.name} has no parameter {key!r}: {nearest(key, known)}")
        hints = get_type_hints(cls)
        values = {}
        for key, text in call.parameters.items():
            try:
                values[key] = TypeAdapter(hints[key]).validate_python(_plain(text))
            except ValidationError as error:
                raise BadConfig(f"{self.kind} {call.name}: {key}={text}: {error.errors()[0]['msg']}") from error
        try:
            return cls(**values, **given)
        except ValueError as error:
            raise BadConfig(f"{self.kind} {call}: {error}") from error


def _plain(text: str) -> object:
    return None if text.lower() == "none" else text

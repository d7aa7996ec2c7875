"""Names of methods, models, datasets and metrics, resolved lazily: listing them imports nothing."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple, get_type_hints

from rapbench.core.errors import BadConfig, UnknownName
from rapbench.core.files import File, file_kind, without_file
from rapbench.core.outside import folderless, outside_module, own_names
from rapbench.core.paths import typed_path

# Repetitions are possessive: text of another form is refused at once, however long it is.
_QUOTED = r""""(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'"""
_BARE = r"""(?!\s*["'])(?:[^,()]|\([^,()]*+\))++"""
_PARAMETER = rf"\s*+(\w++)\s*+=\s*+({_QUOTED}|{_BARE})\s*+"
_PARAMETERS = rf"{_PARAMETER}(?:,{_PARAMETER})*+,?"
_NAME = r"(?:.*\.py:)?[\w.:]++"
_CALL = re.compile(rf"\s*+({_NAME})\s*+(?:\(({_PARAMETERS})?\s*+\)\s*+)?", re.DOTALL)
_JOINED = re.compile(rf"(?:\((?:=\s*+(?:{_QUOTED})|\([^()]*+\)|[^()])*+\)|[^,])++", re.DOTALL)
"""A call as far as the next comma that separates two."""
_PLAIN = re.compile(r"""[^\s,()"'\\]+(?: [^\s,()"'\\]+)*""")
"""A value that is written as it is; others are quoted."""


class Call(NamedTuple):
    """A name with parameters, as typed: `perturbation(space=raw)`."""

    name: str
    parameters: dict[str, str]

    def __str__(self) -> str:
        """The text that `parse_call` reads the same call from."""
        inner = ", ".join(f"{key}={_written(value)}" for key, value in self.parameters.items())
        return f"{self.name}({inner})" if inner else self.name


def _written(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    escaped = re.sub(r"(['\\])", r"\\\1", value)
    return f"'{escaped}'"


def _meant(text: str) -> str:
    """The value that is written so."""
    text = text.strip()
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if text[0] in "\"'" else text


def parse_call(text: str) -> Call:
    """The name and parameters of `name` or `name(key=value, ...)`; values with commas, brackets or spaces in quotes.

    Raises:
        BadConfig: the text has another form.
    """
    match = _CALL.fullmatch(text)
    pairs = re.findall(_PARAMETER, match[2] or "", re.DOTALL) if match else []
    parameters = {key: _meant(value) for key, value in pairs if value.strip()}
    if not match or len(parameters) < len(pairs):
        raise BadConfig(f"cannot read {text!r}: write name or name(parameter=value, ...), each parameter once")
    return Call(match[1], parameters)


def placeless(text: str) -> str:
    """A network's call as tables name it wherever its files lie: without the folders of its code and class names."""
    call = parse_call(text)
    parameters = {key: folderless(value) if key == "classes" else value for key, value in call.parameters.items()}
    return str(Call(folderless(call.name), parameters))


def split_calls(texts: list[str]) -> list[Call]:
    """The calls of options that were repeated, joined by commas, or both; commas in brackets separate parameters."""
    parts = [part for text in texts for part in _JOINED.findall(text)]
    return [parse_call(part) for part in parts if part.strip()]


def nearest(name: str, known: list[str]) -> str:
    """The sentence that helps after a wrong name: the nearest one, or all of them."""
    written = {one.casefold(): one for one in known}
    close = get_close_matches(name.casefold(), written, n=1)
    return f"did you mean {written[close[0]]}?" if close else f"known: {', '.join(known) or 'none'}"


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
        """The class or function behind a name, or behind `module:attribute` or `file.py:attribute` from outside.

        Raises:
            UnknownName: no such name; the message offers the nearest.
            DataMissing: no such file.
            BadConfig: code from outside cannot be read or raises.
        """
        self.refuse_unknown(name)
        if ":" in name:
            return self._outside(name)
        module, _, attribute = self[name].target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def refuse_unknown(self, name: str) -> None:
        """Says what was meant where a name is none of these; code from outside is looked for when it is loaded.

        Raises:
            UnknownName: no such name; the message offers the nearest.
        """
        if ":" not in name and name.endswith(".py"):
            raise UnknownName(f"no {self.kind} named {name!r}: of a file, write {name}:NAME with a name in it")
        if ":" not in name and name not in self:
            raise UnknownName(f"no {self.kind} named {name!r}: {nearest(name, list(self))}")

    def _outside(self, name: str) -> Any:
        module, attribute = outside_module(self.kind, name), name.rpartition(":")[2]
        if not hasattr(module, attribute):
            hint = nearest(attribute, own_names(module))
            raise UnknownName(f"cannot load {self.kind} {name!r}: no {attribute!r} in it: {hint}")
        return getattr(module, attribute)

    def build(self, call: Call, **given: object) -> Any:
        """An instance of the frozen dataclass behind a call; `given` are fields that are not the user's to set.

        Raises:
            UnknownName: no such name.
            BadConfig: no such parameter (the message offers the nearest), one is missing, or a value of the wrong type
                or range.
        """
        cls = self.load(call.name)
        if not (isinstance(cls, type) and is_dataclass(cls)):
            raise BadConfig(f"{self.kind} {call.name} must be a dataclass whose fields are its parameters")
        self._check(call, [field for field in fields(cls) if field.init and field.name not in given])
        hints = get_type_hints(cls, include_extras=True)
        values = {key: self._value(call, key, hints[key]) for key in call.parameters}
        try:
            return cls(**values, **given)
        except ValueError as error:
            raise BadConfig(f"{self.kind} {call}: {error}") from error

    def _check(self, call: Call, own: list[Field[Any]]) -> None:
        known = [field.name for field in own]
        for key in call.parameters:
            if key not in known:
                raise BadConfig(f"{self.kind} {call.name} has no parameter {key!r}: {nearest(key, known)}")
        for field in own:
            if field.default is field.default_factory is MISSING and field.name not in call.parameters:
                raise BadConfig(f"{self.kind} {call.name} needs a value: write {call.name}({field.name}=...)")

    def _value(self, call: Call, key: str, hint: object) -> object:
        from pydantic import ValidationError

        text = call.parameters[key]
        try:
            return _read(text, hint)
        except ValueError as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise BadConfig(f"{self.kind} {call.name}: {key}={text}: {said}") from error


def _read(text: str, hint: object) -> object:
    """A parameter of the type of its field; what is nothing else that the field may hold is the path of a file.

    Raises:
        ValueError: it is none of these.
    """
    from pydantic import TypeAdapter, ValidationError

    from rapbench.core.ranges import within_reach

    kind = file_kind(hint)
    try:
        value = TypeAdapter(without_file(hint)).validate_python(None if text.lower() == "none" else text)
    except ValidationError:
        if kind is None:
            raise
        file = File(kind, typed_path(text))
        file.read()  # a file that is missing or holds something else is said now
        return file
    return within_reach(value)

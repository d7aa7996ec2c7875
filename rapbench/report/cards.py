"""Paper cards: the tables a paper printed, and what each cell of them means here."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rapbench.core.catalogue import nearest, parse_call
from rapbench.core.errors import BadConfig, UnknownName


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Part):
    """A method of a table.

    Attributes:
        name: the catalogue's name of the method, or any other name where the paper quotes a number from elsewhere.
        title: as the paper prints it.
        method: the method as it is run, with the parameters that are no defaults; a value * stands for any. None for a
            quoted number.
        control: whether the row is a control, which no paper's number stands beside.
    """

    name: str
    title: str
    method: str | None = None
    control: bool = False

    @model_validator(mode="after")
    def _named_after_its_method(self) -> Self:
        if self.method is not None and parse_call(self.method).name != self.name:
            raise ValueError(f"row {self.name!r} runs another method, {self.method}")
        return self


class Column(_Part):
    """A number that a table gives of every method.

    Attributes:
        name: short and unique in its table.
        title: as the paper prints it.
        published_for: network and images of the published numbers.
        dataset: data set that rows are computed on, as `rapbench run` takes it.
        model: network, by its catalogue name.
        also: names of networks that are no less the paper's.
        metric: metric, as `rapbench run` takes it.
        variant: the metric's variant that the paper describes.
        readings: patterns of the variants that could be meant instead.
        published: row name -> the paper's number.
        methods: row name -> method that stands for the row in this column instead of the row's own.
    """

    name: str
    title: str
    published_for: str
    dataset: str
    model: str
    also: tuple[str, ...] = ()
    metric: str
    variant: str
    readings: tuple[str, ...] = ("*",)
    published: dict[str, float] = Field(default_factory=dict)
    methods: dict[str, str] = Field(default_factory=dict)


class Table(_Part):
    """A paper's table.

    Attributes:
        title: what it is about.
        source: where it is printed.
        config: file that `rapbench run --config` computes it with.
        sweep_config: the same for the readings of a sweep that the table itself does not need.
        weights: names of the weights that stand for the paper's.
        notes: what to know before comparing.
        rows: its methods, in order.
        columns: its numbers, in order.
    """

    title: str
    source: str
    config: str
    sweep_config: str
    weights: tuple[str, ...]
    notes: tuple[str, ...] = ()
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        rows = _unique([row.name for row in self.rows], "row")
        _unique([column.name for column in self.columns], "column")
        for column in self.columns:
            for name in (*column.published, *column.methods):
                if name not in rows:
                    raise ValueError(f"column {column.name!r} speaks of row {name!r}: {nearest(name, rows)}")
        return self

    def call(self, row: Row, column: Column) -> str | None:
        """The method that a cell is computed with."""
        return column.methods.get(row.name, row.method)


def _unique(names: list[str], kind: str) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {kind}s named {name!r}")
    return names


def card(name: str) -> Table:
    """The table of that name, for example 'rap2020/table1'.

    Raises:
        UnknownName: no such table; the message offers the nearest.
        BadConfig: the card is not well formed.
    """
    known = {f"{paper}/{key}": section for paper, text in _papers().items() for key, section in _tables(paper, text)}
    if name not in known:
        raise UnknownName(f"no table named {name!r}: {nearest(name, list(known))}")
    return parsed(name, known[name])


def parsed(name: str, section: dict[str, Any]) -> Table:
    """A table from its section of a card.

    Raises:
        BadConfig: the section is not well formed; the message says where.
    """
    try:
        return Table.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise BadConfig(f"card {name}{': ' if place else ''}{place}: {message}") from error


def _papers() -> dict[str, str]:
    folder = files("rapbench") / "papers"
    return {file.name.removesuffix(".toml"): file.read_text("utf-8") for file in folder.iterdir()}


def _tables(paper: str, text: str) -> list[tuple[str, dict[str, Any]]]:
    """The sections of a card that are tables; others hold figures."""
    try:
        sections = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"card {paper}: {error}") from error
    return [(key, part) for key, part in sections.items() if isinstance(part, dict) and "columns" in part]

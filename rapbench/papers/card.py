"""Paper cards: the tables and figures a paper printed, what each number means here, and the runs that compute them."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from rapbench.core.catalogue import nearest, parse_call
from rapbench.core.errors import BadConfig, UnknownName
from rapbench.papers import PAPERS

if TYPE_CHECKING:
    from rapbench.report.figures import FigureKind


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Section):
    """A method of a table.

    Attributes:
        name: the catalogue's name of the method, or any other name where the paper quotes a number from elsewhere.
        title: as the paper prints it.
        method: the method as it is run, with the parameters that are no defaults; a value * stands for any. None for a
            quoted number.
        control: whether the row is a control.
        run: whether the table's run computes it; not where something has to be prepared first.
    """

    name: str
    title: str
    method: str | None = None
    control: bool = False
    run: bool = True

    @model_validator(mode="after")
    def _named_after_its_method(self) -> Self:
        if self.method is not None and parse_call(self.method).name != self.name:
            raise ValueError(f"row {self.name!r} runs another method, {self.method}")
        return self


class Part(_Section):
    """One network on one set of images: a part of a table's run, which its columns share.

    Attributes:
        name: short and unique in its table.
        published_for: network and images of the published numbers.
        dataset: data set that rows are computed on, as `rapbench run` takes it.
        model: network, by its catalogue name.
        also: names of networks that are no less the paper's.
        metric: metric, as `rapbench run` takes it.
        select: which images, as `rapbench run` takes it.
        target: which class is explained, likewise.
        limit: how many; all by default.
        methods: row name -> method that stands for the row in this part instead of the row's own.
    """

    name: str
    published_for: str
    dataset: str
    model: str
    also: tuple[str, ...] = ()
    metric: str
    select: str = "all"
    target: str = "predicted"
    limit: int | None = None
    methods: dict[str, str] = Field(default_factory=dict)


class Column(_Section):
    """A number that a table gives of every method.

    Attributes:
        name: short and unique in its table.
        title: as the paper prints it.
        part: what it is measured on.
        variant: the metric's variant that the paper describes.
        readings: patterns of the variants that could be meant instead.
        published: row name -> the paper's number.
    """

    name: str
    title: str
    part: Part
    variant: str
    readings: tuple[str, ...] = ("*",)
    published: dict[str, float] = Field(default_factory=dict)


class Sweep(_Section):
    """What a sweep of readings computes besides the table's own rows.

    Attributes:
        method: methods as they may have been meant or implemented otherwise.
        methods: part name -> methods that stand for them in this part.
        metric: metrics as they may have been meant, which are computed of the table's rows too.
        metrics: part name -> metrics that stand for them in this part.
    """

    method: tuple[str, ...] = ()
    methods: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    metric: tuple[str, ...] = ()
    metrics: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Table(_Section):
    """A paper's table.

    Attributes:
        title: what it is about.
        source: where it is printed.
        weights: names of the weights that stand for the paper's.
        notes: what to know before comparing.
        rows: its methods, in order.
        parts: what its columns are measured on; a column names its part.
        columns: its numbers, in order.
        against: row that the others are compared with unless another is asked for; the first with a method if empty.
        sweep: what else its cells could mean.
    """

    title: str
    source: str
    weights: tuple[str, ...]
    notes: tuple[str, ...] = ()
    rows: tuple[Row, ...]
    parts: tuple[Part, ...]
    columns: tuple[Column, ...]
    against: str = ""
    sweep: Sweep | None = None

    @model_validator(mode="before")
    @classmethod
    def _parts_of_columns(cls, section: Any) -> Any:
        """A column's part by its name."""
        parts = {part.get("name"): part for part in section.get("parts", ())}
        columns = [
            {**column, "part": _member(parts, column["part"], f"column {column.get('name')!r} is of part")}
            if isinstance(column.get("part"), str)
            else column
            for column in section.get("columns", ())
        ]
        return {**section, "columns": columns}

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        rows = _unique([row.name for row in self.rows], "row")
        parts = _unique([part.name for part in self.parts], "part")
        _unique([column.name for column in self.columns], "column")
        spoken = [(f"part {part.name!r}", name) for part in self.parts for name in part.methods]
        spoken += [(f"column {column.name!r}", name) for column in self.columns for name in column.published]
        spoken += [("against", self.against)] if self.against else []
        for who, name in spoken:
            _member(dict.fromkeys(rows), name, f"{who} speaks of row")
        for name in (*self.sweep.methods, *self.sweep.metrics) if self.sweep else ():
            _member(dict.fromkeys(parts), name, "the sweep speaks of part")
        return self

    def call(self, row: Row, part: Part) -> str | None:
        """The method that a row is computed with in a part."""
        return part.methods.get(row.name, row.method)

    @property
    def reference(self) -> str:
        """Name of the row that the others are compared with."""
        return self.against or next(row.name for row in self.rows if row.method)

    @property
    def run(self) -> dict[str, Any]:
        """What computes it, as a config file of `rapbench run` says it."""
        return {"part": [_settings(part, self._methods(part)) for part in self.parts]}

    @property
    def sweep_run(self) -> dict[str, Any]:
        """What computes the readings of the sweep that need rows of their own, likewise.

        Raises:
            BadConfig: the card has no sweep.
        """
        if self.sweep is None:
            raise BadConfig(f"{self.source} has no sweep")
        return {"part": [self._swept(part, self.sweep) for part in self.parts]}

    def _methods(self, part: Part) -> list[str]:
        """The methods that are run in a part."""
        return [call for row in self.rows if row.run and (call := self.call(row, part))]

    def _swept(self, part: Part, sweep: Sweep) -> dict[str, Any]:
        metrics = sweep.metrics.get(part.name, sweep.metric)
        rows = self._methods(part) if metrics else []
        return _settings(part, [*rows, *sweep.methods.get(part.name, sweep.method)], metrics)


def _settings(part: Part, methods: list[str], metrics: tuple[str, ...] = ()) -> dict[str, Any]:
    own = part.model_dump(include={"name", "dataset", "model", "select", "target"})
    limit = {} if part.limit is None else {"limit": part.limit}
    return {**own, "metric": [part.metric, *metrics], "method": methods, **limit}


class Figure(_Section):
    """A paper's figure.

    Attributes:
        title: what it shows.
        source: where it is printed.
        drawing: `module:Class` of what draws it.
        options: of the drawing.
        run: what computes its rows, as a config file of `rapbench run` says it.
        notes: what to know before comparing.
    """

    title: str
    source: str
    drawing: str
    options: dict[str, Any] = Field(default_factory=dict)
    run: dict[str, Any]
    notes: tuple[str, ...] = ()

    def kind(self, **chosen: object) -> FigureKind:
        """What draws it, with options chosen over the card's.

        Raises:
            BadConfig: it has no such option, or no such value of it.
        """
        module, _, name = self.drawing.partition(":")
        cls = getattr(importlib.import_module(module), name)
        known = [field.name for field in fields(cls)]
        for key in chosen:
            if key not in known:
                raise BadConfig(f"{self.source} has no option {key!r}: {nearest(key, known)}")
        try:
            drawn: FigureKind = TypeAdapter(cls).validate_python({**self.options, **chosen})
        except ValidationError as error:
            first = error.errors()[0]
            raise BadConfig(f"{self.source}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        return drawn


class Paper(_Section):
    """A paper's card.

    Attributes:
        title: of the paper.
        source: authors and year, as tables and figures cite it.
        tables: by short name.
        figures: by short name.
    """

    title: str
    source: str
    tables: dict[str, Table] = Field(default_factory=dict)
    figures: dict[str, Figure] = Field(default_factory=dict)

    @classmethod
    def installed(cls, package: str) -> Self:
        """The card that lies in a package.

        Raises:
            BadConfig: it is not well formed.
        """
        name = package.rpartition(".")[2]
        try:
            return cls.parsed(name, tomllib.loads((files(package) / "card.toml").read_text("utf-8")))
        except tomllib.TOMLDecodeError as error:
            raise BadConfig(f"card {name}: {error}") from error

    @classmethod
    def parsed(cls, name: str, document: Mapping[str, Any]) -> Self:
        """A card from its document: sections with columns are tables, sections with a drawing are figures.

        Raises:
            BadConfig: it is not well formed; the message says where.
        """
        sections = {key: part for key, part in document.items() if isinstance(part, Mapping)}
        tables = {key: _checked(f"{name}/{key}", Table, part) for key, part in sections.items() if "columns" in part}
        figures = {key: _checked(f"{name}/{key}", Figure, part) for key, part in sections.items() if key not in tables}
        head = {key: value for key, value in document.items() if key not in sections}
        paper: Self = _checked(name, cls, {**head, "tables": tables, "figures": figures})
        return paper


def exhibit(name: str) -> Table | Figure:
    """The table or figure of that name, for example 'rap2020/table1', or 'module:CARD/table1' from outside.

    Raises:
        UnknownName: there is none; the message offers the nearest.
        BadConfig: the card is not well formed.
    """
    paper, _, key = name.rpartition("/")
    card = _card(paper) if paper in PAPERS or ":" in paper else None
    found = card and (card.tables.get(key) or card.figures.get(key))
    if not found:
        known = [f"{paper}/{key}" for key in (*card.tables, *card.figures)] if card else exhibits()
        raise UnknownName(f"no table or figure named {name!r}: {nearest(name, known)}")
    return found


def table(name: str) -> Table:
    """The table of that name.

    Raises:
        UnknownName: there is none; the message offers the nearest.
        BadConfig: the card is not well formed, or it is a figure.
    """
    found = exhibit(name)
    if isinstance(found, Figure):
        raise BadConfig(f"{name} is a figure: rapbench figure {name}")
    return found


def exhibits() -> list[str]:
    """Names of all tables and figures of the papers that are listed."""
    cards = {name: _card(name) for name in PAPERS}
    return [f"{name}/{key}" for name, card in cards.items() for key in (*card.tables, *card.figures)]


def _card(name: str) -> Paper:
    found = PAPERS.load(name)
    if not isinstance(found, Paper):
        raise BadConfig(f"paper {name} must be a Paper, not {type(found).__name__}")
    return found


def _checked(name: str, kind: type[Any], section: Mapping[str, Any]) -> Any:
    try:
        return kind.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise BadConfig(f"card {name}{': ' if place else ''}{place}: {message}") from error


def _member(known: Mapping[str, Any], name: str, who: str) -> Any:
    if name not in known:
        raise ValueError(f"{who} {name!r}: {nearest(name, list(known))}")
    return known[name]


def _unique(names: list[str], kind: str) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {kind}s named {name!r}")
    return names

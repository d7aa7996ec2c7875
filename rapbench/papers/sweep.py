"""Every reading of a table's cells that the store can give, by distance from the published number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import mean
from typing import Any

from rapbench.core.catalogue import parse_call
from rapbench.papers.card import Table
from rapbench.papers.comparison import Entry, Panel
from rapbench.papers.implied import paragraphs
from rapbench.papers.published import heading, provenance, unlike
from rapbench.report.formats import Document, Grid, interval, number
from rapbench.report.result import Result, measured_on, origins
from rapbench.results.select import names

NEAR = 0.05
"""A reading this far from the published number, relative to it, still comes near."""

_BEST = 3
"""Readings of a column to print, besides the table's own."""

RULE = (
    f"A reading comes near where the published number lies in its 95 % interval or within {100 * NEAR:.0f} % of it. "
    "Of many readings one may come near by chance: the second table asks which one fits all methods of a column. "
    "'table' marks the reading that the table takes; readings of the same value from the same rows share a line."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """A number that the published one could be.

    Attributes:
        result: the number.
        published: the paper's.
        in_table: whether the table takes this reading.
    """

    result: Result
    published: float
    in_table: bool

    @property
    def distance(self) -> float:
        """How far it is from the published number."""
        assert self.result.estimate.value is not None
        return abs(self.result.estimate.value - self.published)

    @property
    def off(self) -> float:
        """The distance relative to the published number."""
        return self.distance / abs(self.published)

    @property
    def is_near(self) -> bool:
        """Whether it comes near, by the rule."""
        found = self.result.estimate
        inside = (
            found.ci_low is not None and found.ci_high is not None and found.ci_low <= self.published <= found.ci_high
        )
        return inside or self.off <= NEAR


@dataclass(frozen=True, kw_only=True, eq=False)
class Swept:
    """A cell of the table with all its readings, the closest first."""

    panel: Panel
    entry: Entry
    readings: tuple[Reading, ...]

    @property
    def is_near(self) -> bool:
        """Whether any reading comes near the published number."""
        return any(reading.is_near for reading in self.readings)


def swept(panels: Sequence[Panel]) -> list[Swept]:
    """Every cell with a published number and at least one reading."""
    cells = [
        Swept(panel=panel, entry=entry, readings=_readings(panel, entry, entry.published))
        for panel in panels
        for entry in panel.entries
        if entry.published is not None and entry.row.method
    ]
    return [cell for cell in cells if cell.readings]


def _readings(panel: Panel, entry: Entry, published: float) -> tuple[Reading, ...]:
    """All variants that the column admits, of all stored parameters and backends of the row's method."""
    found = [
        Reading(result=result, published=published, in_table=result is entry.result)
        for held in panel.held
        if held.cell.identity.method.name == entry.row.name
        for name, result in held.results.items()
        if any(fnmatchcase(name, pattern) for pattern in panel.column.readings) and result.estimate.value is not None
    ]
    return tuple(sorted(found, key=lambda reading: (reading.distance, not reading.in_table)))


def document(name: str, table: Table, panels: Sequence[Panel], *, closest: int) -> Document:
    """The sweep in words and numbers.

    Args:
        name: of the card.
        table: the card.
        panels: its columns as `compared` fills them.
        closest: how many lines to print of a cell; records hold every reading.
    """
    cells = swept(panels)
    return Document(
        title=f"Readings of {table.title} ({table.source})",
        notes=(RULE, f"`rapbench run {name} --sweep` adds the readings that need other rows."),
        grids=(_summary(cells), _fits(cells), *(_grid(table, cell, closest) for cell in cells)),
        remarks=tuple(dict.fromkeys(paragraphs(table, panels))),
        about={"table": name, "title": table.title, "source": table.source, "near": NEAR},
        records=tuple(_record(table, cell, place) for cell in cells for place in range(len(cell.readings))),
    )


def _summary(cells: Sequence[Swept]) -> Grid:
    lines = []
    for cell in cells:
        first = cell.readings[0]
        verdict = "near" if cell.is_near else "none comes near"
        lines.append(
            (cell.entry.row.title, *_of(cell.panel), number(first.published), *_name(first), *_numbers(first), verdict)
        )
    return Grid(
        title="The closest reading of every cell",
        header=("method", "number", "of", "published", "closest", "variant", "ours", "95 % interval", "off", "verdict"),
        rows=tuple(lines),
    )


def _fits(cells: Sequence[Swept]) -> Grid:
    """The readings of each column that are least off on average over its methods, as the table runs them."""
    lines = []
    for panel in dict.fromkeys(cell.panel for cell in cells):
        fits: dict[str, list[Reading]] = {}
        for cell in cells:
            for reading in cell.readings if cell.panel is panel else ():
                if _runs_as_the_table(cell, reading):
                    fits.setdefault(_name(reading)[1], []).append(reading)
        ordered = sorted(fits, key=lambda name: (-len(fits[name]), mean(reading.off for reading in fits[name])))
        for place, name in enumerate(ordered):
            in_table = any(reading.in_table for reading in fits[name])
            if place < _BEST or in_table:
                lines.append((*_of(panel), name, "table" if in_table else "", *_fit(fits[name])))
    return Grid(
        title="The readings that fit a column best",
        header=("number", "of", "variant", "", "methods", "mean off", "near"),
        rows=tuple(lines),
    )


def _runs_as_the_table(cell: Swept, reading: Reading) -> bool:
    ours, theirs = cell.entry.result, reading.result.cell
    return ours is not None and names([ours.cell]) == names([theirs])


def _fit(readings: Sequence[Reading]) -> tuple[str, str, str]:
    near = sum(reading.is_near for reading in readings)
    return str(len(readings)), f"{mean(reading.off for reading in readings):.1%}", str(near)


def _of(panel: Panel) -> tuple[str, str]:
    return panel.column.title, f"{panel.part.model} on {panel.part.dataset}"


def _grid(table: Table, cell: Swept, closest: int) -> Grid:
    lines = _merged(cell.readings)
    shown = lines[:closest]
    left = len(lines) - len(shown)
    verdict = "" if cell.is_near else f" None of {len(cell.readings)} readings comes near."
    more = f" {left} more are further off." if left else ""
    return Grid(
        title=f"{cell.entry.row.title}, {heading(table, cell.panel)}: published {number(cell.readings[0].published)}",
        header=("", "method", "variant", "ours", "95 % interval", "off"),
        rows=tuple((_mark(cell, group), *_group_name(group), *_numbers(group[0])) for group in shown),
        notes=(f"{provenance(table, cell.panel)}{verdict}{more}",),
    )


def _merged(readings: Sequence[Reading]) -> list[list[Reading]]:
    """Readings in order, those of one value from the same rows together."""
    groups: dict[tuple[int, float | None], list[Reading]] = {}
    for reading in readings:
        groups.setdefault((id(reading.result.rows), reading.result.estimate.value), []).append(reading)
    return list(groups.values())


def _mark(cell: Swept, group: Sequence[Reading]) -> str:
    """What is special about a line."""
    marks = ["closest"] if cell.readings[0] in group else []
    return ", ".join([*marks, *(["table"] if any(reading.in_table for reading in group) else [])])


def _name(reading: Reading) -> tuple[str, str]:
    """Method and variant, with the metric's parameters where it has some."""
    cell = reading.result.cell
    suffix = f" {cell.metric}" if parse_call(cell.metric).parameters else ""
    return names([cell])[0], f"{reading.result.variant}{suffix}"


def _group_name(group: Sequence[Reading]) -> tuple[str, str]:
    method, variant = _name(group[0])
    return method, variant + (f" (and {len(group) - 1} alike)" if len(group) > 1 else "")


def _numbers(reading: Reading) -> tuple[str, str, str]:
    found = reading.result.estimate
    assert found.value is not None
    off = (found.value - reading.published) / abs(reading.published)
    return number(found.value), interval(found.ci_low, found.ci_high), f"{off:+.1%}"


def _record(table: Table, cell: Swept, place: int) -> dict[str, Any]:
    reading = cell.readings[place]
    result, found = reading.result, reading.result.estimate
    return {
        "column": cell.panel.column.name,
        "row": cell.entry.row.name,
        "rank": place + 1,
        "model_title": result.cell.model_title,
        **measured_on(result.cell),
        "variant": result.variant,
        "published": reading.published,
        "published_for": cell.panel.column.part.published_for,
        "same_setting": not unlike(table, cell.panel),
        **{key: getattr(found, key) for key in ("value", "ci_low", "ci_high", "n")},
        "n_missing": result.missing,
        "origin": origins(result),
        "distance": reading.distance,
        "near": reading.is_near,
        "closest": place == 0,
        "in_table": reading.in_table,
    }

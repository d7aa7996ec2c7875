"""From results to a document of tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rapbench.metrics import is_guard
from rapbench.report.best import LEGEND, marks
from rapbench.report.formats import Document, Format, Grid, interval, number, rendered
from rapbench.report.result import Result, origin_text
from rapbench.report.statistics import Estimate
from rapbench.results.cell import Cell
from rapbench.results.select import Group, grouped, names


def text(found: Iterable[Result]) -> str:
    """Tables for a terminal: one a metric, methods down, headline variants across, with 95 % intervals."""
    return rendered(_tables(found), Format.TEXT)


def document(found: Iterable[Result], form: Format) -> Document:
    """What a format shows: headline variants to read, the best marked, every variant to a program."""
    if form in {Format.CSV, Format.JSON}:
        return Document(records=tuple(result.document() for result in found))
    return _tables(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """One method of a table.

    Attributes:
        name: as typed, with what tells it from others of that name.
        cell: of its numbers.
        results: its numbers by variant.
    """

    name: str
    cell: Cell
    results: Mapping[str, Result]

    @property
    def widest(self) -> Result:
        """The number that rests on most images."""
        return max(self.results.values(), key=lambda result: result.estimate.n)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """A table of one metric: methods down, headline variants across.

    Attributes:
        group: its numbers.
        variants: the columns, each with the direction that is better.
        lines: the rows.
        marks: what is special about numbers, as `best.marks` has it; those of guards are not compared.
    """

    group: Group[Result]
    variants: Mapping[str, str]
    lines: tuple[Line, ...]
    marks: Mapping[Result, str]

    @property
    def is_guard(self) -> bool:
        """Whether its numbers check maps rather than score them."""
        return is_guard(self.group.cell.identity.metric.name)


def scores(found: Iterable[Result]) -> list[Scores]:
    """The tables of some numbers, one a metric and setting, guards last."""
    shown = [result for result in found if result.headline is not None]
    shown.sort(key=lambda r: (r.cell.dataset, r.cell.model_title, is_guard(r.cell.identity.metric.name)))
    return [_scores(group) for group in grouped(shown, lambda result: result.cell)]


def _scores(group: Group[Result]) -> Scores:
    rows: dict[Cell, dict[str, Result]] = {}
    for result in group.members:
        rows.setdefault(result.cell, {})[result.variant] = result
    lines = [
        Line(name=name, cell=cell, results=results)
        for name, (cell, results) in zip(names(list(rows)), rows.items(), strict=True)
    ]
    ordered = sorted(group.members, key=lambda r: r.headline or 0)
    variants = {result.variant: result.direction for result in ordered}
    plain = Scores(group=group, variants=variants, lines=tuple(lines), marks={})
    return plain if plain.is_guard else replace(plain, marks=_marks(group))


def _marks(group: Group[Result]) -> dict[Result, str]:
    columns: dict[str, list[Result]] = {}
    for result in group.members:
        columns.setdefault(result.variant, []).append(result)
    return {result: mark for column in columns.values() for result, mark in marks(column).items()}


def _tables(found: Iterable[Result]) -> Document:
    tables = scores(found)
    return Document(grids=tuple(map(_grid, tables)), remarks=(LEGEND,) if any(table.marks for table in tables) else ())


def _grid(table: Scores) -> Grid:
    lines = []
    for line in table.lines:
        found = [line.results.get(variant) for variant in table.variants]
        values = ["-" if one is None else value(one.estimate, table.marks.get(one, "")) for one in found]
        lines.append((line.name, *values, images(line.widest), reasons(line.widest.dropped)))
    columns = (f"{variant} ({direction})" for variant, direction in table.variants.items())
    members = table.group.members
    header = ("method", *columns, "images", "dropped")
    return Grid(title=heading(table.group), header=header, rows=tuple(lines), notes=doubts(members))


def images(result: Result) -> str:
    """How many images a number rests on, of how many where some were not computed."""
    return f"{result.estimate.n} of {result.cell.limit}" if result.missing else str(result.estimate.n)


def doubts(found: Iterable[Result]) -> tuple[str, ...]:
    """What is to be known of numbers: that their run has not ended, or that different code computed them."""
    found = list(found)
    missing = max((result.missing for result in found), default=0)
    whole = max((result.cell.limit for result in found), default=0)
    origins = dict.fromkeys(origin_text(origin) for result in found for origin in result.origins)
    unfinished = f"not whole: up to {missing} of {whole} images are not computed yet; the same run goes on"
    return (*([unfinished] if missing else []), *([f"computed by {' | '.join(origins)}"] if len(origins) > 1 else []))


def heading(group: Group[Any]) -> str:
    """What a group's numbers are of: metric, images, network, and what tells it from groups alike."""
    cell = group.cell
    return ", ".join(filter(None, (f"{cell.metric} on {cell.dataset}", cell.model_title, group.remark)))


def reasons(dropped: Mapping[str, int]) -> str:
    """How many images have no value, and why."""
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items())


def value(found: Estimate, mark: str) -> str:
    """The value with its mark and its interval, '-' where there is none."""
    if found.value is None:
        return "-"
    return f"{number(found.value)}{mark} {interval(found.ci_low, found.ci_high)}".rstrip()

"""From results to a document of tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def _tables(found: Iterable[Result]) -> Document:
    shown = [result for result in found if result.headline is not None]
    shown.sort(key=lambda r: (r.cell.dataset, r.cell.model_title, _is_guard(r.cell)))
    groups = grouped(shown, lambda result: result.cell)
    marked = [_marks(group) for group in groups]
    return Document(
        grids=tuple(_grid(group, marks) for group, marks in zip(groups, marked, strict=True)),
        remarks=(LEGEND,) if any(marked) else (),
    )


def _is_guard(cell: Cell) -> bool:
    return is_guard(cell.identity.metric.name)


def _marks(group: Group[Result]) -> dict[Result, str]:
    columns: dict[str, list[Result]] = {}
    for result in () if _is_guard(group.cell) else group.members:
        columns.setdefault(result.variant, []).append(result)
    return {result: mark for column in columns.values() for result, mark in marks(column).items()}


def _grid(group: Group[Result], marked: Mapping[Result, str]) -> Grid:
    variants = list(dict.fromkeys(r.variant for r in sorted(group.members, key=lambda r: r.headline or 0)))
    arrows = {r.variant: r.direction for r in group.members}
    rows: dict[Cell, dict[str, Result]] = {}
    for result in group.members:
        rows.setdefault(result.cell, {})[result.variant] = result
    lines = []
    for name, of_method in zip(names(list(rows)), rows.values(), strict=True):
        widest = max(of_method.values(), key=lambda r: r.estimate.n)
        found = [of_method.get(v) for v in variants]
        values = ["-" if one is None else value(one.estimate, marked.get(one, "")) for one in found]
        lines.append((name, *values, images(widest), reasons(widest.dropped)))
    header = ("method", *(f"{v} ({arrows[v]})" for v in variants), "images", "dropped")
    return Grid(title=heading(group), header=header, rows=tuple(lines), notes=doubts(group.members))


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

"""A paper's table beside our numbers: *published | ours | 95 % interval | difference | n*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rapbench.core.catalogue import nearest, parse_call
from rapbench.core.errors import BadConfig, UnknownName
from rapbench.papers.card import Column, Part, Row, Table
from rapbench.report.paired import Difference, difference, holm, pair, resamples_for
from rapbench.report.result import Result, Scored
from rapbench.results.cell import Cell
from rapbench.results.select import Filter, differing, option


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One cell of a table.

    Attributes:
        row: its method.
        published: the paper's number, None where it prints none.
        result: ours, None where the store has none or the metric has no such variant for the method.
        is_stored: whether the store has rows of it.
    """

    row: Row
    published: float | None
    result: Result | None
    is_stored: bool

    @property
    def value(self) -> float | None:
        """Our number."""
        return None if self.result is None else self.result.estimate.value

    @property
    def difference(self) -> float | None:
        """Ours minus the published number."""
        return None if self.value is None or self.published is None else self.value - self.published


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One column of a table.

    Attributes:
        column: as the card has it.
        part: its network and images as computed, which may stand for the card's.
        entries: a cell for every row of the table that is asked for.
        held: all stored cells of the column's network, images and metric, whatever their method and parameters.
    """

    column: Column
    part: Part
    entries: tuple[Entry, ...]
    held: tuple[Scored, ...]

    @property
    def measured(self) -> Result | None:
        """Any of its results: all are of one network and one data set."""
        return next((entry.result for entry in self.entries if entry.result), None)


class Paired(NamedTuple):
    """A paired difference, and its p-value corrected for the number of methods in the column."""

    difference: Difference
    p_holm: float | None


def compared(table: Table, cells: Sequence[Scored], wanted: Filter) -> list[Panel]:
    """The table's columns, filled with what the store holds.

    The network, the images and the class explained that are wanted stand for the card's in every column.

    Raises:
        BadConfig: several cells could be meant; the message says which option narrows them.
    """
    return [_panel(table, column, cells, wanted) for column in table.columns]


def against(table: Table, name: str) -> Row:
    """The row of a method that others are compared with.

    Raises:
        UnknownName: the table has no such method; the message offers the nearest.
    """
    methods = {row.name: row for row in table.rows if row.method}
    if name not in methods:
        raise UnknownName(f"no method {name!r} in the table to compare against: {nearest(name, list(methods))}")
    return methods[name]


def _panel(table: Table, column: Column, cells: Sequence[Scored], wanted: Filter) -> Panel:
    chosen = {"model": wanted.model or column.part.model, "dataset": wanted.dataset or column.part.dataset}
    part, metric = column.part.model_copy(update=chosen), parse_call(column.part.metric)
    asked = replace(wanted, model=part.model, dataset=part.dataset, target=wanted.target or part.target)
    held = [one for one in cells if asked.admits(one.cell) and one.cell.identity.metric.name == metric.name]
    rows = _asked_for(table, part, wanted.methods)
    matched = {
        row.name: [one for one in held if _is_call(one.cell, call) and parse_call(one.cell.metric) == metric]
        for row in rows
        if (call := table.call(row, part))
    }
    found = [one.cell for some in matched.values() for one in some]
    refuse_several(found, f"{part.model} on {part.dataset}")
    _check_unique(matched, part)
    entries = [
        Entry(
            row=row,
            published=column.published.get(row.name),
            result=next((one.results.get(column.variant) for one in matched.get(row.name, [])), None),
            is_stored=bool(matched.get(row.name)),
        )
        for row in rows
    ]
    alike = [one for one in held if found and not differing([one.cell, found[0]])]
    return Panel(column=column, part=part, entries=tuple(entries), held=tuple(alike))


def _asked_for(table: Table, part: Part, methods: Sequence[str]) -> list[Row]:
    """The rows of these methods, in their order; all rows where none is named."""
    named = [row for name in methods for row in table.rows if name in {row.name, table.call(row, part)}]
    return named if methods else list(table.rows)


def _is_call(cell: Cell, method: str) -> bool:
    """Whether a card's method is a cell's, with any files that it needs: a card names none."""
    own, stored, wanted = cell.identity.method, parse_call(cell.method), parse_call(method)
    chosen = {key: value for key, value in stored.parameters.items() if key in own.parameters}
    alike = [wanted.parameters.get(key) in {value, "*"} for key, value in chosen.items()]
    same = stored.name == wanted.name and chosen.keys() == wanted.parameters.keys()
    return own.backend == "native" and same and all(alike)


def _check_unique(matched: Mapping[str, list[Scored]], part: Part) -> None:
    """A row that stands for any value of a parameter may stand for one at a time."""
    for found in matched.values():
        labels = [one.cell.method for one in found]
        if len(labels) > 1:
            where = f"{part.model} on {part.dataset}"
            raise BadConfig(f"{' and '.join(labels)} of {where} are one row: keep them in folders of their own, --out")


def refuse_several(cells: Sequence[Cell], what: str) -> None:
    """Refuses cells of several settings where one is wanted.

    What an option can narrow is told first: the rest, such as a digest of weights, mostly follows from it. So do the
    parameters of data sets, and the weights of networks, that have different names.

    Raises:
        BadConfig: they differ in more than method and metric; the message says how to choose.
    """
    found = differing(cells)
    named = {key.partition(".")[0] for key in ("dataset.name", "model.name") if key in found}
    apart = {
        key: values for key, values in found.items() if key.partition(".")[0] not in named or key.endswith(".name")
    }
    narrowing = {key: asking for key, values in apart.items() if (asking := _asking(key, values[0], cells[0]))}
    told = [f"{key} ({', '.join(values)})" for key, values in apart.items() if key in narrowing or not narrowing]
    if told:
        cure = (
            f"narrow with {' '.join(narrowing.values())}" if narrowing else "keep them in folders of their own, --out"
        )
        raise BadConfig(f"several results of {what} differ in {', '.join(told)}: {cure}")


def _asking(key: str, value: str, cell: Cell) -> str:
    names = {"model.name": "--model", "dataset.name": "--dataset"}
    return f"{names[key]} {value}" if key in names else option(key, value, cell.identity.dataset.name)


def differences(panel: Panel, reference: Row) -> list[Paired | None]:
    """Each entry minus that of the reference, None where one of the two is missing."""
    base = next((entry.result for entry in panel.entries if entry.row == reference), None)
    others = [entry.result if entry.row != reference else None for entry in panel.entries]
    resamples = resamples_for(sum(result is not None for result in others))
    found = [paired(result, base, resamples=resamples) if result and base else None for result in others]
    corrected = holm([one.p_value if one else None for one in found])
    return [Paired(one, p) if one else None for one, p in zip(found, corrected, strict=True)]


def paired(ours: Result, reference: Result, *, resamples: int = 1000) -> Difference | None:
    """The first result minus the second, on the images that both have; None where they share none."""
    both = pair(ours.sample, reference.sample)
    found = difference(ours.definition, both, seed=ours.cell.identity.seed, resamples=resamples)
    return found if found.n else None

"""A paper's table beside our numbers: *published | ours | 95 % interval | difference | n*."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rapbench.core.catalogue import nearest, parse_call
from rapbench.core.errors import BadConfig, UnknownName
from rapbench.report.cards import Column, Row, Table
from rapbench.report.paired import Difference, difference, holm
from rapbench.report.statistics import defined
from rapbench.report.tables import Held, Result


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which stored cells a table is made of.

    Attributes:
        model: network that stands for the card's in every column; the card's own by default.
        dataset: images that stand for the card's, with parameters that narrow them.
        weights: name of the weights, or their file; any by default, like what follows.
        select: 'all' images or the 'correct' ones.
        seed: of the run.
        precision: of the run.
        device: of the run.
    """

    model: str | None = None
    dataset: str | None = None
    weights: str | None = None
    select: str | None = None
    seed: int | None = None
    precision: str | None = None
    device: str | None = None

    def column(self, column: Column) -> Column:
        """The column with what stands for its network and images."""
        chosen = {"model": self.model, "dataset": self.dataset}
        return column.model_copy(update={key: name for key, name in chosen.items() if name is not None})

    def holds(self, identity: Mapping[str, Any]) -> bool:
        """Whether a cell's weights, images, seed, precision and device are those asked for."""
        weights = None if self.weights is None else Path(self.weights).name
        pairs = [
            (weights, identity["model"]["weights"]),
            (self.select, identity["dataset"].get("select", "all")),
            *((getattr(self, key), identity[key]) for key in ("seed", "precision", "device")),
        ]
        return all(asked is None or asked == held for asked, held in pairs)

    @property
    def options(self) -> str:
        """What was asked for, as options of a command."""
        given = {key: text for key in ("model", "dataset", "weights") if (text := getattr(self, key)) is not None}
        return "".join(f" --{key} {text}" for key, text in given.items())


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One cell of a table.

    Attributes:
        row: its method.
        published: the paper's number, None where it prints none.
        result: ours, None where the store has none or the metric has no such variant for the method.
    """

    row: Row
    published: float | None
    result: Result | None

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
        column: as computed; its model and data set may stand for the card's.
        card: as the card has it.
        entries: a cell for every row of the table.
        held: all stored cells of the column's network, images and metric, whatever their method and parameters.
    """

    column: Column
    card: Column
    entries: tuple[Entry, ...]
    held: tuple[Held, ...]

    @property
    def measured(self) -> Result | None:
        """Any of its results: all are of one network and one data set."""
        return next((entry.result for entry in self.entries if entry.result), None)


class Paired(NamedTuple):
    """A paired difference, and its p-value corrected for the number of methods in the column."""

    difference: Difference
    p_holm: float | None


def compared(table: Table, cells: Sequence[Held], selection: Selection) -> list[Panel]:
    """The table's columns, filled with what the store holds.

    Raises:
        BadConfig: several cells could be meant; the message says which option narrows them.
    """
    return [_panel(table, card, cells, selection) for card in table.columns]


def against(table: Table, name: str) -> Row:
    """The row of a method that others are compared with.

    Raises:
        UnknownName: the table has no such method; the message offers the nearest.
    """
    methods = {row.name: row for row in table.rows if row.method}
    if name not in methods:
        raise UnknownName(f"no method {name!r} in the table to compare against: {nearest(name, list(methods))}")
    return methods[name]


def _panel(table: Table, card: Column, cells: Sequence[Held], selection: Selection) -> Panel:
    column = selection.column(card)
    metric = parse_call(column.metric)
    held = [cell for cell in cells if selection.holds(cell.identity) and _is_of(column, cell.identity)]
    matched = {
        row.name: [cell for cell in held if _is_call(cell, call) and parse_call(cell.display["metric"]) == metric]
        for row in table.rows
        if (call := table.call(row, column))
    }
    contexts = [_context(cell.identity) for found in matched.values() for cell in found]
    _check_one(contexts, column)
    _check_unique(matched, column)
    entries = [
        Entry(
            row=row,
            published=column.published.get(row.name),
            result=next((cell.results.get(column.variant) for cell in matched.get(row.name, [])), None),
        )
        for row in table.rows
    ]
    held = [cell for cell in held if contexts and _context(cell.identity) == contexts[0]]
    return Panel(column=column, card=card, entries=tuple(entries), held=tuple(held))


def _is_of(column: Column, identity: Mapping[str, Any]) -> bool:
    """Whether a cell is of a column's network, images and metric."""
    dataset, held = parse_call(column.dataset), identity["dataset"]
    return (
        identity["model"]["name"] == column.model
        and identity["metric"]["name"] == parse_call(column.metric).name
        and held["name"] == dataset.name
        and all(str(held["parameters"].get(key)) == text for key, text in dataset.parameters.items())
    )


def _is_call(cell: Held, method: str) -> bool:
    stored, wanted = parse_call(cell.display["method"]), parse_call(method)
    alike = [wanted.parameters.get(key) in {value, "*"} for key, value in stored.parameters.items()]
    same = stored.name == wanted.name and stored.parameters.keys() == wanted.parameters.keys()
    return cell.display["backend"] == "native" and same and all(alike)


def _check_unique(matched: Mapping[str, list[Held]], column: Column) -> None:
    """A row that stands for any value of a parameter may stand for one at a time."""
    for found in matched.values():
        labels = [str(cell.display["method"]) for cell in found]
        if len(labels) > 1:
            where = f"{column.model} on {column.dataset}"
            raise BadConfig(f"{' and '.join(labels)} of {where} are one row: keep them in folders of their own, --out")


def _context(identity: Mapping[str, Any]) -> dict[str, str]:
    """All that a cell's numbers depend on besides method and metric: dotted key -> JSON."""
    shared = {key: part for key, part in identity.items() if key not in {"method", "metric"}}
    return {"dataset.select": "all", **dict(_flat(shared))}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, part in tree.items():
        if isinstance(part, Mapping):
            yield from _flat(part, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", part if isinstance(part, str) else json.dumps(part)


def _check_one(contexts: list[dict[str, str]], column: Column) -> None:
    """What an option can narrow is told first: the rest, such as a digest of weights, mostly follows from it."""
    keys = dict.fromkeys(key for context in contexts for key in context)
    held = {key: sorted({context.get(key, "default") for context in contexts}) for key in keys}
    differing = {key: values for key, values in held.items() if len(values) > 1}
    narrowing = {key: option for key, values in differing.items() if (option := _option(key, values[0], column))}
    told = [f"{key} ({', '.join(values)})" for key, values in differing.items() if key in narrowing or not narrowing]
    if told:
        cure = (
            f"narrow with {' '.join(narrowing.values())}" if narrowing else "keep them in folders of their own, --out"
        )
        raise BadConfig(f"several results of {column.model} on {column.dataset} differ in {', '.join(told)}: {cure}")


def _option(key: str, value: str, column: Column) -> str:
    """The option that narrows cells to one value of a key, empty where none does."""
    name = key.rpartition(".")[2]
    if key in {"model.weights", "dataset.select", "seed", "precision", "device"}:
        return f"--{name} {value}"
    in_dataset = key.startswith("dataset.parameters.")
    return f'--dataset "{parse_call(column.dataset).name}({name}={value})"' if in_dataset else ""


def differences(panel: Panel, reference: Row) -> list[Paired | None]:
    """Each entry minus that of the reference, None where one of the two is missing."""
    base = next(entry.result for entry in panel.entries if entry.row == reference)
    found = [
        paired(entry.result, base) if entry.result and base and entry.row != reference else None
        for entry in panel.entries
    ]
    corrected = holm([one.p_value if one else None for one in found])
    return [Paired(one, p) if one else None for one, p in zip(found, corrected, strict=True)]


def paired(ours: Result, reference: Result) -> Difference | None:
    """The first result minus the second, on the images that both have; None where they share none.

    A variant may be computed from other columns for unsigned methods than for signed ones, so both are reduced to their
    statistics first.
    """
    variant = replace(ours.definition, statistics=_statistics, undefined={})
    found = difference(variant, _reduced(ours), _reduced(reference), seed=ours.seed)
    return found if found.n else None


def _statistics(rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The statistics (N, S) of a reduced frame."""
    return rows.drop(columns="id").to_numpy(dtype=np.float64)


def _reduced(result: Result) -> pd.DataFrame:
    """The ids of the images with a value, and the variant's statistics of them."""
    if result.rows.empty:
        return pd.DataFrame({"id": [], "statistic0": []})
    with np.errstate(divide="ignore", invalid="ignore"):
        (kept,) = defined([result.definition], result.rows)
    columns = {f"statistic{place}": column for place, column in enumerate(kept.statistics.T)}
    return pd.DataFrame({"id": result.rows["id"].to_numpy()[kept.positions], **columns})

"""The document of a paper's table: *published | ours | 95 % interval | difference | n*, and who beats whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rapbench.papers.card import Row, Table
from rapbench.papers.comparison import Entry, Paired, Panel, differences
from rapbench.report.best import LEGEND, marks
from rapbench.report.formats import Document, Grid, interval, number
from rapbench.report.paired import Difference
from rapbench.report.result import Result, measured_on, origins
from rapbench.report.statistics import Estimate
from rapbench.report.tables import doubts, images, reasons

NOT_RUN = "not run"
"""Ours, where it can be computed and was not."""


def document(
    name: str, table: Table, panels: Sequence[Panel], reference: Row, command: Callable[[str], str]
) -> Document:
    """The table in words and numbers.

    Args:
        name: of the card, for example 'rap2020/table1'.
        table: the card.
        panels: its columns as `compared` fills them.
        reference: row of the method that the others are compared with.
        command: what computes the parts of the table whose names, joined by commas, it is given.
    """
    paired = [differences(panel, reference) for panel in panels]
    marked = [marks([entry.result for entry in panel.entries if entry.result]) for panel in panels]
    return Document(
        title=f"{table.title} ({table.source})",
        notes=(*table.notes, _calls(table)),
        grids=tuple(_grid(table, *those, reference) for those in zip(panels, paired, marked, strict=True)),
        remarks=(*_signs(panels, command), *((LEGEND,) if any(marked) else ()), _statistics(reference)),
        about={"table": name, "title": table.title, "source": table.source, "notes": table.notes},
        records=tuple(
            {**_record(table, panel, entry), "against": reference.name, **_paired_record(one)}
            for panel, ones in zip(panels, paired, strict=True)
            for entry, one in zip(panel.entries, ones, strict=True)
        ),
    )


def heading(table: Table, panel: Panel) -> str:
    """What a column is, what it was measured on, and what its published numbers are of where that is something else."""
    measured = panel.measured
    if measured is None:
        return f"{panel.column.title}: no results of {panel.part.model} on {panel.part.dataset}"
    cell = measured.cell
    explained = "" if cell.identity.target == panel.column.part.target else f", target {cell.identity.target}"
    title = f"{panel.column.title}: {cell.model_title} on {cell.dataset}{explained} ({measured.direction} is better)"
    foreign = panel.column.published and unlike(table, panel)
    return f"{title}, beside numbers published for {panel.column.part.published_for}" if foreign else title


def provenance(table: Table, panel: Panel) -> str:
    """Where the published numbers come from, and whether ours are of the same network and images."""
    differing = unlike(table, panel)
    plain = f"Published numbers are of {panel.column.part.published_for}."
    if not panel.column.published or not differing:
        return plain if panel.column.published else "The paper prints no such number."
    return f"{plain} Ours are of {' and '.join(differing)}: there is nothing to reproduce here."


def unlike(table: Table, panel: Panel) -> list[str]:
    """What ours were measured on that is not what the card names."""
    measured = panel.measured
    if measured is None:
        return []
    cell, model = measured.cell, measured.cell.identity.model
    network = model.name not in {panel.column.part.model, *panel.column.part.also}
    told = [f"another network, {cell.model_title}"] if network else []
    if model.name == panel.column.part.model and model.weights not in table.weights:
        told.append(f"other weights, {cell.model_title}")
    images = cell.dataset != panel.column.part.dataset
    told += [f"another data set, {cell.dataset}"] if images else []
    explained = cell.identity.target != panel.column.part.target
    return told + ([f"another class explained, {cell.identity.target}"] if explained else [])


def _grid(
    table: Table, panel: Panel, ones: Sequence[Paired | None], marked: Mapping[Result, str], reference: Row
) -> Grid:
    ours = (f"minus {reference.title}", "95 % interval", "p (Holm)", "effect")
    return Grid(
        title=heading(table, panel),
        header=("method", "published", "ours", "95 % interval", "difference", "n", "dropped", *ours),
        rows=tuple(
            _line(entry, one, marked)
            for entry, one in zip(panel.entries, ones, strict=True)
            if not _is_empty(panel, entry)
        ),
        notes=(
            provenance(table, panel),
            *doubts(entry.result for entry in panel.entries if entry.result),
            *_dropped(panel),
        ),
    )


def _is_empty(panel: Panel, entry: Entry) -> bool:
    """Whether a quoted row has no number in this column."""
    return entry.row.method is None and entry.published is None and panel.measured is not None


def _line(entry: Entry, one: Paired | None, marked: Mapping[Result, str]) -> tuple[str, ...]:
    published = "-" if entry.published is None else number(entry.published)
    if entry.result is None:
        return (entry.row.title, published, NOT_RUN if _is_missing(entry) else "-", *[""] * 8)
    found = entry.result.estimate
    ours = "-" if found.value is None else number(found.value) + marked.get(entry.result, "")
    return (
        *(entry.row.title, published, ours, interval(found.ci_low, found.ci_high), _signed(entry.difference)),
        *(images(entry.result), str(sum(entry.result.dropped.values())), *_paired(one)),
    )


def _paired(one: Paired | None) -> tuple[str, str, str, str]:
    if one is None:
        return ("", "", "", "")
    found, p = one
    printed = "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"
    effect = "" if found.effect_size is None else f"{found.effect_size:+.2f}"
    effect += f", median {_signed(found.median)}" if found.is_divided else ""
    return (_signed(found.value), interval(found.ci_low, found.ci_high), printed, effect)


def _signed(value: float | None) -> str:
    return "" if value is None else f"{'+' if value > 0 else ''}{number(value)}"


def _dropped(panel: Panel) -> list[str]:
    """A sentence for each way in which images were dropped, with the methods that it concerns."""
    titles: dict[str, list[str]] = {}
    for entry in panel.entries:
        if entry.result and (why := reasons(entry.result.dropped)):
            titles.setdefault(why, []).append(entry.row.title)
    return [f"Dropped: {why} ({', '.join(those)})." for why, those in titles.items()]


def _is_missing(entry: Entry) -> bool:
    return entry.row.method is not None and not entry.is_stored


def _signs(panels: Sequence[Panel], command: Callable[[str], str]) -> list[str]:
    """What stands where there is no number, and what computes those that are missing."""
    missing = [(panel.part.name, entry.row) for panel in panels for entry in panel.entries if _is_missing(entry)]
    parts = dict.fromkeys(part for part, row in missing if row.run)
    prepared = dict.fromkeys(row.title for _, row in missing if not row.run)
    told = [
        "- no such number: the paper prints none, the metric has none for the method, or no image has one.",
        f"{NOT_RUN}: not computed yet." if missing else "",
        f"`{command(','.join(parts))}` computes it." if parts else "",
        f"What {', '.join(prepared)} needs is fitted first: `rapbench fit-patterns --help`." if prepared else "",
    ]
    return [" ".join(filter(None, told))]


def _calls(table: Table) -> str:
    """How each row is run."""
    calls = [f"{row.title} is {row.method}{_exceptions(table, row)}" for row in table.rows if row.method]
    return f"Rows: {'; '.join(calls)}."


def _exceptions(table: Table, row: Row) -> str:
    others = {part.model: part.methods[row.name] for part in table.parts if row.name in part.methods}
    return "".join(f" (in the columns of {model} {call})" for model, call in others.items())


def _statistics(reference: Row) -> str:
    return (
        "Intervals are 95 % bootstrap intervals over images. The columns on the right compare each method with "
        f"{reference.title} on the images that both have: the difference (method minus {reference.title}) with its "
        "bootstrap interval; p of Wilcoxon's signed-rank test where images have values of their own and of the paired "
        "bootstrap elsewhere, corrected by Holm for the methods of a column; effect is the matched-pairs rank-biserial "
        "correlation. Where it and the difference point in opposite directions, a few images decide the mean, and the "
        "median image's difference follows."
    )


def _record(table: Table, panel: Panel, entry: Entry) -> dict[str, Any]:
    column, result = panel.column, entry.result
    dropped = result.dropped if result else {}
    computed = measured_on(result.cell) if result else {}
    return {
        "column": column.name,
        "row": entry.row.name,
        "title": entry.row.title,
        "control": entry.row.control,
        "dataset": panel.part.dataset,
        "model": panel.part.model,
        "model_title": result.cell.model_title if result else None,
        **{key: computed.get(key) for key in ("weights", "select", "shuffle", "target", "seed", "precision", "device")},
        "method": table.call(entry.row, panel.part),
        "metric": panel.part.metric,
        "variant": column.variant,
        "direction": result.direction if result else None,
        "published": entry.published,
        "published_for": panel.column.part.published_for,
        "same_setting": not unlike(table, panel) if panel.measured else None,
        **_values(result.estimate if result else None),
        "difference": entry.difference,
        "n": result.estimate.n if result else 0,
        "n_dropped": sum(dropped.values()),
        "n_missing": result.missing if result else 0,
        "dropped": dropped,
        "key": computed.get("key"),
        "origin": origins(result) if result else "",
    }


def _values(found: Estimate | Difference | None) -> dict[str, float | None]:
    return {key: getattr(found, key, None) for key in ("value", "ci_low", "ci_high")}


def _paired_record(one: Paired | None) -> dict[str, Any]:
    found = one and one.difference
    values = {f"paired_{key}": value for key, value in _values(found).items()}
    others = {key: getattr(found, key, None) for key in ("p_value", "effect_size")}
    others["paired_median"] = getattr(found, "median", None)
    return {**values, "paired_n": found.n if found else 0, **others, "p_holm": one and one.p_holm}

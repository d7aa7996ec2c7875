"""Two results folders side by side, as tables to read and as records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rapbench.report.formats import Document, Grid, interval, number
from rapbench.report.moves import WITHIN, Move, Moves
from rapbench.report.result import measured_on, origins
from rapbench.results.select import foreign, of_one_setting

if TYPE_CHECKING:
    from rapbench.results.cell import Cell

_HEADER = ("method", "metric", "variant", "A", "B", "B - A", "images", "verdict")


def document(found: Moves, first: str, second: str, *, everything: bool = False) -> Document:
    """What moved, or every number that both hold; then what only one of the folders holds.

    Args:
        found: the folders side by side.
        first: name of the first, A.
        second: name of the second, B.
        everything: also the numbers that did not move.
    """
    shown = found.both if everything else found.moved
    settings = of_one_setting(shown, lambda move: move.after.cell)
    only = {f"only in A, {first}": found.only_before, f"only in B, {second}": found.only_after}
    return Document(
        notes=(f"A is {first}, B is {second}.",),
        grids=(*map(_grid, settings), *(_only(title, cells) for title, cells in only.items() if cells)),
        remarks=(_total(found), *([_LEGEND] if shown else [])),
        about={
            "verdicts": dict(found.verdicts),
            "only_before": [cell.folder for cell in found.only_before],
            "only_after": [cell.folder for cell in found.only_after],
        },
        records=tuple(map(_record, found.both)),
    )


_LEGEND = (
    "B - A is of the images that both have, drawn for both or for neither, where they have some in common; in brackets "
    "is its 95 % bootstrap interval. A number moved if the interval does not hold 0 and the difference is more than "
    "rounding: one in twenty does by chance where maps are drawn anew."
)


def _total(found: Moves) -> str:
    told = ", ".join(f"{n} {verdict}" for verdict, n in found.verdicts.items() if verdict not in {"same", WITHIN})
    still = (
        f"{found.verdicts.get('same', 0)} are the same and {found.verdicts.get(WITHIN, 0)} differ within their interval"
    )
    moved = f"{len(found.moved)} moved ({told})" if told else "nothing moved"
    return f"{len(found.both)} numbers are in both: {moved}; {still}"


def _grid(some: Sequence[Move]) -> Grid:
    cell = some[0].after.cell
    return Grid(title=f"{cell.dataset}, {cell.model_title}", header=_HEADER, rows=tuple(map(_row, some)))


def _row(move: Move) -> tuple[str, ...]:
    cell, gap = move.after.cell, move.difference
    told = "-" if gap is None or gap.value is None else number(gap.value)
    ends = interval(gap.ci_low, gap.ci_high) if gap else ""
    counts = str(move.counts[0]) if move.is_paired else " and ".join(map(str, move.counts))
    values = ("-" if value is None else number(value) for value in move.numbers)
    variant = f"{move.after.variant} ({move.after.direction})"
    return (_called(cell), cell.metric, variant, *values, f"{told} {ends}".rstrip(), counts, move.verdict)


def _called(cell: Cell) -> str:
    """The method, with its backend where that is not native."""
    return f"{cell.method}{foreign(cell.identity.method.backend)}"


def _only(title: str, cells: Sequence[Cell]) -> Grid:
    """Methods by metric."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for cell in cells:
        rows.setdefault((cell.dataset, cell.model_title, cell.metric), []).append(_called(cell))
    header = ("data set", "model", "metric", "methods")
    return Grid(title=title, header=header, rows=tuple((*key, ", ".join(names)) for key, names in rows.items()))


def _record(move: Move) -> Mapping[str, Any]:
    """The number as files hold it."""
    fixed = {key: value for key, value in measured_on(move.after.cell).items() if key != "key"}
    return {**fixed, **dict(_moving(move))}


def _moving(move: Move) -> Iterator[tuple[str, Any]]:
    gap = move.difference
    yield "variant", move.after.variant
    yield "direction", move.after.direction
    yield from zip(("before", "after"), move.numbers, strict=True)
    for key, name in {"difference": "value", "ci_low": "ci_low", "ci_high": "ci_high", "p_value": "p_value"}.items():
        yield key, getattr(gap, name) if gap else None
    yield from zip(("n_before", "n_after"), move.counts, strict=True)
    yield "paired", move.is_paired
    yield "verdict", move.verdict
    for side, result in (("before", move.before), ("after", move.after)):
        yield f"key_{side}", result.cell.key
        yield f"origin_{side}", origins(result)

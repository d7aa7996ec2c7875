"""Tables of a page: sorted by a click, filtered by what is typed, and whole without either."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rapbench.methods import is_control
from rapbench.report.best import ALIKE, BEST, UNBEATEN
from rapbench.report.figures import file_stem
from rapbench.report.formats import Document, Format, Grid, interval, number, rendered
from rapbench.report.html.markup import Attributes, Markup, classed, element, joined, prose
from rapbench.report.html.parts import Part, Worth, details, download, heading
from rapbench.report.result import Result
from rapbench.report.tables import Line, Scores, document, doubts, images, reasons
from rapbench.report.tables import heading as heading_of
from rapbench.results.select import names

_MARKS = {BEST: ("best", "the best method"), ALIKE: ("alike", "cannot be told from the best")} | {
    UNBEATEN: ("unbeaten", "a control that the best method does not beat")
}
_CONTROLS = "controls, which know nothing of the network"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        cells: its cells.
        is_control: whether it stands apart as a control.
        method: what the page's script calls its method; may be empty.
    """

    cells: tuple[Markup, ...]
    is_control: bool = False
    method: str = ""


def table(name: str, header: Sequence[Markup], rows: Sequence[Row]) -> Markup:
    """A table named by the heading of that address, in a box of its own that scrolls; controls below the others."""
    plain, apart = ([row for row in rows if row.is_control is which] for which in (False, True))
    head = element("thead", {}, element("tr", {}, *header))
    groups = [_body(plain, "")] + ([_body(apart, "controls", len(header))] if apart else [])
    box: Attributes = {"class": "scroll", "tabindex": 0, "role": "region", "aria-labelledby": name}
    return element("div", box, element("table", {"aria-labelledby": name}, head, *groups))


def _body(rows: Sequence[Row], kind: str, width: int = 0) -> Markup:
    title = element("th", {"colspan": width, "scope": "rowgroup"}, _CONTROLS) if width else Markup()
    first = element("tr", {"class": "between"}, title) if width else Markup()
    return element("tbody", classed(kind), first, *map(_row, rows))


def _row(row: Row) -> Markup:
    return element("tr", {"data-method": row.method} if row.method else {}, *row.cells)


def column(title: str, below: str = "", *, numeric: bool = True) -> Markup:
    """The head of a column, with a word below it."""
    small = element("small", {}, below) if below else Markup()
    return element("th", {"scope": "col", **classed("number" if numeric else "")}, title, small)


def row_head(text: str) -> Markup:
    """The first cell of a row."""
    return element("th", {"scope": "row"}, text)


def cell(text: str, kind: str = "number", sort: float | None = None) -> Markup:
    """A cell; what it is sorted by, where that is not the number that it shows."""
    return element("td", {**classed(kind), **({} if sort is None else {"data-sort": repr(sort)})}, text)


def _value(result: Result | None, mark: str) -> Markup:
    """A value with its mark, and its interval."""
    if result is None or result.estimate.value is None:
        return cell("-", "number none")
    found = result.estimate
    kind, meaning = _MARKS.get(mark, ("", ""))
    shown = [Markup(number(found.value or 0.0)), _sign(mark, meaning)]
    ends = interval(found.ci_low, found.ci_high)
    small = element("span", {"class": "interval"}, ends) if ends else Markup()
    return cell(joined([*shown, " " if ends else "", small]), f"number {kind}".strip(), found.value)


def _sign(mark: str, meaning: str) -> Markup:
    return element("abbr", {"class": "mark", "title": meaning}, mark) if mark else Markup()


def scored(found: Scores, every: Sequence[Result], name: str, command: str) -> tuple[Part, ...]:
    """A table of scores, all variants of the metric below it, and both as files.

    Args:
        found: the table.
        every: every variant of its cells.
        name: its address within the page.
        command: what prints the same in a terminal.
    """
    title = heading_of(found.group)
    header = [
        column("method", numeric=False),
        *(column(variant, f"{direction} is better") for variant, direction in found.variants.items()),
        *(column("images"), column("dropped", numeric=False)),
    ]
    rows = [Row(cells=_cells(line, found), is_control=_is_control(line)) for line in found.lines]
    notes = [prose(note, "note") for note in doubts(found.group.members)]
    return (
        Part(content=joined([heading(title, name), table(name, header, rows), *notes])),
        *_all_variants(every, name, title, command),
        *(_file(document(every, form), form, title, command, "all variants") for form in (Format.CSV, Format.JSON)),
    )


def _cells(line: Line, found: Scores) -> tuple[Markup, ...]:
    results = [line.results.get(variant) for variant in found.variants]
    return (
        row_head(line.name),
        *(_value(one, found.marks.get(one, "") if one else "") for one in results),
        *(cell(images(line.widest)), cell(reasons(line.widest.dropped), "words")),
    )


def _is_control(line: Line) -> bool:
    return is_control(line.cell.identity.method.name)


def _all_variants(every: Sequence[Result], name: str, title: str, command: str) -> tuple[Part, ...]:
    """Variants down and methods across, controls last: of some metrics there are more than a hundred."""
    if all(result.headline is not None for result in every):
        return ()
    cells = list(dict.fromkeys(result.cell for result in every))
    columns = sorted(zip(names(cells), cells, strict=True), key=lambda named: is_control(named[1].identity.method.name))
    directions = {result.variant: result.direction for result in every}
    by_place = {(result.cell, result.variant): result for result in every}
    header = [column("variant", numeric=False), column("better", numeric=False)]
    header += [column(called, "control" if is_control(one.identity.method.name) else "") for called, one in columns]
    rows = [
        Row(cells=(row_head(v), cell(direction, "words"), *(_value(by_place.get((one, v)), "") for _, one in columns)))
        for v, direction in directions.items()
    ]
    summary, place = f"all {len(directions)} variants", f"{name}-all"
    whole = details(summary, table(place, header, rows), name=place)
    return (Part(content=whole, worth=Worth.VARIANTS, what=f"all variants of {title}", cure=f"`{command}`"),)


def _file(held: Document, form: Format, title: str, command: str, of: str = "") -> Part:
    """A document as a file, the same as a terminal prints."""
    kind = form.upper()
    link = download(f"{rendered(held, form)}\n", file_stem(title), form, ", ".join(filter(None, [kind, of])))
    worth = Worth.CSV if form is Format.CSV else Worth.JSON
    return Part(content=link, worth=worth, what=f"{kind} of {title}", cure=f"`{command} --format {form}`")


def printed(document: Document, name: str, controls: Collection[str], command: str) -> tuple[Part, ...]:
    """A document of tables as a terminal prints it: its notes, its tables, and both as files.

    Args:
        document: what is shown.
        name: its address within the page.
        controls: first cells of the rows that are controls.
        command: what prints the same in a terminal.
    """
    notes = joined([heading(document.title, name), *(prose(note, "note") for note in document.notes)])
    grids = [_grid(grid, f"{name}-{n}", controls) for n, grid in enumerate(document.grids)]
    remarks = joined(prose(remark, "note") for remark in document.remarks)
    files = [_file(document, form, document.title, command) for form in (Format.CSV, Format.JSON)]
    return (Part(content=notes), *(Part(content=grid) for grid in grids), Part(content=remarks), *files)


def _grid(grid: Grid, name: str, controls: Collection[str]) -> Markup:
    header = [column(title, numeric=n > 0) for n, title in enumerate(grid.header)]
    rows = [
        Row(cells=(row_head(first), *map(_printed_cell, rest)), is_control=first in controls)
        for first, *rest in grid.rows
    ]
    notes = [prose(note, "note") for note in grid.notes]
    return joined([heading(grid.title, name, 4), table(name, header, rows), *notes])


def _printed_cell(text: str) -> Markup:
    """A cell as a terminal prints it, a mark behind a number shown as such."""
    mark = text[-1:] if text[-1:] in _MARKS and text[:1].lstrip("-").isdigit() else ""
    kind, meaning = _MARKS.get(mark, ("", ""))
    return cell(joined([text.removesuffix(mark), _sign(mark, meaning)]), f"number {kind}".strip())

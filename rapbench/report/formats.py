"""One neutral document of tables, written as text, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import zip_longest
from typing import Any

Record = Mapping[str, Any]
Column = Sequence[str]
"""A header and the cells below it."""

_PROSE = 120
"""Characters of a line of prose on what is wider than that."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of strings under a title; every row is as long as the header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Document:
    """Tables to read, and the numbers behind them.

    Attributes:
        title: empty where the tables speak for themselves.
        notes: paragraphs before the tables.
        grids: the tables, as people read them.
        remarks: paragraphs after the tables.
        about: what a JSON document says besides its records.
        records: one a number, in full precision, all with the same fields: what CSV and JSON hold.
    """

    title: str = ""
    notes: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    remarks: tuple[str, ...] = ()
    about: Record = field(default_factory=dict)
    records: tuple[Record, ...] = ()


class Format(StrEnum):
    """How a document is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


class TableForm(StrEnum):
    """How rows are written."""

    PARQUET = "parquet"
    CSV = "csv"


def rendered(document: Document, form: Format) -> str:
    """The document in a format, without a newline at its end.

    Names in it may hold anything: none is a command to what reads the format. Text fits the terminal, or the
    environment's COLUMNS; where there is neither, tables are as wide as they need.
    """
    return _WRITERS[form](_shown(document))


def printable(text: str) -> str:
    """Text whose control characters, line breaks and marks of direction are seen as escapes instead of obeyed."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def field_safe(text: str) -> str:
    """A field of CSV that no spreadsheet computes: behind an apostrophe where it would begin a formula."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


_FORMULA = tuple("=+-@＝＋－＠")


def _shown(document: Document) -> Document:
    """The document as people see it: its strings printable."""
    return replace(
        document,
        title=printable(document.title),
        notes=_all_printable(document.notes),
        grids=tuple(
            Grid(
                title=printable(grid.title),
                header=_all_printable(grid.header),
                rows=tuple(map(_all_printable, grid.rows)),
                notes=_all_printable(grid.notes),
            )
            for grid in document.grids
        ),
        remarks=_all_printable(document.remarks),
    )


def _all_printable(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(printable, texts))


def number(value: float) -> str:
    """Three decimals, two from ten on, powers of ten for what would print as zero or run wide."""
    if value and not 5e-4 <= abs(value) < 1e4:
        return f"{value:.0e}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """`[low, high]`, empty where there is none."""
    return "" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def _text(document: Document) -> str:
    width = shutil.get_terminal_size((0, 0)).columns or sys.maxsize
    notes, remarks = ([_wrapped(one, width) for one in paragraphs] for paragraphs in (document.notes, document.remarks))
    grids = [_text_grid(grid, width) for grid in document.grids]
    return "\n\n".join(filter(None, [_filled(document.title, width), *notes, *grids, *remarks]))


def _text_grid(grid: Grid, width: int) -> str:
    columns: list[Column] = list(zip(grid.header, *grid.rows, strict=True))
    parts = [columns] if _width(columns) <= width else _parts(columns, _num_keys(grid.rows), width)
    table = "\n\n".join(map(_aligned, parts))
    return "\n".join([_filled(grid.title, width), table, *(_wrapped(note, width) for note in grid.notes)])


def _num_keys(rows: Sequence[Sequence[str]]) -> int:
    """How many of the first cells tell every row from the others."""
    most = max(map(len, rows), default=1)
    return next((k for k in range(1, most) if len({tuple(row[:k]) for row in rows}) == len(rows)), 1)


def _parts(columns: Sequence[Column], num_keys: int, width: int) -> list[list[Column]]:
    """Tables below one another that fit, each beginning with the columns that tell the rows apart."""
    keys = _folded(columns[:num_keys], 2 * width // 3)
    parts: list[list[Column]] = []
    for column in columns[num_keys:]:
        (folded,) = _folded([column], width - _width(keys) - len(_GAP))
        if parts and _width([*parts[-1], folded]) <= width:
            parts[-1].append(folded)
        else:
            parts.append([*keys, folded])
    return parts or [keys]


def _folded(columns: Sequence[Column], width: int) -> list[Column]:
    """Columns that are together no wider, the cells of the widest on several lines."""
    widest = max(map(_width_of, columns))
    while widest > 2 and sum(min(_width_of(column), widest) + len(_GAP) for column in columns) - len(_GAP) > width:
        widest -= 1
    return [["\n".join(textwrap.wrap(cell, widest, subsequent_indent=" ")) for cell in column] for column in columns]


def _aligned(columns: Sequence[Column]) -> str:
    widths = list(map(_width_of, columns))
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
        for line in zip_longest(*(cell.split("\n") for cell in row), fillvalue="")
    )


def _width(columns: Sequence[Column]) -> int:
    """Characters of a line of these columns."""
    return sum(map(_width_of, columns)) + len(_GAP) * (len(columns) - 1)


def _width_of(column: Column) -> int:
    return max(len(line) for cell in column for line in cell.split("\n"))


_GAP = "  "


def _prose(text: str, plain: Callable[[str], str], code: Callable[[str], str]) -> str:
    """A paragraph whose commands stand in backticks."""
    return "".join(code(part) if place % 2 else plain(part) for place, part in enumerate(text.split("`")))


def _wrapped(paragraph: str, width: int) -> str:
    return _filled(paragraph, min(width, _PROSE))


def _filled(paragraph: str, width: int) -> str:
    """Lines no wider; what holds no space is not broken, so that commands and paths can be copied."""
    return textwrap.fill(paragraph, width, break_long_words=False, break_on_hyphens=False)


def _markdown(document: Document) -> str:
    title = [f"# {markdown_safe(document.title)}"] if document.title else []
    notes, remarks = (list(map(_markdown_prose, paragraphs)) for paragraphs in (document.notes, document.remarks))
    return "\n\n".join([*title, *notes, *map(_markdown_grid, document.grids), *remarks])


def _markdown_grid(grid: Grid) -> str:
    rule = ["---", *["---:"] * (len(grid.header) - 1)]
    rows = [grid.header, rule, *grid.rows]
    lines = [f"| {' | '.join(map(markdown_safe, row))} |" for row in rows]
    return "\n\n".join([f"**{markdown_safe(grid.title)}**", "\n".join(lines), *map(_markdown_prose, grid.notes)])


def _markdown_prose(text: str) -> str:
    return _prose(text, markdown_safe, "`{}`".format)


def markdown_safe(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\|*_~$<\[\]`]|&(?=[#a-zA-Z]))", r"\\\1", text)


def html_safe(text: str) -> str:
    """Text that HTML shows as it is, in an element as in an attribute's quotes."""
    return html.escape(printable(text))


def html_prose(text: str) -> str:
    """A paragraph as HTML, its commands as code."""
    return _prose(text, html_safe, lambda code: f"<code>{html_safe(code)}</code>")


def _latex(document: Document) -> str:
    comment = "% needs \\usepackage{booktabs}; wide tables: \\usepackage{graphicx}"
    title = [f"\\section*{{{_latex_safe(document.title)}}}"] if document.title else []
    notes, remarks = (list(map(_latex_prose, paragraphs)) for paragraphs in (document.notes, document.remarks))
    return "\n\n".join([comment, *title, *notes, *map(_latex_grid, document.grids), *remarks])


def _latex_grid(grid: Grid) -> str:
    lines = [f"{' & '.join(map(_latex_cell, row))} \\\\" for row in (grid.header, *grid.rows)]
    notes = [f"\\par\\smallskip\\footnotesize {_latex_prose(note)}" for note in grid.notes]
    return "\n".join(
        [
            *("\\begin{table}[ht]", "\\centering", f"\\caption{{{_latex_safe(grid.title)}}}"),
            *("\\resizebox{\\linewidth}{!}{%", f"\\begin{{tabular}}{{l{'r' * (len(grid.header) - 1)}}}"),
            *("\\toprule", lines[0], "\\midrule", *lines[1:], "\\bottomrule", "\\end{tabular}}", *notes),
            "\\end{table}",
        ]
    )


_GREEK = {"α": "alpha", "β": "beta", "γ": "gamma", "ε": "varepsilon", "σ": "sigma", "Σ": "Sigma"}
_SIGNS = {"<": "<", ">": ">", "|": "|", "×": "\\times", "·": "\\cdot", "−": "-", "≥": "\\geq", "≤": "\\leq", "²": "^2"}
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    **{letter: f"$\\{name}$" for letter, name in _GREEK.items()},
    **{sign: f"${command}$" for sign, command in _SIGNS.items()},
}


def _latex_safe(text: str) -> str:
    """Text with what LaTeX would take for commands or longer dashes written out."""
    return re.sub("-(?=-)", "-{}", "".join(_LATEX.get(character, character) for character in text))


def _latex_prose(text: str) -> str:
    return _prose(text, _latex_safe, lambda code: f"\\texttt{{{_latex_safe(code)}}}")


def _latex_cell(text: str) -> str:
    """A cell; a bracket or a star that opens a row would be read as an option of the line break before it."""
    safe = _latex_safe(text)
    return f"{{{safe}}}" if safe.startswith(("[", "*")) else safe


def _csv(document: Document) -> str:
    sink = io.StringIO()
    records = document.records
    writer = csv.DictWriter(sink, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: csv_field(value) for key, value in record.items()} for record in records)
    return sink.getvalue().removesuffix("\n")


def csv_field(value: object) -> object:
    """A value as one field of CSV: nothing for None, JSON for what has parts, no text that a spreadsheet computes."""
    if isinstance(value, str):
        return field_safe(value)
    return json.dumps(value) if isinstance(value, bool | dict | list) else value


def _json(document: Document) -> str:
    return json.dumps({**document.about, "results": document.records}, allow_nan=False)


_WRITERS: dict[Format, Callable[[Document], str]] = {
    Format.TEXT: _text,
    Format.MARKDOWN: _markdown,
    Format.LATEX: _latex,
    Format.CSV: _csv,
    Format.JSON: _json,
}

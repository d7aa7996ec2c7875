"""One neutral document of tables, written as text, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Record = Mapping[str, Any]


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


def rendered(document: Document, form: Format) -> str:
    """The document in a format, without a newline at its end."""
    return _WRITERS[form](document)


def number(value: float) -> str:
    """Three decimals, two from ten on, powers of ten for what would print as zero or run wide."""
    if value and not 5e-4 <= abs(value) < 1e4:
        return f"{value:.0e}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """`[low, high]`, empty where there is none."""
    return "" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def _text(document: Document) -> str:
    blocks = [document.title, *map(_wrapped, document.notes), *map(_text_grid, document.grids)]
    return "\n\n".join(filter(None, [*blocks, *map(_wrapped, document.remarks)]))


def _text_grid(grid: Grid) -> str:
    rows = [grid.header, *grid.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([grid.title, *lines, *map(_wrapped, grid.notes)])


def _prose(text: str, plain: Callable[[str], str], code: Callable[[str], str]) -> str:
    """A paragraph whose commands stand in backticks."""
    return "".join(code(part) if place % 2 else plain(part) for place, part in enumerate(text.split("`")))


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, 120, break_long_words=False, break_on_hyphens=False)


def _markdown(document: Document) -> str:
    title = [f"# {_pipe_safe(document.title)}"] if document.title else []
    notes, remarks = (list(map(_markdown_prose, paragraphs)) for paragraphs in (document.notes, document.remarks))
    return "\n\n".join([*title, *notes, *map(_markdown_grid, document.grids), *remarks])


def _markdown_grid(grid: Grid) -> str:
    rule = ["---", *["---:"] * (len(grid.header) - 1)]
    rows = [grid.header, rule, *grid.rows]
    lines = [f"| {' | '.join(map(_pipe_safe, row))} |" for row in rows]
    return "\n\n".join([f"**{_pipe_safe(grid.title)}**", "\n".join(lines), *map(_markdown_prose, grid.notes)])


def _markdown_prose(text: str) -> str:
    return _prose(text, _pipe_safe, "`{}`".format)


def _pipe_safe(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\|*_<\[\]`])", r"\\\1", text)


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
    return "".join(_LATEX.get(character, character) for character in text).replace("--", "-{}-")


def _latex_prose(text: str) -> str:
    return _prose(text, _latex_safe, lambda code: f"\\texttt{{{_latex_safe(code)}}}")


def _latex_cell(text: str) -> str:
    """A cell; a bracket that opens a row would be read as an option of the line break before it."""
    safe = _latex_safe(text)
    return f"{{{safe}}}" if safe.startswith("[") else safe


def _csv(document: Document) -> str:
    sink = io.StringIO()
    records = document.records
    writer = csv.DictWriter(sink, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _flat(value) for key, value in record.items()} for record in records)
    return sink.getvalue().removesuffix("\n")


def _flat(value: object) -> object:
    """A value as one field: nothing for None, JSON for what has parts."""
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

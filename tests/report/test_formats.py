"""One document in five formats: nothing lost, nothing read as a command."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import pytest

from rapbench.report.formats import Document, Format, Grid, interval, number, printable, rendered

AWKWARD = "50 % of a_b & c | #1 {x} $y$ ~z ^2 \\n <w> α1β0 `--q`"
GRID = Grid(
    title="A table: lower is better",
    header=("method", "value", "95 % interval"),
    rows=(("rap", "0.250", "[0.2, 0.3]"), (AWKWARD, "-", ""), ("", "1", "[0, 1]")),
    notes=("Dropped: 3 zero map.",),
)
RECORDS = (
    {"method": "rap", "value": 1 / 3, "near": True, "dropped": {"zero map": 3}, "n": 7},
    {"method": 'a, "b"', "value": None, "near": False, "dropped": {}, "n": 0},
)
DOCUMENT = Document(
    title="Title & all",
    notes=("Run `rapbench run --config a_b.toml` first.",),
    grids=(GRID, GRID),
    remarks=("A remark.",),
    about={"table": "a/b"},
    records=RECORDS,
)


def test_text_aligns_columns_under_the_title() -> None:
    title, *rows, note = rendered(Document(grids=(GRID,)), Format.TEXT).splitlines()
    assert (title, note) == (GRID.title, GRID.notes[0])
    width = len(AWKWARD) + 2
    assert [row[:width].rstrip() for row in rows] == [GRID.header[0], *(row[0] for row in GRID.rows)]
    assert [row[width:].split("  ")[0] for row in rows] == ["value", "0.250", "-", "1"]
    assert not any(row.endswith(" ") for row in rows)


def test_text_keeps_paragraphs_narrow_and_in_order() -> None:
    lines = rendered(Document(notes=("word " * 100,), remarks=("last",)), Format.TEXT).splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[-1] == "last"


WIDE = Grid(
    title="Scores on a data set with a name, a network with a title and more words than a narrow line holds",
    header=("method", *(f"variant{k}@threshold (higher)" for k in range(5)), "images", "dropped"),
    rows=tuple(
        (name, *(f"{n}.{k}00 [0.000, 1.000]" for k in range(5)), "96", "3 zero map")
        for n, name in enumerate(("rap", "lrp_alpha_beta(alpha=2, beta=1, bias=innvestigate, batch_norm=rule)"))
    ),
    notes=("A note " * 30,),
)


@pytest.mark.parametrize("columns", [60, 80, 100, 119])
def test_text_fits_a_terminal_and_loses_nothing(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = rendered(Document(title=WIDE.title, notes=("word " * 100,), grids=(WIDE,)), Format.TEXT).splitlines()
    assert max(map(len, lines)) <= columns
    words = " ".join(lines).split()
    assert all(words.count(word) for row in (WIDE.header, *WIDE.rows) for cell in row for word in cell.split())
    parts = [line for line in lines if line.startswith("method")]
    assert len(parts) == sum(line.startswith("rap ") for line in lines) > 1


@pytest.mark.parametrize("columns", ["", "0", "400"])
def test_text_is_as_wide_as_it_needs_where_there_is_room_or_no_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    title, *rows, _note, _ = rendered(Document(grids=(WIDE,)), Format.TEXT).splitlines()
    assert title == WIDE.title
    assert len(rows) == 3


def test_a_table_that_is_split_repeats_all_that_tells_its_rows_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = tuple((method, column, "x" * 12, "y" * 12) for method in ("rap", "lrp") for column in ("all", "pos"))
    grid = Grid(title="", header=("method", "number", "ours", "theirs"), rows=rows)
    lines = rendered(Document(grids=(grid,)), Format.TEXT).splitlines()
    assert [line.split()[:2] for line in lines if line[:3] in {"rap", "lrp"}] == [
        ["rap", "all"],
        ["rap", "pos"],
        ["lrp", "all"],
        ["lrp", "pos"],
    ] * 2


HOSTILE = (
    *(
        "=1+1",
        "+1",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "＝1",
        "a\nb",
        "\x1b[31mred\x1b[0m",
        "\x9b2J",
        "\u202egnp",
        "\ud800",
    ),
    *(
        "<b>x</b>",
        "&lt;",
        "a|b",
        "*x*",
        "_x_",
        "~~x~~",
        "`x`",
        "[x](y)",
        "$x$",
        "%",
        "a---b",
        "\\input{x}",
        "{",
        "#1",
        "*",
        "[",
    ),
)


def hostile(name: str) -> Document:
    grid = Grid(title=name, header=("method", name), rows=((name, "1"), ("rap", name)), notes=(name,))
    return Document(
        title=name, notes=(name,), grids=(grid,), remarks=(name,), records=({"method": name, "value": 0.5},)
    )


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
@pytest.mark.parametrize("form", Format)
def test_no_name_is_a_command_in_any_format(form: Format, name: str) -> None:
    text = rendered(hostile(name), form)
    text.encode()
    assert text.replace("\n", "").isprintable()
    if form is Format.CSV:
        (row,) = csv.DictReader(io.StringIO(text))
        assert row["method"][0] not in "=+-@\t\r＝"
        assert float(row["value"]) == 0.5
    if form is Format.MARKDOWN:
        rows = [unescaped(line) for line in text.splitlines() if line.startswith("| ")]
        assert (rows[0][1], rows[2][0], rows[3][1]) == (printable(name),) * 3
        assert not re.search(r"(?<!\\)(?:\\\\)*(<b|&lt|~~|\$|\*x|_x_|\[x)", text)
    if form is Format.LATEX:
        assert [len(re.findall(r"(?<!\\)&", row)) for row in latex_rows(text)] == [1] * 3
        assert not any(row.startswith(("[", "*")) for row in latex_rows(text))
        body = text.split("\n", 1)[1].replace("{!}{%", "")  # below the comment that names packages
        assert not re.search(r"\\input|(?<!\\)[%#_]|--", body)
    if form is Format.JSON:
        assert json.loads(text)["results"] == [{"method": name, "value": 0.5}]


def unescaped(row: str) -> list[str]:
    """The cells of a Markdown table's row, as a reader splits them."""
    return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_markdown_tables_have_as_many_cells_as_headers_and_lose_nothing() -> None:
    text = rendered(Document(grids=(GRID,)), Format.MARKDOWN)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[1] == "| --- | ---: | ---: |"
    assert [tuple(unescaped(row)) for row in (rows[0], *rows[2:])] == [GRID.header, *GRID.rows]


def test_markdown_shows_commands_as_code() -> None:
    text = rendered(DOCUMENT, Format.MARKDOWN)
    assert "Run `rapbench run --config a_b.toml` first." in text
    assert text.startswith("# Title & all\n")
    assert text.endswith("A remark.")


def latex_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.endswith("\\\\")]


def test_latex_tables_are_booktabs_with_one_cell_a_column() -> None:
    text = rendered(DOCUMENT, Format.LATEX)
    for environment in ("table", "tabular"):
        assert text.count(f"\\begin{{{environment}}}") == text.count(f"\\end{{{environment}}}") == 2
    rules = [line for line in text.splitlines() if re.fullmatch(r"\\(top|mid|bottom)rule", line)]
    assert rules == ["\\toprule", "\\midrule", "\\bottomrule"] * 2
    assert "\\begin{tabular}{lrr}" in text
    assert all(len(re.findall(r"(?<!\\)&", row)) == 2 for row in latex_rows(text))
    assert len(latex_rows(text)) == 8


def test_latex_takes_no_character_for_a_command() -> None:
    text = rendered(DOCUMENT, Format.LATEX)
    body = text.split("\n", 1)[1]  # below the comment that names packages
    body = body.replace("\\resizebox{\\linewidth}{!}{%", "{")
    assert len(re.findall(r"(?<!\\)\{", body)) == len(re.findall(r"(?<!\\)\}", body))
    assert not re.search(r"(?<!\\)[%#_]", body)
    assert len(re.findall(r"(?<!\\)\$", body)) % 2 == 0
    assert "50 \\% of a\\_b \\& c $|$ \\#1 \\{x\\} \\$y\\$ \\textasciitilde{}z \\textasciicircum{}2" in body
    assert "$\\alpha$1$\\beta$0" in body
    assert "\\texttt{rapbench run -{}-config a\\_b.toml}" in body
    assert "α" not in body


def test_no_latex_cell_opens_with_a_bracket_that_a_line_break_would_take() -> None:
    first = Grid(title="", header=("interval", "n"), rows=(("[0, 1]", "3"),))
    assert "{[0, 1]} & 3 \\\\" in rendered(Document(grids=(first,)), Format.LATEX)


def test_csv_keeps_every_digit_and_every_field() -> None:
    rows = list(csv.DictReader(io.StringIO(rendered(DOCUMENT, Format.CSV))))
    assert float(rows[0]["value"]) == 1 / 3
    assert json.loads(rows[0]["dropped"]) == {"zero map": 3}
    assert (rows[0]["near"], rows[1]["near"]) == ("true", "false")
    assert (rows[1]["method"], rows[1]["value"]) == ('a, "b"', "")
    assert all(set(row) == set(RECORDS[0]) for row in rows)


def test_json_is_one_document_with_what_it_is_about() -> None:
    document = json.loads(rendered(DOCUMENT, Format.JSON))
    assert document["table"] == "a/b"
    assert tuple(document["results"]) == RECORDS


@pytest.mark.parametrize("form", Format)
def test_a_document_without_tables_can_be_written(form: Format) -> None:
    assert not rendered(Document(), form).endswith("\n")


@pytest.mark.parametrize(
    ("value", "printed"),
    [(0.0, "0.000"), (0.2524, "0.252"), (12.345, "12.35"), (1e-7, "1e-07"), (-0.5, "-0.500"), (29536.0, "3e+04")],
)
def test_numbers_are_short(value: float, printed: str) -> None:
    assert number(value) == printed
    assert math.isclose(float(number(value)), value, rel_tol=0.05, abs_tol=1e-9)


def test_an_interval_needs_both_ends() -> None:
    assert interval(0.25, 12) == "[0.250, 12.00]"
    assert interval(None, 12) == interval(0.25, None) == ""

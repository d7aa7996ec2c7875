"""A page is whole and valid whatever names hold, and stays small enough."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from pages import Page, read
from stored import cell, held, ratios

from rapbench.cli.reported import Source, reported
from rapbench.core.errors import BadConfig
from rapbench.report.formats import printable
from rapbench.report.html import gallery
from rapbench.report.html.gallery import Gallery, Shown
from rapbench.report.html.markup import Markup, element
from rapbench.report.html.page import page
from rapbench.report.html.parts import Part, Section, Worth, download
from rapbench.report.picks import by_metric, picks, ranking
from rapbench.report.result import results
from rapbench.results.cell import Cell
from rapbench.results.select import Filter
from rapbench.results.store import Block, Store

RUDE = "<script>alert('1')</script>\"&amp;\n=1+1\u202e`</td>"
METHODS = ("rap", "lrp_zero", "gradient", "random")


def rude(own: Cell) -> Cell:
    """The same under names that hold markup, quotes, a line break, a formula and a turn of direction."""
    names = {"dataset": f"data{RUDE}", "model_title": f"net{RUDE}", "method_title": f"title{RUDE}"}
    method = f"{own.method}(note='{RUDE.replace(chr(39), '')}')"
    return replace(own, **names, method=method, limit=20)


def store(folder: Path) -> Store:
    """Rows of four methods under rude names, of images whose ids are rude."""
    found = Store(folder)
    for n, method in enumerate(METHODS):
        values = np.random.default_rng(n).random(20) + n
        rows = ratios(list(values)).assign(id=[f"{RUDE}{i}" for i in range(20)])
        columns = {name: rows[name].to_numpy() for name in rows}
        found.write(rude(cell(method)), Block(0, 20), columns, [], {RUDE: RUDE})
    return found


def test_a_command_of_a_page_asks_for_the_same_cells_of_the_same_folders(tmp_path: Path) -> None:
    roots = (tmp_path / "my runs", tmp_path / "$b")
    asked = Filter(dataset="scenes(count=20)", methods=("rap", "lrp_a2b1(bias=signed)"))
    source = Source(store=Store(tmp_path), roots=roots, asked=asked)
    options = ["--dataset", "scenes(count=20)", "--method", "rap,lrp_a2b1(bias=signed)"]
    folders = ["--out", str(roots[0]), "--out", str(roots[1])]
    assert shlex.split(source.command("table")) == ["rapbench", "table", *options, *folders]


def texts(html: Page) -> str:
    return "".join(data for _, data in html.texts)


def test_names_are_shown_and_never_obeyed(tmp_path: Path) -> None:
    source = Source(store=store(tmp_path / RUDE.replace("/", "")), roots=(tmp_path,), asked=Filter())
    html = reported(source, RUDE, None)
    found = read(html)
    assert len(found.of("script")) == 1
    for name in ("data", "net"):
        assert printable(f"{name}{RUDE}") in texts(found)
    plain = read(reported(replace(source), "plain", None))
    assert {name for name, _ in found.elements} == {name for name, _ in plain.elements}


def test_files_of_a_page_hold_no_formula_and_their_names_are_plain(tmp_path: Path) -> None:
    source = Source(store=store(tmp_path), roots=(tmp_path,), asked=Filter())
    links = [given for given in read(reported(source, None, None)).of("a") if given.get("download")]
    assert len(links) > 3
    assert [link for link in links if not re.fullmatch(r"[\w.=-]+", str(link["download"]))] == []


def pictures(images: int = 9, side: int = 32) -> Gallery:
    """A gallery of images under rude names."""
    found = []
    for n, method in enumerate(METHODS):
        rows = ratios(list(np.random.default_rng(n).random(images))).assign(id=[f"{RUDE}{i}" for i in range(images)])
        found += results(held(rude(cell(method)), rows))
    ranked = ranking(found)
    assert ranked is not None
    generator = np.random.default_rng(0)
    chosen = picks(ranked, images)
    shown = {
        pick.image: Shown(
            id=pick.image,
            caption=RUDE,
            photo=generator.random((side, side, 3)),
            mask=generator.random((side, side)) < 0.5,
            boxes=[],
            maps={name: generator.normal(size=(side, side)) for name in ranked.numbers},
        )
        for pick in chosen
    }
    return Gallery(title=RUDE, ranked=ranked, picks=chosen, shown=shown, beside=by_metric(found), notes=(RUDE,))


def whole(parts: Sequence[Part], limit: int = 10**9) -> str:
    return page("Title", "Lead.", [Section(name="gallery", title="Gallery", parts=tuple(parts))], limit)


def test_a_gallery_is_valid_and_every_picture_says_what_it_is() -> None:
    found = pictures()
    html = read(whole(gallery.parts(found, "gallery-0", "`command`")))
    alts = [str(given["alt"]) for given in html.of("img")]
    assert len(set(alts)) == len(alts) == len(found.shown) * (1 + len(METHODS))
    assert all(printable(RUDE) in alt for alt in alts)


def test_below_a_map_stand_the_scores_that_ranked_it() -> None:
    found = pictures()
    text = " ".join(unescape(whole(gallery.parts(found, "gallery-0", "`command`"))).split())
    for pick in found.picks:
        assert f"of {printable(pick.method)}, {pick.score:.3f}" in text or pick.score < 5e-4


def test_a_picture_that_is_not_there_is_no_link() -> None:
    found = pictures()
    gone = next(iter(found.shown))
    left = {image: shown for image, shown in found.shown.items() if image != gone}
    read(whole(gallery.parts(replace(found, shown=left), "gallery-0", "`command`")))


def section(sizes: Mapping[str, tuple[Worth, int]]) -> Section:
    parts = [
        Part(
            content=element("p", {"id": name}, name * size),
            worth=worth,
            what=f"piece {name}",
            cure="`command`",
            name=name,
        )
        for name, (worth, size) in sizes.items()
    ]
    links = Markup("".join(element("a", {"href": f"#{name}"}, name) for name in sizes if sizes[name][0] < Worth.NEEDED))
    return Section(name="all", title="All", parts=(*parts, Part(content=links)))


SIZES = {
    "x": (Worth.NEEDED, 20_000),
    "y": (Worth.CSV, 20_000),
    "v": (Worth.PICTURE, 20_000),
    "w": (Worth.PICTURE, 20_000),
    "z": (Worth.FIGURE, 20_000),
}


@pytest.mark.parametrize("left_out", ["", "w", "wv", "wvy", "wvyz"])
def test_a_page_that_grows_too_large_leaves_out_what_is_worth_least_and_says_so(left_out: str) -> None:
    full = page("Title", "Lead.", [section(SIZES)])
    limit = len(full.encode()) - 20_000 * len(left_out) + 3_000
    html = page("Title", "Lead.", [section(SIZES)], limit)
    assert len(html.encode()) <= limit
    found = read(html)
    assert {name for name in SIZES if name * 20_000 not in html} == set(left_out)
    assert [
        name for name in left_out if f"Left out, as the page would be too large: piece {name}" not in found.text
    ] == []
    assert ("What gives them" in found.text) is bool(left_out)


def test_a_page_of_needed_pieces_that_is_too_large_is_refused() -> None:
    with pytest.raises(BadConfig, match="narrow it by --dataset"):
        page("Title", "Lead.", [section({"x": (Worth.NEEDED, 20_000)})], limit=10_000)


def test_the_policy_of_a_page_lets_its_own_script_run_and_nothing_be_asked_for() -> None:
    (policy,) = [given["content"] for given in read(whole([])).of("meta") if "http-equiv" in given]
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-\S+'", str(policy)
    )


def test_a_file_in_a_page_holds_what_was_given() -> None:
    html = read(whole([Part(content=download("a,ä\n1,2\n", "some", "csv", "CSV"))]))
    (link,) = [given for given in html.of("a") if given.get("download")]
    assert link["download"] == "some.csv"
    assert str(link["href"]).startswith("data:text/csv;charset=utf-8;base64,")


def test_another_parser_finds_nothing_wrong_either(tmp_path: Path) -> None:
    html5lib = pytest.importorskip("html5lib")
    source = Source(store=store(tmp_path), roots=(tmp_path,), asked=Filter())
    for html in (reported(source, RUDE, None), whole(gallery.parts(pictures(), "gallery-0", "`command`"))):
        parser = html5lib.HTMLParser(strict=False)
        parser.parse(html)
        assert parser.errors == []

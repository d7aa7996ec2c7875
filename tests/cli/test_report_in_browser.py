"""A report in a real browser: it opens from disk, asks for nothing, and does what its buttons say."""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rapbench import cli
from rapbench.report.result import results
from rapbench.results.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

NETWORK = ["--model", "doubles:tiny", "--weights", "random", "--dataset", "doubles:Squares", "--device", "cpu"]
METRICS = ["--metric", "outside_inside,perturbation(steps=3)"]
METHODS = "rap,lrp_epsilon,input_gradient,gradient,random"


def _command(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["rapbench", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert not ended.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with its report."""
    runs = tmp_path_factory.mktemp("report in browser")
    _command("run", *NETWORK, *METRICS, "--method", METHODS, "--limit", "6", "--out", str(runs))
    _command("report", "--out", str(runs))
    return runs


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, as this system has it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@dataclass
class Opened:
    """A report that is open, and what it said and asked for meanwhile."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def report(browser: Any, folder: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    given = getattr(request, "param", {})
    context = browser.new_context(**{"color_scheme": "light", "viewport": {"width": 1024, "height": 900}, **given})
    opened = Opened(context.new_page())
    opened.page.on("console", lambda message: opened.said.append(message.text))
    opened.page.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.page.on("request", lambda request: opened.asked.append(request.url[:200]))
    opened.page.goto((folder / "report.html").as_uri())
    yield opened
    context.close()


def methods(report: Opened, table: str = "table-0") -> list[str]:
    """The first column of a table as it is seen, controls left out."""
    body = report.page.locator(f"table[aria-labelledby='{table}'] tbody").first
    return [row.inner_text() for row in body.locator("tr:visible > th").all()]


def column(report: Opened, place: int, table: str = "table-0") -> list[float | None]:
    body = report.page.locator(f"table[aria-labelledby='{table}'] tbody").first
    cells = [row.locator("td").nth(place - 1) for row in body.locator("tr").all()]
    values = [cell.get_attribute("data-sort") for cell in cells]
    return [None if value is None else float(value) for value in values]


def heads(report: Opened, table: str = "table-0") -> Any:
    return report.page.locator(f"table[aria-labelledby='{table}'] thead th")


def ground(report: Opened) -> str:
    return str(report.page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))


def test_it_opens_from_disk_without_a_word_and_asks_for_nothing(report: Opened, folder: Path) -> None:
    report.page.wait_for_timeout(200)
    assert report.said == []
    assert [url for url in report.asked if not url.startswith("data:")] == [(folder / "report.html").as_uri()]
    broken = "[...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
    assert report.page.evaluate(broken) == 0


def test_a_column_is_sorted_best_first_and_the_other_way_round_at_the_next_click(report: Opened) -> None:
    head = heads(report).nth(3)  # pos, of which every method has a value
    assert "lower is better" in head.inner_text()
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = column(report, 3)
    assert up == sorted(up, key=lambda value: (value is None, value))
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(report, 3) == up[::-1]


def test_what_has_no_value_is_last_whichever_way_a_column_is_sorted(report: Opened) -> None:
    for _ in range(2):
        heads(report).nth(1).locator("button").click()
        assert column(report, 1)[-1] is None
        assert None not in column(report, 1)[:-1]


def test_controls_stay_apart_when_a_column_is_sorted(report: Opened) -> None:
    heads(report).nth(3).locator("button").click()
    apart = report.page.locator("table[aria-labelledby='table-0'] tbody.controls")
    assert apart.locator("th").all_inner_texts() == ["controls, which know nothing of the network", "random"]


def test_a_head_is_sorted_by_the_keyboard(report: Opened) -> None:
    heads(report).nth(0).locator("button").focus()
    report.page.keyboard.press("Enter")
    assert methods(report) == sorted(methods(report))


def test_rows_are_filtered_by_what_is_typed(report: Opened) -> None:
    everything = methods(report)
    search = report.page.locator("#scores input[type=search]").first
    search.fill("gradient")
    assert methods(report) == [name for name in everything if "gradient" in name]
    assert report.page.locator("#scores output").first.inner_text() == "2 of 5 rows"
    search.fill("")
    assert methods(report) == everything


@pytest.mark.parametrize("report", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True)
def test_the_theme_is_the_system_s_until_it_is_chosen_and_then_kept(report: Opened) -> None:
    before = ground(report)
    report.page.locator("button.theme").click()
    after = ground(report)
    assert {before, after} == {"rgb(255, 255, 255)", "rgb(20, 23, 27)"}
    report.page.reload()
    assert ground(report) == after


def test_a_picture_is_enlarged_turned_over_and_put_back(report: Opened) -> None:
    frame = report.page.locator("a.frame").nth(1)
    small = frame.bounding_box()["width"]
    frame.click()
    dialog = report.page.locator("dialog[open]")
    assert dialog.locator("img").bounding_box()["width"] > 1.5 * small
    first = dialog.locator("img").get_attribute("alt")
    report.page.keyboard.press("ArrowRight")
    assert dialog.locator("img").get_attribute("alt") != first
    report.page.keyboard.press("ArrowLeft")
    assert dialog.locator("img").get_attribute("alt") == first
    report.page.keyboard.press("Escape")
    assert report.page.locator("dialog[open]").count() == 0


def test_pictures_can_be_those_of_one_method_and_without_outlines(report: Opened) -> None:
    everything = report.page.locator(".picture:visible").count()
    report.page.locator("#gallery select").select_option(label="rap")
    left = report.page.locator(".picture:visible")
    assert 0 < left.count() <= everything
    assert all("of rap" in one.locator(".badges").inner_text() for one in left.all())
    report.page.locator("#gallery input[type=checkbox]").uncheck()
    assert report.page.locator("svg.outline:visible").count() == 0


def test_a_downloaded_table_holds_the_store_s_numbers(report: Opened, folder: Path) -> None:
    with report.page.expect_download() as started:
        report.page.locator("#scores a.download").first.click()
    assert re.fullmatch(r"outside_inside.*\.csv", started.value.suggested_filename)
    rows = [*csv.DictReader(io.StringIO(Path(started.value.path()).read_text()))]
    held = [one for one in Store(folder).held() if one.cell.identity.metric.name == "outside_inside"]
    stored = {(r.cell.key, r.variant): r.estimate for one in held for r in results(one)}
    assert len(rows) == len(stored)
    for row in rows:
        found = stored[row["key"], row["variant"]]
        assert [row[key] for key in ("value", "ci_low", "ci_high")] == [
            "" if number is None else repr(number) for number in (found.value, found.ci_low, found.ci_high)
        ]


@pytest.mark.parametrize("report", [{"java_script_enabled": False}], indirect=True)
def test_without_javascript_everything_is_there_and_a_picture_grows_by_its_link(report: Opened) -> None:
    page = report.page
    assert page.locator("button, input, select").count() == 0
    assert page.locator("#scores table").first.is_visible()
    frame = page.locator("a.frame").nth(1)
    small = frame.bounding_box()["width"]
    frame.click()
    assert frame.bounding_box()["width"] > 1.5 * small


@pytest.mark.parametrize("report", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_on_a_phone_nothing_is_wider_than_the_screen(report: Opened) -> None:
    assert report.page.evaluate("document.documentElement.scrollWidth") == 360
    wide = "[...document.querySelectorAll('.scroll')].filter((box) => box.getBoundingClientRect().right > 361).length"
    assert report.page.evaluate(wide) == 0


@pytest.mark.parametrize("report", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_a_table_fades_where_there_is_more_to_the_right_of_it(report: Opened) -> None:
    box = report.page.locator("#scores .scroll").first
    fades = "(box) => getComputedStyle(box).maskImage !== 'none'"
    report.page.wait_for_timeout(200)
    assert box.evaluate(fades)
    box.evaluate("(box) => { box.scrollLeft = box.scrollWidth; }")
    report.page.wait_for_timeout(200)
    assert not box.evaluate(fades)
    box.evaluate("(box) => { box.scrollLeft = 0; }")
    report.page.emulate_media(media="print")
    assert not box.evaluate(fades)


def test_printed_it_is_light_and_without_buttons(report: Opened) -> None:
    report.page.locator("button.theme").click()
    report.page.emulate_media(media="print")
    assert ground(report) == "rgb(255, 255, 255)"
    assert report.page.locator("nav:visible, .tools:visible, a.download:visible").count() == 0

"""`rapbench report` as a user types it: what the page holds, where it has it from, and what it says without it."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from pages import Page, read
from typed import Command, typed

from rapbench import cli

NETWORK = ["--model", "doubles:tiny", "--weights", "random", "--dataset", "doubles:Squares", "--device", "cpu"]
METRICS = ["--metric", "outside_inside,segmentation,perturbation(steps=3, images=4)"]
METHODS = "rap,gradient,random"


@pytest.fixture
def rapbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.delenv("RAPBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    return typed(monkeypatch, capsys)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows of three methods and maps, computed once."""
    folder = tmp_path_factory.mktemp("rows")
    out = ["--out", str(folder / "runs"), "--save-maps", str(folder / "maps")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["rapbench", "run", *NETWORK, *METRICS, "--method", METHODS, "--limit", "6", *out])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 0
    return folder


@pytest.fixture
def runs(rows: Path, tmp_path: Path) -> Path:
    """A results folder of its own, with those rows."""
    shutil.copytree(rows / "runs", tmp_path / "runs")
    return tmp_path / "runs"


def page_of(runs: Path) -> Page:
    return read((runs / "report.html").read_text())


def files_of(page: Page) -> dict[str, str]:
    """The files that a page offers, by name."""
    links = [given for given in page.of("a") if given.get("download")]
    return {
        str(link["download"]): base64.b64decode(str(link["href"]).partition("base64,")[2]).decode() for link in links
    }


def test_it_is_one_valid_file_with_a_section_for_everything(rapbench: Command, runs: Path) -> None:
    done = rapbench("report", "--out", str(runs))
    assert (done.code, done.out) == (0, f"{runs}/report.html\n")
    page = page_of(runs)
    sections = [given["id"] for given in page.of("section")]
    assert sections == ["runs", "scores", "figures", "ranks", "gallery", "guards"]
    pictures = [given for given in page.of("article") if given["class"] == "picture"]
    assert 3 <= len(pictures) <= 6
    assert len(page.of("img")) == len(pictures) * 4  # each with the maps of three methods
    assert len((runs / "report.html").read_bytes()) < 10e6


def of_metric(name: str, form: str) -> bool:
    return bool(re.match(rf"(outside_inside|segmentation|perturbation|guards)\b.*{form}$", name))


@pytest.mark.slow
def test_its_files_are_what_a_terminal_prints(rapbench: Command, runs: Path) -> None:
    rapbench("report", "--out", str(runs), "--no-gallery")
    files = files_of(page_of(runs))
    tables = [text.splitlines() for name, text in files.items() if of_metric(name, "csv")]
    printed = rapbench("table", "--out", str(runs), "--format", "csv").out.splitlines()
    assert {line for lines in tables for line in lines} == {*printed}
    assert sum(len(lines) - 1 for lines in tables) == len(printed) - 1
    as_json = json.loads(rapbench("table", "--out", str(runs), "--json").out)["results"]
    held = [json.loads(text)["results"] for name, text in files.items() if of_metric(name, "json")]
    assert sorted(json.dumps(one) for some in held for one in some) == sorted(json.dumps(one) for one in as_json)
    assert rapbench("ranks", "--out", str(runs), "--format", "csv").out in files.values()


def test_its_tables_show_the_numbers_of_a_terminal_s(rapbench: Command, runs: Path) -> None:
    rapbench("report", "--out", str(runs), "--no-gallery")
    shown = " ".join(page_of(runs).text.split())
    printed = rapbench("table", "--out", str(runs), "--format", "markdown").out
    numbers = re.findall(r"(-?[\d.e+-]+[*~!]?) (\\\[.*?\\\])", printed)
    assert len(numbers) > 20
    assert [pair for pair in numbers if f"{pair[0]} {pair[1]}".replace("\\", "") not in shown] == []


def test_its_command_finds_the_rows(rapbench: Command, runs: Path) -> None:
    rapbench("report", "--out", str(runs), "--no-gallery")
    page = page_of(runs)
    (command,) = {text for element, text in page.texts if element == "code" and text.startswith("rapbench run")}
    again = rapbench(*shlex.split(command)[1:])
    assert again.code == 0, again.err
    assert "nothing to compute" in again.out


@pytest.mark.slow
def test_saved_maps_are_shown_instead_of_computed_again_and_give_the_same_bytes(
    rapbench: Command, rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rapbench("report", "--out", str(runs), "--to", "computed.html")
    monkeypatch.setattr("rapbench.run.explainer.Explainer.explained", lambda *_: pytest.fail("explains"))
    done = rapbench("report", "--out", str(runs), "--to", "saved.html", "--maps", str(rows / "maps"))
    assert done.code == 0, done.err
    assert Path("saved.html").read_bytes() == Path("computed.html").read_bytes()


def test_pictures_are_bounded_and_the_others_are_named(rapbench: Command, runs: Path) -> None:
    rapbench("report", "--out", str(runs), "--pictures", "2")
    page = page_of(runs)
    assert len(page.of("article")) == 2 + 1  # and the run
    assert "not shown" in page.text
    assert "The rows were computed by" not in page.text


def test_maps_of_another_machine_than_the_rows_say_so(
    rapbench: Command, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rapbench.run.plan.platform.machine", lambda: "abacus")
    rapbench("report", "--out", str(runs), "--pictures", "1", "--method", "rap")
    assert re.search(r"The rows were computed by .*; the maps by .*device abacus", page_of(runs).text)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--model", "nowhere.py:build"], "nowhere.py"),
        (["--weights", "gone.pth"], "gone.pth"),
        (["--rank-by", "degradation"], "no metric 'degradation' that ranks images"),
    ],
)
def test_a_gallery_that_cannot_be_is_a_line_and_the_rest_is_there(
    rapbench: Command, runs: Path, given: list[str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given[0] in {"--model", "--weights"}:  # stored under another name, as of a file that is not here
        monkeypatch.setattr("rapbench.results.select.Filter.admits", lambda *_: True)
    done = rapbench("report", "--out", str(runs), *given)
    assert done.code == 0
    (line,) = [line for line in done.err.splitlines() if "no gallery" in line]
    assert why in line
    page = page_of(runs)
    assert "No gallery of doubles:tiny" in page.text
    assert page.of("img") == []
    assert len(page.of("table")) > 3


@pytest.mark.slow
def test_maps_of_other_weights_are_never_shown(rapbench: Command, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import doubles
    import torch

    monkeypatch.setattr(doubles, "tiny", lambda **_: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(7)))
    done = rapbench("report", "--out", str(runs))
    assert done.code == 0
    assert "no gallery" in done.err
    assert page_of(runs).of("img") == []


def test_a_method_that_fails_now_is_left_out_and_named(
    rapbench: Command, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ArithmeticError("lamp\nout")

    monkeypatch.setattr("rapbench.methods.gradient.Gradient.__call__", fails)
    done = rapbench("report", "--out", str(runs))
    assert done.code == 0
    assert "gallery: method gradient: ArithmeticError: out" in done.err
    alts = [str(given["alt"]) for given in page_of(runs).of("img")]
    assert {alt.partition(": ")[2] for alt in alts} == {"the picture", "map of rap", "map of random"}


def test_a_paper_s_table_stands_beside_its_published_numbers(rapbench: Command, runs: Path) -> None:
    asked = ["--model", "doubles:tiny", "--dataset", "doubles:Squares", "--no-gallery"]
    done = rapbench("report", "rap2020/table1", "rap2020/figure7", "--out", str(runs), *asked)
    assert done.code == 0, done.err
    page = page_of(runs)
    assert "papers" in [given["id"] for given in page.of("section")]
    assert "Negative perturbation (Nam et al. 2020, Figure 7)" in page.text
    csv = next(text for name, text in files_of(page).items() if name.startswith("Outside") and name.endswith("csv"))
    printed = rapbench("table", "rap2020/table1", "--out", str(runs), *asked[:4], "--format", "csv")
    assert csv == printed.out


def test_a_paper_is_not_shown_beside_rows_of_another_network(rapbench: Command, runs: Path) -> None:
    rapbench("report", "--out", str(runs), "--no-gallery")
    assert "Nam et al. 2020, Table 1" not in page_of(runs).text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "no results in results/runs"),
        (["--out", "nowhere"], "no results in nowhere"),
        (["--out", "runs", "--model", "vgg16"], "no results of --model vgg16 in runs"),
        (["--out", "runs", "--rank-by", "segmentatoin"], "did you mean segmentation?"),
        (["rap2020/table9", "--out", "runs"], "no table or figure named 'rap2020/table9'"),
        (["rap2020/table1", "--out", "runs", "--no-gallery"], "no results for rap2020/table1 in runs"),
        (["--out", "runs", "--no-gallery", "--to", "/proc/nowhere/report.html"], "cannot write"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_what_cannot_be_is_one_line(rapbench: Command, arguments: list[str], line: str) -> None:
    done = rapbench("report", *arguments)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert line in done.err


def test_what_is_damaged_is_left_out_and_named(rapbench: Command, runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    damaged = min(runs.glob("*gradient.segmentation*/*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    spec = next(runs.glob("*random.perturbation*/spec.json"))
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "images": 3}))
    done = rapbench("report", "--out", str(runs), "--no-gallery")
    assert done.code == 0
    assert {str(damaged), str(spec)} <= set(re.findall(r"left out: (\S+)", caplog.text))
    page_of(runs)


def test_an_empty_folder_and_one_whose_rows_are_all_damaged_are_one_line(rapbench: Command, runs: Path) -> None:
    Path("empty").mkdir()
    assert "no results in empty" in rapbench("report", "--out", "empty").err
    for file in runs.glob("*/*.parquet"):
        file.write_bytes(b"")
    done = rapbench("report", "--out", str(runs))
    assert done.code == 2
    assert f"no results in {runs}" in done.err


def test_several_folders_are_read_as_one(rapbench: Command, runs: Path) -> None:
    other = runs.parent / "other"
    other.mkdir()
    for cell in runs.glob("*rap.*"):
        cell.rename(other / cell.name)
    done = rapbench("report", "--out", str(runs), "--out", str(other), "--no-gallery", "--to", "both.html")
    assert done.code == 0, done.err
    assert {"rap", "gradient", "random"} <= set(re.findall(r"\w+", read(Path("both.html").read_text()).text))

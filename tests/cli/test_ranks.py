"""`rapbench ranks` and its figure as a user types them, from several folders as well."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stored import cell, masks, ratios
from typed import Command, typed

from rapbench.results.store import Block, Store

RNG = np.random.default_rng(0)
METHODS = ("rap", "lrp_epsilon", "grad_cam")


@pytest.fixture
def rapbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)

    return typed(monkeypatch, capsys)


def store(root: str, frame: pd.DataFrame, method: str, **chosen: object) -> None:
    columns = {str(name): np.stack(list(frame[name])) for name in frame if name != "id"}
    n, start = len(frame), int(frame["index"].iloc[0])
    own = {**columns, "id": frame["id"].to_numpy(dtype=str)}
    Store(Path(root)).write(cell(method, **chosen), Block(start, start + n), own, [], {"torch": "2"})  # type: ignore[arg-type]


def fill(root: str, methods: tuple[str, ...] = METHODS, images: int = 12, start: int = 0, **chosen: object) -> None:
    """Rows of two metrics."""
    for n, name in enumerate(methods):
        store(root, ratios(list(RNG.gamma(2, 1, images) + n), start), name, **chosen)
        counts = [list(map(int, c)) for c in RNG.multinomial(16, [0.4, 0.2, 0.1, 0.3], images)]
        frame = masks(zero=counts, mean=counts)
        frame = frame.assign(index=frame["index"] + start, id=[f"image-{i + start}" for i in frame["index"]])
        store(root, frame, name, metric="segmentation", **chosen)


def test_methods_are_ranked_in_every_format(rapbench: Command) -> None:
    fill("runs", (*METHODS, "center"))
    done = rapbench("ranks", "--out", "runs")
    assert done.code == 0
    assert done.out.startswith("mean rank over 2 metrics, 1 the best, on imagenet, vgg16 (IMAGENET1K_V1)\n")
    assert "| method | mean rank |" in rapbench("ranks", "--out", "runs", "--format", "markdown").out
    rows = list(csv.DictReader(io.StringIO(rapbench("ranks", "--out", "runs", "--format", "csv").out)))
    loaded = json.loads(rapbench("ranks", "--out", "runs", "--json").out)
    assert [float(row["rank"]) for row in rows if row["rank"]] == [
        one["rank"] for one in loaded["results"] if one["rank"] is not None
    ]
    assert {row["method"] for row in rows if row["control"] == "true"} == {"center"}


def test_lines_fit_a_terminal_of_eighty_columns(rapbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fill("runs", (*METHODS, "center"))
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, rapbench("ranks", "--out", "runs").out.splitlines())) <= 80


def test_metrics_and_methods_can_be_chosen(rapbench: Command) -> None:
    fill("runs")
    done = rapbench("ranks", "--out", "runs", "--metric", "segmentation", "--method", "rap,grad_cam")
    assert done.out.startswith("mean rank over 1 metric,")
    assert "outside_inside" not in done.out
    assert "lrp_epsilon" not in done.out


def test_of_several_settings_one_is_asked_for(rapbench: Command) -> None:
    fill("runs")
    fill("runs", seed=3)
    done = rapbench("ranks", "--out", "runs")
    assert (done.code, done.out) == (2, "")
    assert "differ in seed (0, 3): narrow with --seed 0\n" in done.err
    assert rapbench("ranks", "--out", "runs", "--seed", "3").code == 0


def test_of_several_data_sets_the_name_is_asked_for_and_not_what_follows_from_it(rapbench: Command) -> None:
    fill("runs", parameters={"n": 3})
    fill("runs", dataset="voc", parameters={"split": "val"})
    done = rapbench("ranks", "--out", "runs")
    assert "differ in dataset.name (imagenet, voc): narrow with --dataset imagenet\n" in done.err


def test_several_folders_are_read_as_one(rapbench: Command) -> None:
    fill("first", ("rap",), 32)
    fill("first", ("grad_cam",), 9, start=32)
    fill("second", ("rap",), 9, start=32)
    fill("second", ("grad_cam",), 32)
    both = [*("--out", "first"), *("--out", "second")]
    assert "images that all methods have: 41" in rapbench("ranks", *both).out
    results = json.loads(rapbench("table", *both, "--json").out)["results"]
    assert {one["n"] for one in results if one["metric"] == "segmentation"} == {41}
    alone = json.loads(rapbench("table", "--out", "first", "--json").out)["results"]
    assert {one["n"] for one in alone if one["metric"] == "segmentation"} == {32, 9}


def test_a_folder_read_twice_is_read_once(rapbench: Command) -> None:
    fill("runs")
    assert rapbench("table", "--out", "runs", "--out", "runs").out == rapbench("table", "--out", "runs").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "runs", "--method", "rap"], "fewer than two methods of --method rap to rank in runs"),
        (["--out", "nowhere"], "fewer than two methods to rank in nowhere"),
        (["--out", "runs", "--out", "nowhere"], "no folder nowhere"),
        (["--out", "runs", "--out", "empty"], "no results in empty"),
        (["--out", "foreign"], "fewer than two methods to rank in foreign"),
        (["--out", "runs", "--metric", "guards"], "fewer than two methods of --metric guards"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_ranked_is_one_line(rapbench: Command, arguments: list[str], message: str) -> None:
    fill("runs")
    Path("empty").mkdir()
    Path("foreign/thing").mkdir(parents=True)
    Path("foreign/thing/spec.json").write_text("[]")
    done = rapbench("ranks", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("rapbench:") == 1


def test_damaged_files_are_named_and_their_rows_are_missing(
    rapbench: Command, caplog: pytest.LogCaptureFixture
) -> None:
    fill("runs", images=32)
    fill("runs", images=4, start=32)
    (path,) = Path("runs").glob("*.rap.outside_inside.*/0000032-*.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    assert "images that all methods have: 32" in rapbench("ranks", "--out", "runs").out
    assert f"left out: {path} is damaged" in caplog.text


def test_the_diagram_is_drawn_for_each_setting(rapbench: Command) -> None:
    fill("runs", (*METHODS, "center"))
    fill("runs", seed=3)
    done = rapbench("figure", "critical_difference", "--out", "runs", "--to", "there")
    assert done.code == 0
    assert "outside_inside all_median is not drawn: no single image has a value" in done.err
    stems = {Path(file).stem for file in done.out.split()}
    assert stems == {"critical_difference_0", "critical_difference_3"}
    points = pd.read_csv("there/critical_difference_0.csv")
    assert set(points["variant"]) == {"all", "pos"}
    assert set(points["method"]) == {*METHODS, "center"}
    ranked = json.loads(rapbench("ranks", "--out", "runs", "--seed", "0", "--json").out)["results"]
    letters = {(one["method"], one["variant"]): one["letters"] for one in ranked}
    for point in points.to_dict("records"):
        assert letters[point["method"], point["variant"]] == point["letters"]
        assert 0.5 <= point["image_rank"] <= 3.5


def test_the_diagram_of_one_setting_is_the_same_bytes_again(rapbench: Command) -> None:
    fill("runs")
    files = [Path(file) for file in rapbench("figure", "critical_difference", "--out", "runs").out.split()]
    first = [file.read_bytes() for file in files]
    rapbench("figure", "critical_difference", "--out", "runs")
    assert [file.name for file in files] == [f"critical_difference.{form}" for form in ("png", "svg", "pdf", "csv")]
    assert [file.read_bytes() for file in files] == first


def test_without_methods_there_is_no_diagram(rapbench: Command) -> None:
    fill("runs", ("rap",))
    done = rapbench("figure", "critical_difference", "--out", "runs")
    assert done.code == 2
    assert "no two methods whose images have values in runs: `rapbench run --out runs` writes some" in done.err

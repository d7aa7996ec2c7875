"""`rapbench table` as a user types it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typed import Command, typed

from rapbench.report.result import FIELDS

MODEL = ["--model", "doubles:tiny", "--weights", "random"]
DATASET = ["--dataset", "doubles:Squares"]
TABLE = ["table", "rap2020/table1", "--model", "doubles:tiny", *DATASET]


@pytest.fixture
def rapbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.delenv("RAPBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    return typed(monkeypatch, capsys)


@pytest.fixture
def stored(rapbench: Command) -> Command:
    """The command, in a folder with results of three methods."""
    options = ["--method", "rap,gradient,random", "--metric", "outside_inside,segmentation", "--limit", "4"]
    assert rapbench("run", *MODEL, *DATASET, *options, "--device", "cpu").code == 0
    return rapbench


def test_a_papers_table_stands_beside_what_was_measured(stored: Command) -> None:
    done = stored(*TABLE)
    assert done.code == 0
    assert done.out.startswith("Outside-inside relevance ratio on ImageNet")
    heading = "Segmentation mask, mIOU: doubles:tiny (random) on doubles:Squares (higher is better), beside numbers"
    lines = done.out.splitlines()
    (place, _) = [i for i, line in enumerate(lines) if line.startswith(heading)]
    assert lines[place + 1].split()[:3] == ["method", "published", "ours"]
    assert lines[place + 2].split()[:2] == ["RAP", "62.23"]
    assert "another network, doubles:tiny (random) and another data set, doubles:Squares" in " ".join(lines)


def test_a_papers_table_names_the_command_that_computes_what_is_missing(stored: Command) -> None:
    told = " ".join(stored(*TABLE).out.split())
    parts = "imagenet-vgg16,imagenet-resnet50"
    command = f"rapbench run rap2020/table1 --part {parts}"
    assert command in told
    assert "--model doubles:tiny --dataset doubles:Squares --out results/runs` computes it." in told


@pytest.mark.parametrize("methods", ["random,rap", "rap,random", "gradient"])
def test_rows_stand_in_the_order_that_was_asked_for(stored: Command, methods: str) -> None:
    printed = stored("table", "--method", methods).out
    shown = [line.split()[0] for line in printed.splitlines() if line.startswith(("random ", "rap ", "gradient "))]
    assert list(dict.fromkeys(shown)) == methods.split(",")


def test_every_format_is_written(stored: Command) -> None:
    assert "| method | published |" in stored(*TABLE, "--format", "markdown").out
    assert "\\toprule" in stored(*TABLE, "--format", "latex").out
    document = json.loads(stored(*TABLE, "--json").out)
    assert document["table"] == "rap2020/table1"
    rows = list(csv.DictReader(io.StringIO(stored(*TABLE, "--format", "csv").out)))
    assert [row["value"] for row in rows] == [
        "" if result["value"] is None else repr(result["value"]) for result in document["results"]
    ]


def test_the_method_to_compare_against_can_be_chosen(stored: Command) -> None:
    results = json.loads(stored(*TABLE, "--against", "random", "--json").out)["results"]
    compared = {result["row"] for result in results if result["paired_value"] is not None}
    assert compared == {"rap", "gradient"}
    assert {result["against"] for result in results} == {"random"}


def test_the_sweep_lists_readings_and_what_the_printed_numbers_imply(stored: Command) -> None:
    done = stored(*TABLE, "--sweep", "--closest", "2")
    assert done.code == 0
    assert "The closest reading of every cell" in done.out
    assert "more are further off" in done.out
    assert "RAP 79.23/62.23: 50.9 and 73.5" in " ".join(done.out.split())
    results = json.loads(stored(*TABLE, "--sweep", "--json").out)["results"]
    assert {result["row"] for result in results} == {"rap", "gradient"}
    assert {result["variant"] for result in results} >= {"all", "all_signed", "pos_median", "miou@p70", "fg_iou@zero"}


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_all_results_have_formats_too(stored: Command, form: str) -> None:
    printed = stored("table", "--format", form).out
    assert ("| method |" if form == "markdown" else "\\midrule") in printed


def test_all_results_as_csv_hold_the_fields_of_json(stored: Command) -> None:
    rows = list(csv.DictReader(io.StringIO(stored("table", "--format", "csv").out)))
    assert tuple(rows[0]) == FIELDS
    assert len(rows) == len(json.loads(stored("table", "--json").out)["results"])


def test_without_results_the_command_that_computes_them_is_named(stored: Command) -> None:
    done = stored("table", "rap2020/table2", "--model", "alexnet", "--weights", "random")
    assert done.code == 2
    command = "rapbench run rap2020/table2 --model alexnet --weights random --out results/runs"
    assert f"`{command}` computes them; there are some of doubles:tiny on doubles:Squares" in done.err


def test_rows_of_two_seeds_are_refused_until_one_is_chosen(stored: Command) -> None:
    options = ["--method", "rap", "--metric", "segmentation", "--limit", "2", "--seed", "7", "--device", "cpu"]
    stored("run", *MODEL, *DATASET, *options)
    done = stored(*TABLE)
    assert done.code == 2
    assert "differ in seed (0, 7): narrow with --seed 0\n" in done.err
    assert stored(*TABLE, "--seed", "7").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rap2020/table3"], "no table or figure named 'rap2020/table3': did you mean rap2020/table"),
        ([*TABLE[1:], "--against", "rapp"], "did you mean rap?"),
        (["--sweep"], "need a table: rapbench table rap2020/table1"),
        (["--model", "vgg16"], "no results of --model vgg16 in "),
        (["--seed", "0"], "no results of --seed 0 in "),
        (["rap2020/table1", "--format", "word"], "'--format'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_user_does_wrong_is_one_line(rapbench: Command, arguments: list[str], message: str) -> None:
    done = rapbench("table", *arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert message in done.err

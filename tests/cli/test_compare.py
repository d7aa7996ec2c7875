"""`rapbench compare` of two results folders as a user types it."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from stored import cell, masks, ratios

from rapbench import cli
from rapbench.results.store import Block, Store

VALUES = np.random.default_rng(0).gamma(2, 1, 20)


class Printed(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Compare = Callable[..., Printed]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Compare:
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> Printed:
        monkeypatch.setattr(sys, "argv", ["rapbench", "compare", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Printed(int(ended.value.code or 0), captured.out, captured.err)

    return command


def fill(root: str, shift: float = 0.0, method: str = "rap", **chosen: object) -> None:
    frame = ratios(list(VALUES + shift))
    columns = {str(name): frame[name].to_numpy(dtype=str if name == "id" else None) for name in frame}
    Store(Path(root)).write(cell(method, **chosen), Block(0, 20), columns, [], {"torch": "2"})  # type: ignore[arg-type]


def test_where_nothing_moved_that_is_said(compare: Compare) -> None:
    fill("a")
    fill("b", rapbench="2")
    done = compare("a", "b")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "A is a, B is b.\n\n4 numbers are in both: nothing moved; 4 are the same and 0 differ within their interval\n"
    )


def test_what_moved_ends_with_one_and_is_written_in_every_format(compare: Compare) -> None:
    fill("a")
    fill("b", 1.0)
    done = compare("a", "b")
    assert done.code == 1
    assert "4 moved (4 worse)" in done.out
    assert "| rap | outside\\_inside | all (lower) |" in compare("a", "b", "--format", "markdown").out
    rows = list(csv.DictReader(io.StringIO(compare("a", "b", "--format", "csv").out)))
    results = json.loads(compare("a", "b", "--json").out)["results"]
    assert [float(row["difference"]) for row in rows] == [one["difference"] for one in results]
    assert len(rows) > 4
    assert {row["origin_before"] for row in rows} == {"torch 2"}


def test_the_exit_code_is_of_what_tables_show_in_every_format(compare: Compare) -> None:
    """Only a threshold that no table shows has moved."""
    for root, found in (("a", [6, 2, 2, 6]), ("b", [7, 1, 1, 7])):
        frame = masks(zero=[[5, 3, 3, 5]] * 20, p90=[found] * 20)
        columns = {str(name): np.stack(list(frame[name])) for name in frame if name != "id"}
        own = columns | {"id": frame["id"].to_numpy(dtype=str)}
        Store(Path(root)).write(cell("rap", metric="segmentation"), Block(0, 20), own, [], {})
    done = [compare("a", "b", *form) for form in ([], ["--json"], ["--format", "csv"])]
    assert [one.code for one in done] == [0, 0, 0]
    assert json.loads(done[1].out)["verdicts"]["better"] > 0


def test_lines_fit_a_terminal_of_eighty_columns(compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    fill("a")
    fill("a", method="gradient")
    fill("b", 1.0)
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, compare("a", "b").out.splitlines())) <= 80


def test_another_seed_is_matched_on_request(compare: Compare) -> None:
    fill("a")
    fill("b", 1.0, seed=4)
    done = compare("a", "b")
    assert (done.code, done.out) == (2, "")
    assert "have no number in common: they differ in seed (0 | 4); --ignore seed matches them all the same" in done.err
    assert compare("a", "b", "--ignore", "seed").code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "nowhere"], "no folder nowhere"),
        (["a", "a/file"], "no folder a/file"),
        (["empty", "a"], "no results in empty"),
        (["a", "foreign"], "no results in foreign"),
        (["a", "b", "--method", "gradient"], "no results of --method gradient in a"),
        (["a", "c"], "no method and metric is in both"),
        (["a", "b", "--ignore", "sead"], "no part of a setting is named 'sead': did you mean seed?"),
        (["a"], "Missing argument 'B'"),
    ],
    ids=" ".join,
)
def test_what_a_user_does_wrong_is_one_line(compare: Compare, arguments: list[str], message: str) -> None:
    fill("a")
    fill("b")
    fill("c", method="gradient")
    Path("a/file").touch()
    Path("empty").mkdir()
    Path("foreign/thing").mkdir(parents=True)
    Path("foreign/thing/spec.json").write_text('{"half": ')
    done = compare(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("rapbench:") == 1

"""How a run ends: what it says last, where the rest is, and with which exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from rapbench import cli


class Printed(NamedTuple):
    code: int
    out: str
    err: list[str]


Run = Callable[..., Printed]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs three bright squares through a tiny network; what it printed, progress left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rapbench.cli.progress._SECONDS_WORTH_A_LINE", 1e6)
    given = ["--model", "doubles:tiny", "--weights", "random", "--device", "cpu", "--limit", "3"]

    def once(*arguments: str, dataset: str = "doubles:Squares") -> Printed:
        monkeypatch.setattr(sys, "argv", ["rapbench", "run", *given, "--dataset", dataset, *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        lines = [line for line in captured.err.splitlines() if "explanations/s" not in line]
        return Printed(int(ended.value.code or 0), captured.out, lines)

    return once


def test_a_method_that_fails_is_named_and_the_others_are_kept(run: Run) -> None:
    done = run("--method", "rude:Rude(deed=scale_weights_and_fail),random", "--metric", "segmentation")
    name = "method rude:Rude(deed=scale_weights_and_fail)"
    assert done.code == 2
    assert done.err == [
        f"rapbench: {name}: ArithmeticError: out",
        f"rapbench: failed: {name}; the rows of the others are in results/runs",
    ]
    assert "random" in done.out
    assert "rude:Rude" not in done.out
    assert run("--method", "random", "--metric", "segmentation").code == 0


def test_where_nothing_else_was_asked_for_a_failure_is_one_line(run: Run) -> None:
    done = run("--method", "rude:Rude(returns=a list)", "--metric", "segmentation")
    assert (done.code, done.out, len(done.err)) == (2, "", 1)
    assert done.err[0].startswith("rapbench: method rude:Rude(returns=a list): returns list: ")


def test_a_metric_that_fails_is_named_and_the_others_are_kept(run: Run) -> None:
    done = run("--method", "rap,random", "--metric", "rude:Careless(does=fail),segmentation")
    assert done.code == 2
    assert done.err[0] == "rapbench: metric rude:Careless(does=fail): ArithmeticError: out"
    assert "segmentation" in done.out


def test_the_code_that_failed_is_shown_where_that_is_asked_for(run: Run) -> None:
    done = run("--method", "rude:Rude(deed=scale_weights_and_fail)", "--debug")
    assert any("rude.py" in line for line in done.err)
    assert done.err[-1].endswith("ArithmeticError: out")


def test_failures_are_part_of_the_document(run: Run) -> None:
    done = run("--method", "rude:Rude(deed=train),random", "--metric", "segmentation", "--json")
    document = json.loads(done.out)
    assert list(document["run"]["failed"]) == ["method rude:Rude(deed=train)"]
    assert {result["method"] for result in document["results"]} == {"random"}
    assert done.code == 2


def test_a_run_says_where_its_rows_are_and_what_prints_them(run: Run) -> None:
    done = run("--method", "random", "--metric", "segmentation", "--out", "my rows")
    assert (
        done.err[-1] == "rows are in 'my rows': rapbench table --out 'my rows' prints them, "
        "rapbench report --out 'my rows' shows a page"
    )
    again = run("--method", "random", "--metric", "segmentation", "--out", "my rows")
    assert "nothing to compute: all rows are in my rows" in again.out


def test_images_that_cannot_be_read_are_named(run: Run) -> None:
    given = ("--method", "random", "--metric", "segmentation", "--limit", "12")
    done = run(*given, dataset="doubles:Squares(unreadable_every=2)")
    assert "images: 6 unreadable image (skipped)\n" in done.out
    file = Path("results/runs/skipped/doubles-Squares.csv")
    assert f"skipped: square-1, square-3, square-5 and 3 more, all named in {file}\n" in done.out
    named = [f"square-{n},unreadable image" for n in range(1, 12, 2)]
    assert file.read_text().splitlines() == ["id,reason", *named]


def test_a_name_that_is_a_command_to_the_terminal_is_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doubles.Squares.ids", ("a", "\x1b[31mred", "c"))
    done = run("--method", "random", "--metric", "segmentation", dataset="doubles:Squares(count=3, unreadable_every=2)")
    assert "skipped: \\x1b[31mred, all named in" in done.out
    assert "\x1b" not in done.out


def test_a_run_of_which_no_image_can_be_read_is_refused_in_one_line(run: Run) -> None:
    given = ("--method", "random", "--metric", "segmentation", "--limit", "2")
    done = run(*given, dataset="doubles:Unreadable")
    assert (done.code, done.out, len(done.err)) == (2, "", 1)
    assert done.err[0].startswith(
        "rapbench: no image can be read: doubles:Unreadable (2 unreadable image, all named in "
    )


def test_labels_that_are_not_the_network_s_classes_are_said_at_once(run: Run) -> None:
    done = run("--method", "random", "--metric", "guards", dataset="doubles:Labelled")
    line = "labels of doubles:Labelled (sizes) are not known to be classes of doubles:tiny (random): no image counts as"
    assert done.err[0] == f"{line} misclassified"


@pytest.mark.parametrize("arguments", [(), ("--dry-run",), ("--shard", "0/1")], ids=["run", "dry run", "shard"])
def test_json_is_one_document_in_every_mode(run: Run, arguments: tuple[str, ...]) -> None:
    done = run("--method", "random", "--metric", "segmentation", "--json", *arguments)
    assert done.code == 0
    assert json.loads(done.out)


def test_a_dry_run_says_so_before_anything_is_loaded_and_stores_nothing(run: Run) -> None:
    done = run("--method", "random", "--metric", "segmentation", "--dry-run", dataset="doubles:Unreadable")
    assert done.err[0] == "a dry run: a few images are timed, and nothing is stored"
    assert "to explain: 3 images" in done.out
    assert not Path("results").exists()


def test_rows_of_other_code_are_said_to_be_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("--method", "random")
    assert "computed by" not in run("--method", "random").out
    monkeypatch.setattr("rapbench.run.plan.code_digest", lambda *_: "changed")
    again = run("--method", "random")
    assert "here it is code changed: another --out computes afresh" in again.out

"""`rapbench check`: the gate on metric numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from rapbench.cli.check import check
from rapbench.core.errors import BadConfig, RapbenchError, SpecMismatch, UnknownName
from rapbench.report.baseline import Baseline

SPEC = {
    "model": "doubles:tiny",
    "weights": "random",
    "dataset": "doubles:Squares(count=6, unreadable_every=5)",
    "limit": 4,
    "device": "cpu",
    "method": ["random", "doubles:Counting"],
    "metric": "segmentation",
}
Check = Callable[..., Result]


@pytest.fixture
def rapbench_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Check:
    monkeypatch.delenv("RAPBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(check)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, ["--against", "baseline.json", *arguments])
        if isinstance(result.exception, RapbenchError):
            raise result.exception
        return result

    return run


def write(**changes: object) -> Path:
    file = Path("baseline.json")
    file.write_text(json.dumps({"spec": {**SPEC, **changes}}))
    return file


def edited(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_a_file_with_a_spec_becomes_a_baseline_that_its_own_numbers_pass(rapbench_check: Check) -> None:
    file = write()
    new = rapbench_check()
    assert new.exit_code == 1
    assert "new" in new.stdout
    assert "numbers" not in file.read_text()

    made = rapbench_check("--update")
    assert made.exit_code == 0
    assert "baseline.json is updated" in made.stdout
    assert json.loads(file.read_text())["spec"] == SPEC

    before = file.read_bytes()
    passed = rapbench_check("--update")
    assert passed.exit_code == 0
    assert passed.stdout.endswith("numbers compared: all agree\n")
    assert file.read_bytes() == before


def test_a_changed_number_fails_and_an_update_takes_it(rapbench_check: Check) -> None:
    file = write()
    rapbench_check("--update")
    agreed = Baseline.read(file)
    (right,) = [number for number in agreed.numbers if (number.method, number.variant) == ("random", "miou@paper")]
    assert right.value is not None
    edited(file, json.dumps(right), json.dumps(right._replace(value=right.value + 5)))

    failed = rapbench_check()
    assert failed.exit_code == 1
    assert "1 differ (1 worse); --update takes what was found" in failed.stdout
    assert failed.stdout.count("doubles:tiny") == 1
    assert rapbench_check("--all").stdout.count("doubles:tiny") == len(agreed.numbers)

    assert rapbench_check("--update").exit_code == 0
    assert Baseline.read(file) == agreed
    assert rapbench_check().exit_code == 0


def test_numbers_are_computed_afresh_unless_rows_are_kept(rapbench_check: Check) -> None:
    write()
    assert "8/8 explanations" in rapbench_check("--update").stderr
    assert "8/8 explanations" in rapbench_check().stderr
    assert {path.name for path in Path().iterdir()} == {"baseline.json"}
    assert "8/8 explanations" in rapbench_check("--out", "kept").stderr
    assert "explanations" not in rapbench_check("--out", "kept").stderr


def test_rows_of_other_code_are_no_proof(rapbench_check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    rapbench_check("--update", "--out", "kept")
    monkeypatch.setattr("rapbench.run.plan.code_digest", lambda *_: "changed")
    with pytest.raises(SpecMismatch, match="here it is code changed"):
        rapbench_check("--out", "kept")


def test_every_part_is_a_run_with_the_settings_beside_it(rapbench_check: Check) -> None:
    parts = [{"name": "a", "method": "random"}, {"name": "b", "method": "center", "limit": 2}]
    file = write(part=parts)
    rapbench_check("--update")
    images = {number.method: number.n + number.n_dropped for number in Baseline.read(file).numbers}
    assert images == {"random": 4, "center": 2}


def test_lost_images_fail_though_the_value_may_not(rapbench_check: Check) -> None:
    file = write()
    rapbench_check("--update")
    edited(file, ", 3, 1]", ", 4, 0]")
    failed = rapbench_check()
    assert failed.exit_code == 1
    assert "4 of 4 -> 3 of 4" in failed.stdout
    assert "other images" in failed.stdout


def test_a_pull_request_gets_markdown_and_a_program_json(rapbench_check: Check) -> None:
    write()
    document = json.loads(rapbench_check("--json").stdout)
    assert document["agree"] is False
    assert document["compared"] == len(document["results"]) > 0
    assert rapbench_check("--format", "markdown").stdout.count("| new |") == document["compared"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"metod": "rap"}, BadConfig, "did you mean method?"),
        ({"method": "rapp"}, UnknownName, "did you mean rap?"),
        ({"part": [{"name": "a"}, {"name": "b", "limit": 2}]}, BadConfig, "two numbers for"),
    ],
)
def test_a_wrong_spec_is_wrong_usage(
    rapbench_check: Check, changes: dict[str, object], error: type[RapbenchError], message: str
) -> None:
    write(**changes)
    with pytest.raises(error, match=message):
        rapbench_check()

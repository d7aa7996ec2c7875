"""`rapbench doctor`: what it looks at by default and when told, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from rapbench.cli.doctor import doctor
from rapbench.core.errors import RapbenchError
from rapbench.datasets import DATASETS

TINY = ["--model", "doubles:tiny", "--weights", "random", "--device", "cpu"]
Doctor = Callable[..., Result]


@pytest.fixture
def rapbench_doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Doctor:
    monkeypatch.delenv("RAPBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(doctor)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        if isinstance(result.exception, RapbenchError):
            raise result.exception
        return result

    return run


def test_by_default_every_data_set_is_looked_at_and_a_missing_one_is_a_warning(rapbench_doctor: Doctor) -> None:
    done = rapbench_doctor(*TINY, "--data-root", "nowhere")
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    levels = {line[2]: line[0] for line in lines if line[1] == "data"}
    assert levels == {name: "ok" if name in {"scenes", "digits"} else "warn" for name in DATASETS}
    assert not Path("results").exists()


def test_a_data_set_that_is_named_must_be_there(rapbench_doctor: Doctor) -> None:
    done = rapbench_doctor(*TINY, "--dataset", "voc", "--data-root", "nowhere")
    assert done.exit_code == 1
    (failed,) = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert failed.startswith("FAIL  data voc")
    assert "nowhere" in failed
    assert " data scenes" not in done.stdout


def test_json_is_one_document_of_the_same_findings(rapbench_doctor: Doctor) -> None:
    document = json.loads(rapbench_doctor(*TINY, "--dataset", "doubles:Squares", "--json").stdout)
    assert document["ok"] is True
    assert {tuple(finding) for finding in document["findings"]} == {("level", "subject", "message")}
    assert [f["subject"] for f in document["findings"]].count("data doubles:Squares") == 2
    assert json.loads(rapbench_doctor(*TINY, "--dataset", "voc", "--json").stdout)["ok"] is False


def test_every_part_of_a_config_is_examined_once(rapbench_doctor: Doctor) -> None:
    Path("runs.toml").write_text(
        'model = "doubles:tiny"\nweights = "random"\ndevice = "cpu"\nmethod = "random"\n'
        '[[part]]\nname = "squares"\ndataset = "doubles:Squares"\n'
        '[[part]]\nname = "few"\ndataset = "doubles:Squares"\nlimit = 2\n'
        '[[part]]\nname = "voc"\ndataset = "voc"\n'
    )
    done = rapbench_doctor("--config", "runs.toml", "--data-root", "nowhere")
    assert done.exit_code == 1
    subjects = [" ".join(line.split()[:3]) for line in done.stdout.splitlines()]
    assert subjects.count("ok data doubles:Squares") == 2
    assert subjects.count("FAIL data voc") == 1
    assert sum(subject.startswith("ok model") for subject in subjects) == 2


def test_options_win_over_the_config(rapbench_doctor: Doctor) -> None:
    Path("runs.toml").write_text('model = "doubles:tiny"\nweights = "nowhere.pt"\ndataset = "doubles:Squares"\n')
    assert rapbench_doctor("--config", "runs.toml").exit_code == 1
    assert rapbench_doctor("--config", "runs.toml", "--weights", "random").exit_code == 0


@pytest.mark.data
def test_the_photographs_here_are_counted_and_read(data_root: Path, rapbench_doctor: Doctor) -> None:
    done = rapbench_doctor(*TINY, "--dataset", "voc", "--data-root", str(data_root))
    assert done.exit_code == 0
    assert "images of 1,449" in done.stdout
    assert "11 with mask" in done.stdout

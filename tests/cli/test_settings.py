"""Settings that no run accepts: `run`, `submit` and `doctor` refuse the same ones, in the same words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from rapbench.cli.doctor import doctor
from rapbench.cli.run import run
from rapbench.cli.submit import PASSED_ON, submit
from rapbench.core.errors import RapbenchError

SOUND = {
    "model": "doubles:tiny",
    "weights": "random",
    "dataset": "doubles:Squares",
    "method": "random",
    "metric": "segmentation",
    "device": "cpu",
}
WRONG = [
    ({"method": "rapp"}, "no method named 'rapp': did you mean rap?"),
    ({"method": "rap(routng=paper)"}, "no parameter 'routng': did you mean routing?"),
    ({"method": "pattern_net"}, "patterns are fitted automatically to generated images only"),
    ({"metric": "bogus"}, "no metric named 'bogus'"),
    ({"metric": "perturbation(space=blue)"}, "space=blue"),
    ({"metric": "sensitivity_n(sizes=999999)"}, "sets of 999999 pixels, but the image has"),
    ({"metric": "segmentation", "dataset": "doubles:Unlabelled"}, "needs mask, which doubles:Unlabelled lacks"),
    ({"model": "vgg-16"}, "no model named 'vgg-16': did you mean vgg16?"),
    ({"model": "alexnet", "weights": "auto", "dataset": "scenes"}, "has no embedded weights for scenes"),
    ({"model": "alexnet", "weights": "IMAGENET1K_V9"}, "no weights named 'IMAGENET1K_V9'"),
    ({"weights": "nowhere.pt"}, "nowhere.pt"),
    ({"dataset": "scene"}, "no dataset named 'scene': did you mean scenes?"),
    ({"dataset": "scenes(sede=1)"}, "no parameter 'sede'"),
    ({"dataset": "voc", "data_root": "nowhere"}, "nowhere"),
    ({"backend": "nativ"}, "no backend named 'nativ': did you mean native?"),
    ({"precision": "tf32"}, "precision tf32 is a mode of CUDA devices"),
    ({"select": "correct"}, "select=correct needs labels in the classes of the network"),
    ({"target": "label"}, "target=label needs labels in the classes of the network"),
    ({"target": "1000"}, "target 1000: pass an index from 0 to 999"),
    ({"target": "tabby"}, "target tabby: pass an index from 0 to 999"),
    ({"study": "bogus"}, "no study named 'bogus'"),
    ({"metod": "rap"}, "no setting 'metod': did you mean method?"),
    ({"limit": 0}, "limit: "),
    ({"device": "tpu"}, "device: "),
]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAPBENCH_DATA", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)


def refusal(command: str, settings: dict[str, object]) -> str:
    """What a command says of a config with these settings; empty where it accepts them."""
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    Path("run.toml").write_text(lines)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(run)
    app.command(context_settings=PASSED_ON)(submit)
    app.command()(doctor)
    more = ["--print"] if command == "submit" else ["--dry-run"] if command == "run" else ["--json"]
    done = CliRunner().invoke(app, [command, "--config", "run.toml", *more])
    if isinstance(done.exception, RapbenchError):
        return " ".join(str(done.exception).split())
    if command == "doctor":
        failed = [finding["message"] for finding in json.loads(done.stdout)["findings"] if finding["level"] == "FAIL"]
        assert len(failed) <= 1
        return "".join(failed)
    assert done.exit_code == 0, done.output
    return ""


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=lambda value: str(value)[:60])
def test_all_three_refuse_it_in_the_same_words(changes: dict[str, object], message: str) -> None:
    said = {command: refusal(command, {**SOUND, **changes}) for command in ("run", "submit", "doctor")}
    assert message in said["run"]
    assert len(set(said.values())) == 1, said


@pytest.mark.parametrize("command", ["run", "submit", "doctor"])
def test_all_three_accept_what_is_right(command: str) -> None:
    assert refusal(command, SOUND) == ""


def test_a_gpu_that_is_not_here_is_refused_but_where_another_machine_does_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = {command: refusal(command, {**SOUND, "device": "cuda"}) for command in ("run", "submit", "doctor")}
    assert "torch finds no CUDA device here" in said["run"]
    assert said["doctor"] == said["run"]
    assert said["submit"] == ""

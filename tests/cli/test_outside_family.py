"""A family of networks from a user's own module: every command takes it as it takes the package's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from rapbench import cli
from rapbench.models import load_classifier
from rapbench.models.checkpoint import state_digest

MODULE = '''
from pathlib import Path

import torch
from torch import nn

from rapbench.core.types import Classifier


class Tones:
    """Two classes, dark and bright."""

    size = 160

    def default_weights(self, label_space):
        return "bright"

    def absent(self, weights):
        return "" if weights == "random" or Path("tones").is_dir() else "weights are not here: make the folder tones"

    def load(self, weights, *, seed, training=None):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(3, 4, 16, stride=16), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(400, 2))
        if weights == "bright":
            nn.init.ones_(net[0].weight)
        return Classifier(module=net, weights=weights, label_space="tones", classes=("dark", "bright"), mean=(0.5,) * 3)


TONES, NUMBER = Tones(), 3
'''
TONES = ["--model", "mine:TONES"]
SQUARES = ["--dataset", "doubles:Squares(count=8)", "--device", "cpu"]


class Printed(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def rapbench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Printed]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    Path("mine.py").write_text(MODULE)
    Path("tones").mkdir()

    def command(*arguments: str) -> Printed:
        monkeypatch.setattr(sys, "argv", ["rapbench", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Printed(int(ended.value.code or 0), captured.out, captured.err)

    return command


def test_a_run_keeps_its_rows_under_the_name_as_typed(rapbench: Callable[..., Printed]) -> None:
    done = rapbench("run", *TONES, *SQUARES, "--method", "rap", "--metric", "segmentation", "--json")
    document = json.loads(done.out)
    assert {(result["model"], result["weights"]) for result in document["results"]} == {("mine:TONES", "bright")}
    assert {result["n"] for result in document["results"] if result["variant"] != "residual"} == {8}
    assert "segmentation on doubles:Squares(count=8), mine:TONES (bright)" in rapbench("table").out


def test_show_calls_its_classes_by_their_names(rapbench: Callable[..., Printed]) -> None:
    Image.fromarray(np.full((20, 20, 3), 250, np.uint8)).save("white.png")
    shown = rapbench("show", "white.png", *TONES)
    assert shown.code == 0
    assert any(shown.out.startswith(f"white.png: {name} ({index}), ") for index, name in enumerate(("dark", "bright")))
    assert "dark (0), logit" in rapbench("show", "white.png", *TONES, "--target", "dark").out
    assert rapbench("show", "white.png", *TONES, "--target", "darkk").err.endswith("among the 2; near: dark\n")


def test_the_doctor_says_where_its_weights_come_from_until_they_are_there(rapbench: Callable[..., Printed]) -> None:
    assert "ok    model mine:TONES" in rapbench("doctor", *TONES, *SQUARES).out
    Path("tones").rmdir()
    assert "warn  model mine:TONES" in (told := rapbench("doctor", *TONES, *SQUARES).out)
    assert "weights are not here: make the folder tones" in told


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("mine:TONE", "cannot load model 'mine:TONE'"),
        ("yours:TONES", "cannot load model 'yours:TONES'"),
        ("mine:NUMBER", "mine:NUMBER is neither a function that returns a network nor a family of networks, with size"),
        (
            "mine:Tones",
            "mine:Tones returned an object of type Tones: a network is wanted, an nn.Module or a rapbench.Classifier",
        ),
    ],
)
def test_what_is_no_family_is_one_line(rapbench: Callable[..., Printed], model: str, message: str) -> None:
    done = rapbench("run", "--model", model, *SQUARES, "--method", "rap")
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_what_a_family_leaves_out_is_filled_in(rapbench: Callable[..., Printed]) -> None:
    first, second = (load_classifier("mine:TONES", "auto", label_space="", seed=seed) for seed in (0, 1))
    assert (first.name, first.title, first.size) == ("mine:TONES", "mine:TONES (bright)", 160)
    assert first.digest == state_digest(first.module) != second.digest
    assert not any(part.training for part in first.module.modules())
    assert not any(parameter.requires_grad for parameter in first.module.parameters())

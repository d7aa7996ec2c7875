"""A network from a file of a user's own: every command takes it as it takes the package's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rapbench import cli

TEXT = """
from torch import nn

CLASSES = ("dark", "bright")

def build(width=4, source=""):
    return nn.Sequential(nn.Conv2d(3, width, 16, stride=16), nn.ReLU(), nn.Flatten(), nn.Linear(width * 196, 2))
"""
SQUARES = ["--dataset", "doubles:Squares(count=3)", "--device", "cpu", "--metric", "guards", "--method", "gradient"]
Command = Callable[..., str]


@pytest.fixture
def rapbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("nets").mkdir()
    Path("nets/mine.py").write_text(TEXT)

    def command(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["rapbench", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        assert int(ended.value.code or 0) == code, captured.err
        return captured.err if code else captured.out

    return command


def test_the_same_file_elsewhere_has_the_same_rows(rapbench: Command) -> None:
    assert "3 explanations in" in rapbench("run", "--model", "nets/mine.py:build", *SQUARES)
    Path("nets").rename("moved")
    assert "nothing to compute" in rapbench("run", "--model", "moved/mine.py:build", *SQUARES)
    assert "mine.py:build (own)" in rapbench("table", "--model", "anywhere/mine.py:build")
    Path("moved/mine.py").write_text(TEXT.replace("nn.ReLU()", "nn.Tanh()"))
    assert "3 explanations in" in rapbench("run", "--model", "moved/mine.py:build", *SQUARES)


def test_networks_of_other_parameters_have_rows_of_their_own(rapbench: Command) -> None:
    named = [f"mine.py:build({parameters})" for parameters in ("width=2", "width=3", "source=/a/b: c")]
    for name in named:
        assert "1 tasks done, 0 were" in rapbench("run", *SQUARES, "--shard", "0/1", "--model", f"nets/{name}")
    found = json.loads(rapbench("table", "--format", "json"))
    assert {result["model"] for result in found["results"]} == set(named)


def test_a_picture_is_explained_by_it(rapbench: Command) -> None:
    Image.fromarray(np.full((20, 20, 3), 250, np.uint8)).save("white.png")
    shown = rapbench("show", "white.png", "--model", "nets/mine.py:build(width=2)", "--method", "rap")
    assert shown.startswith(("white.png: dark (0), logit ", "white.png: bright (1), logit "))
    assert Path("heatmaps.png").exists()


def test_the_doctor_examines_it(rapbench: Command) -> None:
    assert "mine.py:build (own): weights fit" in rapbench("doctor", "--model", "nets/mine.py:build", *SQUARES[:4])


def test_what_is_wrong_with_it_is_one_line(rapbench: Command) -> None:
    assert rapbench("run", "--model", "nets/mine.py", code=2).startswith("rapbench: no model named 'nets/mine.py'")
    told = rapbench("run", "--model", "nets/mine.py:biuld", *SQUARES, code=2)
    assert told.endswith("no 'biuld' in it: did you mean build?\n")
    assert told.count("rapbench: ") == 1

"""A metric, a data set and a paper from outside the package, each in one file, through the command line."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rapbench.cli import main

METRIC = '''
from dataclasses import dataclass

from rapbench.core.types import Variant


@dataclass(frozen=True, kw_only=True)
class Mass:
    """Share of the relevance that is positive."""

    needs = frozenset()
    headline = ("share",)

    def __call__(self, explained):
        pixels = explained.pixels
        return {"positive": pixels.clamp(min=0).sum((1, 2)), "absolute": pixels.abs().sum((1, 2))}

    def variants(self, *, signed):
        return {
            "share": Variant(
                direction="higher",
                statistics=lambda rows: rows[["positive", "absolute"]].to_numpy(),
                value=lambda means: means[..., 0] / means[..., 1],
                undefined={"constant map": lambda rows: rows["absolute"].to_numpy() == 0},
            )
        }
'''
DATASET = '''
from dataclasses import dataclass
from pathlib import Path

import torch

from rapbench.core.types import Sample


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """Images that grow brighter from left to right."""

    name = "gradients"
    label_space = ""
    provides = frozenset({"boxes"})
    default_limit = None
    full_size = None

    data_root: Path | None = None
    size: int = 224
    count: int = 4

    fingerprint = "gradients"

    @property
    def ids(self):
        return tuple(f"g{n}" for n in range(self.count))

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        ramp = torch.linspace(0, 1, self.size).expand(3, self.size, self.size) * (index + 1) / self.count
        return Sample(id=self.ids[index], image=ramp.contiguous(), boxes=torch.tensor([[8, 8, 40, 40]]))
'''
PAPER = """
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure

from rapbench.papers.card import Paper
from rapbench.report.figures import Drawing

PART = {"name": "g", "published_for": "a net", "dataset": "lab_data:Gradients", "model": "doubles:tiny"}
RUN = {"dataset": "lab_data:Gradients", "model": "doubles:tiny", "weights": "random", "method": ["gradient", "random"]}


@dataclass(frozen=True, kw_only=True)
class Sums:
    metric: ClassVar[str] = "lab_metric:Mass"

    def __call__(self, held):
        figure = Figure()
        points = pd.DataFrame({"method": [one.cell.method for one in held]})
        return [Drawing(suffix="", figure=figure, points=points)] if held else []


LAB2026 = Paper.parsed("lab2026", {
    "title": "A paper", "source": "Lab 2026",
    "table1": {
        "title": "Positive mass", "source": "Lab 2026, Table 1", "weights": ["random"],
        "rows": [
            {"name": "rap", "title": "RAP", "method": "rap"},
            {"name": "random", "title": "Random", "method": "random", "control": True},
        ],
        "parts": [{**PART, "metric": "lab_metric:Mass"}],
        "columns": [{"name": "share", "title": "Share", "part": "g", "variant": "share", "published": {"rap": 0.5}}],
    },
    "figure1": {"title": "Sums", "source": "Lab 2026, Figure 1", "drawing": "lab_paper:Sums",
                "run": {**RUN, "metric": ["lab_metric:Mass"]}},
})
"""

Rapbench = Callable[..., str]


@pytest.fixture
def rapbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rapbench:
    """Runs the command line in a folder that holds the files; what it prints."""
    for name, text in {"lab_metric": METRIC, "lab_data": DATASET, "lab_paper": PAPER}.items():
        (tmp_path / f"{name}.py").write_text(text)
    for name in ("lab_metric", "lab_data", "lab_paper", "lab_own"):  # those of an earlier test
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["rapbench", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert ended.value.code == 0, printed.err
        return printed.out

    return run


TINY = ("--model", "doubles:tiny", "--weights", "random", "--device", "cpu")


def test_a_metric_and_a_data_set_run_and_are_tabled(rapbench: Rapbench) -> None:
    given = ("--dataset", "lab_data:Gradients(count=3)", "--metric", "lab_metric:Mass", "--method", "rap,gradient")
    assert "lab_metric:Mass on 3" in rapbench("run", *TINY, *given)
    records = json.loads(rapbench("table", "--json"))["results"]
    assert {(r["method"], r["n"]) for r in records if r["metric"] == "lab_metric:Mass"} == {("rap", 3), ("gradient", 3)}
    assert {r["dataset"] for r in records} == {"lab_data:Gradients(count=3)"}


def test_a_paper_s_table_is_run_and_printed_with_the_options_laid_over_it(rapbench: Rapbench) -> None:
    name = "lab_paper:LAB2026/table1"
    preview = rapbench("run", name, "--weights", "random", "--device", "cpu", "--dry-run")
    assert "to explain: 8 images" in preview
    assert not Path("results").exists()
    printed = rapbench("run", name, "--weights", "random", "--device", "cpu", "--limit", "2")
    assert "Positive mass (Lab 2026, Table 1)" in printed
    line = next(line for line in printed.splitlines() if line.startswith("RAP  "))
    assert line.split()[1] == "0.500"
    assert "published" in printed
    document = json.loads(rapbench("run", name, "--weights", "random", "--device", "cpu", "--limit", "2", "--json"))
    assert [r["row"] for r in document["table"]["results"]] == ["rap", "random"]
    assert document["parts"]["g"]["run"]["limit"] == 2
    assert "Share: doubles:tiny (random)" in rapbench("table", name)


def test_a_paper_s_figure_is_run_and_drawn_and_its_work_is_divided(rapbench: Rapbench) -> None:
    name = "lab_paper:LAB2026/figure1"
    assert "tasks done" in rapbench("run", name, "--device", "cpu", "--shard", "0/1")
    files = rapbench("run", name, "--device", "cpu").split("\n\n")[-1].split()[-4:]
    assert [Path(file).suffix for file in files] == [".png", ".svg", ".pdf", ".csv"]
    assert Path(files[-1]).read_text().split() == ["method", "gradient", "random"]


def test_two_runs_in_one_folder_do_not_disturb_the_table_of_one(rapbench: Rapbench) -> None:
    given = ("lab_paper:LAB2026/table1", "--weights", "random", "--device", "cpu", "--limit", "2")
    rapbench("run", *given, "--seed", "1")
    assert "Share: doubles:tiny (random)" in rapbench("run", *given)


def value(rapbench: Rapbench, *arguments: str) -> float:
    found = json.loads(rapbench("run", *arguments, "--device", "cpu", "--limit", "2", "--json"))["results"]
    return next(r["value"] for r in found if r["metric"] == "lab_metric:Mass")


OWN = """
from dataclasses import dataclass
from typing import ClassVar
from torch import nn

@dataclass(frozen=True, kw_only=True)
class Mine:
    title: ClassVar[str] = "Mine"
    signed: ClassVar[bool] = True
    def __call__(self, model, x, target, *, seeds):
        return SIGN * x

class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.c, self.fc = nn.Conv2d(3, 4, 7, 8), nn.Linear(4, n)
    def forward(self, x):
        return self.fc((SIGN * self.c(x)).relu().mean((2, 3)))

def net(weights=None, num_classes=10):
    return Net(num_classes)
"""


@pytest.mark.parametrize("kind", ["method", "metric", "network", "data set"])
def test_rows_are_not_served_once_the_code_they_came_from_has_changed(
    rapbench: Rapbench, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edited method or network printed its old numbers and computed nothing."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # bytecode tells edits within a second apart by size alone
    Path("lab_own.py").write_text(OWN.replace("SIGN", "+1"))
    given = ["--metric", "lab_metric:Mass", "--dataset", "lab_data:Gradients", "--weights", "random"]
    given += ["--model", "lab_own:net" if kind == "network" else "doubles:tiny"]
    given += ["--method", "lab_own:Mine" if kind == "method" else "input_gradient"]
    first = value(rapbench, *given)
    assert value(rapbench, *given) == first
    edits = {
        "method": ("lab_own.py", OWN.replace("SIGN", "-1")),
        "network": ("lab_own.py", OWN.replace("SIGN", "-1")),
        "metric": ("lab_metric.py", METRIC.replace("pixels.clamp(min=0)", "(-pixels).clamp(min=0)")),
        "data set": ("lab_data.py", DATASET.replace("torch.linspace(0, 1", "torch.linspace(1, 0.2")),
    }
    file, text = edits[kind]
    Path(file).write_text(text)
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, file.removesuffix(".py"))
    assert value(rapbench, *given) == value(rapbench, *given, "--out", "fresh") != first

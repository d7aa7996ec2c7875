"""`rapbench figure`: which rows it takes, which files it leaves, and what it says where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from stored import cell
from typer.testing import CliRunner, Result

from rapbench.cli.figure import figure
from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig, DataMissing, RapbenchError, UnknownName
from rapbench.results.store import Block, Store

FigureCommand = Callable[..., Result]
STEPS = 4


@pytest.fixture
def rapbench_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FigureCommand:
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(figure)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        if isinstance(result.exception, RapbenchError):
            raise result.exception
        return result

    return run


def store(
    method: str, *, model: str = "vgg16", metric: str = "perturbation", space: str = "net", root: str = "results/runs"
) -> None:
    """Rows of ten images in a results folder."""
    chosen = {"pixels": "10", "steps": str(STEPS)} | ({} if space == "net" else {"space": space})
    own = cell(
        method, metric=str(Call(metric, chosen if metric == "perturbation" else {})), dataset="scenes", model=model
    )
    shown = replace(own, metric=metric + ("" if space == "net" else f"(space={space})"), limit=10)
    curves = np.tile([1.0, 1.0, 0.0, 0.0, 0.0], (10, 1))
    columns = {
        "index": np.arange(10),
        "id": np.arange(10).astype(str),
        **{name: np.zeros(10, int) for name in ("label", "target", "num_non_finite", "constant")},
        "lerf_accuracy": curves,
        "morf_accuracy": 1 - curves,
    }
    Store(Path(root)).write(shown, Block(0, 10), columns, [], {})


def test_every_setting_is_written_as_pictures_and_points_and_the_paths_are_printed(
    rapbench_figure: FigureCommand,
) -> None:
    for space in ("net", "raw"):
        store("rap", space=space)
    store("rap", metric="guards")
    done = rapbench_figure("rap2020/figure7")
    stems = ("rap2020_figure7", "rap2020_figure7_space-raw")
    expected = [f"results/runs/figures/{stem}.{suffix}" for stem in stems for suffix in ("png", "svg", "pdf", "csv")]
    assert done.stdout.split() == expected
    signatures = [Path(path).read_bytes()[:5] for path in expected[:3]]
    assert signatures == [b"\x89PNG\r", b"<?xml", b"%PDF-"]
    points = pd.read_csv(expected[3])
    assert points["pixels"].tolist() == [0, 10, 20, 30, 40]
    assert points["accuracy"].tolist() == [1, 1, 0, 0, 0]
    assert set(points["n"]) == {10}


def test_a_second_time_the_files_are_the_same_bytes(rapbench_figure: FigureCommand) -> None:
    store("rap")
    paths = [Path(path) for path in rapbench_figure("perturbation").stdout.split()]
    first = [path.read_bytes() for path in paths]
    rapbench_figure("perturbation")
    assert [path.read_bytes() for path in paths] == first


def test_models_methods_and_the_folder_can_be_chosen(rapbench_figure: FigureCommand) -> None:
    store("rap")
    store("random")
    store("rap", model="resnet50")
    done = rapbench_figure("perturbation", "--model", "vgg16", "--method", "rap", "--to", "there")
    assert done.stdout.split()[-1] == "there/perturbation.csv"
    points = pd.read_csv("there/perturbation.csv")
    assert set(zip(points["model"], points["method"], strict=True)) == {("vgg16", "rap")}


def test_several_folders_are_read_as_one(rapbench_figure: FigureCommand) -> None:
    store("rap", root="one")
    store("gradient", root="two")
    done = rapbench_figure("perturbation", "--out", "one", "--out", "two")
    (points,) = [path for path in done.stdout.split() if path.endswith(".csv")]
    assert points.startswith("one/figures/")
    assert set(pd.read_csv(points)["method"]) == {"rap", "gradient"}


def test_the_order_can_be_chosen(rapbench_figure: FigureCommand) -> None:
    store("rap")
    path = rapbench_figure("rap2020/figure7", "--order", "morf").stdout.split()[-1]
    assert path.endswith("rap2020_figure7_morf.csv")
    assert pd.read_csv(path)["accuracy"].tolist() == [0, 0, 1, 1, 1]
    with pytest.raises(BadConfig, match="order: Input should be"):
        rapbench_figure("rap2020/figure7", "--order", "up")


def test_without_rows_the_command_that_writes_some_is_named(rapbench_figure: FigureCommand) -> None:
    store("rap")
    with pytest.raises(DataMissing, match=r"run rap2020/figure7 --out elsewhere"):
        rapbench_figure("rap2020/figure7", "--out", "elsewhere")
    with pytest.raises(DataMissing, match="no rows of perturbation of --model alexnet"):
        rapbench_figure("perturbation", "--model", "alexnet")


def test_the_example_of_several_networks_asks_for_one(
    rapbench_figure: FigureCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    monkeypatch.setattr("rapbench.cli.figure.drawn", lambda *_: [])
    monkeypatch.setattr("rapbench.report.figures.written", lambda *_: [])
    monkeypatch.setattr(
        "rapbench.papers.deeplift2017.example.example",
        lambda held, *_: drawn.extend(one.cell.identity.model.name for one in held),
    )
    for model in ("vgg16", "resnet50"):
        store("rap", metric="digit_conversion", model=model)
    with pytest.raises(BadConfig, match=r"results of the example differ in model\.name .*--model resnet50"):
        rapbench_figure("deeplift2017/figure4", "--example", "test-00001")
    rapbench_figure("deeplift2017/figure4", "--example", "test-00001", "--model", "vgg16")
    assert drawn == ["vgg16"]


def test_an_unknown_figure_is_offered_the_nearest(rapbench_figure: FigureCommand) -> None:
    with pytest.raises(UnknownName, match="did you mean rap2020/figure7"):
        rapbench_figure("rap2020/figure77")


def test_a_table_is_no_figure(rapbench_figure: FigureCommand) -> None:
    with pytest.raises(BadConfig, match="rapbench table rap2020/table1"):
        rapbench_figure("rap2020/table1")

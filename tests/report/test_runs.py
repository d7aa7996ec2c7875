"""What was run, as a command that leads to the same rows."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from stored import cell, held, ratios

from rapbench.report.runs import runs, titles
from rapbench.results.cell import Cell
from rapbench.results.store import Held, Rows


def holding(own: Cell, limit: int = 8) -> Held:
    return held(replace(own, limit=limit), ratios([1.0] * limit))


def options(command: str) -> dict[str, str]:
    words = shlex.split(command)
    assert words[:2] == ["rapbench", "run"]
    pairs = [(word, after) for word, after in zip(words, [*words[1:], ""], strict=True) if word.startswith("--")]
    return {word.removeprefix("--"): "" if after.startswith("--") else after for word, after in pairs}


def given(*cells: Cell, **chosen: Any) -> dict[str, str]:
    (run,) = runs(holding(own, **chosen) for own in cells)
    return options(run.command(Path("my runs")))


def test_a_command_names_what_numbers_depend_on_and_no_more() -> None:
    assert given(cell("rap"), cell("lrp_a2b1(bias=signed)"), cell("rap", metric="guards")) == {
        "model": "vgg16",
        "weights": "IMAGENET1K_V1",
        "dataset": "imagenet",
        "method": "rap,lrp_a2b1(bias=signed)",
        "metric": "outside_inside,guards",
        "limit": "8",
        "precision": "fp32",
        "device": "cpu",
        "out": "my runs",
    }


def test_what_is_not_usual_is_an_option() -> None:
    own = cell("gradient", backend="captum", seed=3, select="correct", precision="fp64")
    shuffled = replace(own.identity.dataset, shuffle=True)
    scored = replace(own.identity.metric, arithmetic="bf16")
    found = given(replace(own, identity=replace(own.identity, dataset=shuffled, metric=scored)))
    asked = {"backend": "captum", "seed": "3", "select": "correct", "precision": "fp64", "scoring-precision": "bf16"}
    assert asked.items() <= found.items()
    assert found["shuffle"] == ""


def test_a_method_that_needed_more_is_computed_by_what_gives_it_that() -> None:
    own = cell("rap")
    wider = replace(own, identity=replace(own.identity, method=replace(own.identity.method, arithmetic="fp64")))
    assert given(wider, cell("gradient"))["precision"] == "auto"


def test_a_metric_on_fewer_images_says_so() -> None:
    found = runs([holding(cell("rap")), holding(cell("rap", metric="perturbation(steps=3)"), limit=2)])
    assert options(found[0].command(Path()))["metric"] == "outside_inside,perturbation(steps=3, images=2)"


def test_what_cannot_be_one_command_is_several_runs_whose_titles_differ() -> None:
    cells = [cell("rap"), cell("rap", seed=1), cell("gradient", backend="captum"), cell("rap", model="alexnet")]
    found = runs(map(holding, cells))
    assert [run.cell for run in found] == cells
    assert len({run.title for run in found}) == len(found)
    assert "seed 1" in found[1].title


def test_scores_of_another_precision_are_a_run_of_their_own() -> None:
    own = cell("rap")
    metric = replace(own.identity.metric, arithmetic="bf16")
    other = replace(own, identity=replace(own.identity, metric=metric))
    found = runs(map(holding, [own, other]))
    assert ["scoring-precision" in run.command(Path()) for run in found] == [False, True]


def test_titles_say_no_more_than_tells_settings_apart() -> None:
    assert titles([cell("rap"), cell("rap", model="alexnet")]) == [
        "vgg16 (IMAGENET1K_V1) on imagenet",
        "alexnet (IMAGENET1K_V1) on imagenet",
    ]


def test_origins_are_told_once_each() -> None:
    one, other = {"torch": "1"}, {"torch": "2"}
    found = [
        Held(cell=cell(m), read=lambda origin=origin: Rows(pd.DataFrame(), (), (origin,)))
        for m, origin in {"rap": one, "gradient": other, "random": one}.items()
    ]
    assert runs(found)[0].origins == (one, other)

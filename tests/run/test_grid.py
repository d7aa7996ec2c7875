"""Grids of photographs as a user runs them: what a network sees in one cell alone is explained there alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rapbench.core.errors import BadConfig
from rapbench.datasets.grid import Grid
from rapbench.results.store import Store
from rapbench.run.resolve import prepare
from rapbench.run.spec import RunSpec
from rapbench.workers.shards import Shard, work

Run = Callable[..., tuple[list[dict[str, Any]], int]]
COLOURS = {"0": (255, 0, 0), "1": (0, 255, 0), "2": (0, 0, 255), "3": (255, 255, 0), "4": (0, 255, 255)}
NETWORK = """
import torch
from torch import nn

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def build():
    "A unit a class, which fires where the picture has the colour of the class and no other."
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    unit = nn.Conv2d(3, 1000, 1)
    with torch.no_grad():
        unit.weight.zero_()
        unit.weight[:4, :, 0, 0] = 80 * (2 * colours - 1)
        unit.bias.zero_()
        unit.bias[:4] = 60 - 80 * colours.sum(1)
    return nn.Sequential(nn.AvgPool2d(112), unit, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@pytest.fixture(params=[2])
def given(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, object]:
    """Some pictures of one colour for each of five classes, of which the network knows four."""
    for label, colour in COLOURS.items():
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for n in range(request.param):
            Image.new("RGB", (40, 30), colour).save(tmp_path / f"pictures/{label}/{n}.png")
    (tmp_path / "net.py").write_text(NETWORK)
    return {"model": f"{tmp_path / 'net.py'}:build", "dataset": f"grid(path={tmp_path / 'pictures'}, n=2)"}


def values(results: list[dict[str, Any]], variant: str) -> dict[str, float]:
    return {r["method"]: r["value"] for r in results if r["variant"] == variant}


def test_relevance_lies_in_the_cell_that_the_class_is_seen_in_and_uniform_relevance_a_quarter_there(
    run: Run, given: dict[str, object], tmp_path: Path
) -> None:
    options = {**given, "weights": "auto", "method": "input_gradient,lrp_epsilon,all_foreground"}
    results, computed = run(**options, metric="grid_pointing(threshold=0.9)")
    assert computed == 3 * 2
    found = values(results, "localization")
    assert found == pytest.approx({"input_gradient": 100, "lrp_epsilon": 100, "all_foreground": 25}, rel=1e-5)
    known = [sample.cells < 4 for sample in Grid(path=tmp_path / "pictures", n=2) if sample.cells is not None]
    assert values(results, "cells")["lrp_epsilon"] == 100 * torch.stack(known).double().mean().item() < 100


@pytest.mark.parametrize("setting", ["difull", "dipart"])
def test_where_a_head_sees_one_cell_alone_relevance_lies_there_and_methods_from_outside_are_scored_too(
    run: Run, given: dict[str, object], setting: str
) -> None:
    options = {**given, "weights": "auto", "method": "gradient,lrp_epsilon,deeplift,all_foreground,doubles:OfWeights"}
    results, _ = run(**options, metric=f"grid_pointing(threshold=0.9, setting={setting})", limit=1)
    found = values(results, "localization")
    assert {found[name] for name in ("gradient", "lrp_epsilon", "deeplift")} == {100}, "the network pools by cells"
    assert found["all_foreground"] == 25
    assert 0 <= found["doubles:OfWeights"] < 100


def test_a_network_that_takes_its_usual_input_alone_is_told_in_a_line(run: Run, given: dict[str, object]) -> None:
    for metric in ("grid_pointing", "grid_pointing(setting=difull)"):
        with pytest.raises(BadConfig, match=r"tiny takes images of 224 pixels a side alone, and these have 448"):
            run(**{**given, "model": "doubles:tiny"}, method="gradient", metric=metric)


def test_a_network_of_other_classes_than_the_pictures_is_refused(
    run: Run, given: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(NETWORK.replace("1000", "999"))
    with pytest.raises(BadConfig, match="not known to be classes of the network"):
        run(**given, weights="auto", method="input_gradient", metric="grid_pointing")


@pytest.mark.slow
@pytest.mark.parametrize("given", [30], indirect=True)
@pytest.mark.parametrize("metric", ["grid_pointing", "grid_pointing(setting=difull)", "grid_pointing(setting=dipart)"])
def test_two_workers_end_with_the_bytes_of_one(given: dict[str, object], tmp_path: Path, metric: str) -> None:
    options = {
        **given,
        "weights": "auto",
        "method": "input_gradient,random",
        "metric": metric,
        "device": "cpu",
    }
    stored = []
    for order in (["0/1"], ["1/2", "0/2"]):
        experiment = prepare(RunSpec.read(None, {**options, "out": tmp_path / "".join(order).replace("/", "")}))
        store = Store(experiment.spec.out)
        for shard in order:
            work([experiment], Shard.parse(shard), store, lambda _: None)
        stored.append({p.relative_to(store.root): p.read_bytes() for p in store.root.glob("*/*.parquet")})
    assert stored[0] == stored[1]
    assert len(stored[0]) == 2 * 2 * 2, "two methods, two metrics, two blocks of grids"

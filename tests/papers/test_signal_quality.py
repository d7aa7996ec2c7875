"""The quality of estimators on a whole network: rows, which images they rest on, and resumption."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from doubles import Squares
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rapbench.cli import main
from rapbench.cli.preview import preview
from rapbench.core.errors import BadConfig, UnknownName
from rapbench.core.types import Classifier
from rapbench.datasets.scenes import Scenes
from rapbench.doctor.probe import Measured
from rapbench.papers.pattern2017.signal_quality import ESTIMATORS, SignalQuality, thirds
from rapbench.results.store import Block, Held, Store
from rapbench.run.engine import execute
from rapbench.run.plan import Experiment
from rapbench.run.rehearsal import Rehearsal
from rapbench.run.resolve import prepare
from rapbench.run.spec import RunSpec
from rapbench.workers.shards import Shard, work

TINY = {"model": "doubles:tiny", "weights": "random", "dataset": "doubles:Squares(count=48)", "study": "signal_quality"}


def experiment(out: Path, **options: object) -> Experiment:
    return prepare(RunSpec.read(None, {**TINY, "out": out, "device": "cpu", **options}))


def held(out: Path) -> Held:
    (one,) = Store(out).held()
    return one


def run(chosen: Experiment) -> int:
    """Does what is missing; the number of tasks."""
    store = Store(chosen.spec.out)
    tasks = chosen.pending(store)
    execute(chosen, tasks, store, lambda _: None)
    return len(tasks)


def test_rows_hold_every_estimator_and_are_measured_once(tmp_path: Path) -> None:
    assert run(experiment(tmp_path)) == 1
    rows = held(tmp_path).rows.frame
    assert set(rows) == {"index", "layer", "kind", "inputs", "unit", "estimator", "rho"}
    counts = rows.groupby(["layer", "estimator"]).size().to_dict()
    assert counts == {(layer, e): n for layer, n in (("0", 4), ("3", 64)) for e in ESTIMATORS}
    assert dict(rows.groupby("layer")["inputs"].first()) == {"0": 768, "3": 784}
    assert np.isfinite(rows["rho"]).all()
    assert run(experiment(tmp_path)) == 0


def test_it_is_divided_by_layers_and_the_parts_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ran whole in every worker: its work was no part of the plan."""
    assert run(experiment(tmp_path / "whole")) == 1
    monkeypatch.setattr(SignalQuality, "block_size", 1)
    chosen = experiment(tmp_path / "parts")
    assert [task.block for task in chosen.tasks()] == [Block(0, 1), Block(1, 2)]
    for index in (1, 0):
        assert work([chosen], Shard(index, 2), Store(chosen.spec.out), lambda _: None).done == 1
    whole, parts = (held(tmp_path / name).rows.frame for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole, parts)


def test_what_a_preview_says_is_measured_on_few_images_and_stored_nowhere(tmp_path: Path) -> None:
    """A preview did the whole study."""
    shown = preview(Rehearsal(experiment=experiment(tmp_path), remarks=()), Measured())
    assert shown.images == 48
    assert [cost.stage for cost in shown.costs] == ["measuring Signal estimators"]
    assert shown.costs[0].images == 48
    assert shown.document()["seconds"] > 0
    assert not list(tmp_path.iterdir())


def test_it_prints_one_json_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "study.toml"
    config.write_text("\n".join(f'{key} = "{value}"' for key, value in TINY.items()))
    arguments = ["run", "--config", str(config), "--out", str(tmp_path / "runs"), "--device", "cpu", "--json"]
    for more in (["--dry-run"], []):
        monkeypatch.setattr(sys, "argv", ["rapbench", *arguments, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        document = json.loads(capsys.readouterr().out)
        assert document["run"]["study"] == "signal_quality"
    assert document["results"] == []


def test_a_parameter_out_of_range_is_refused() -> None:
    with pytest.raises(BadConfig, match="units=0: Input should be greater than or equal to 1"):
        experiment(Path("nowhere"), study="signal_quality(units=0)")
    with pytest.raises(UnknownName, match="did you mean signal_quality"):
        experiment(Path("nowhere"), study="signal_qality")


def small() -> Classifier:
    """Few inputs a unit and few positions."""
    torch.manual_seed(2)
    layers = nn.Conv2d(3, 4, 2, stride=16), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), nn.ReLU()
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(588, 3)).eval()
    return Classifier(name="small", title="small", weights="random", digest="", module=net, label_space="")


def slow_samples(net: nn.Module, inputs: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Patches (P, 36) and outputs (P, 3) of the second convolution."""
    with torch.no_grad():
        x = net[:2](inputs)  # type: ignore[index]
        y = net[2](x)  # type: ignore[index]
    patches = functional.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1)
    return patches.double().numpy(), y.movedim(1, -1).flatten(0, -2).double().numpy()


def test_rho_is_that_of_least_squares_on_every_patch() -> None:
    classifier, data = small(), Squares()
    sets = thirds(data, "squares", 36)
    rows = SignalQuality(positions=10_000).measure(classifier, sets, ["0", "2", "5"], 0, lambda _: None)
    stacked = [torch.stack([data[i].image for i in range(s.start, s.stop)]) for s in sets]
    (x, y), reading, scoring = (slow_samples(classifier.module, classifier.normalised(images)) for images in stacked)
    weight, bias = (
        t.detach().double().flatten(1).numpy()
        for t in (classifier.module[2].weight, classifier.module[2].bias[:, None])
    )
    for unit in range(3):
        output, w, b = y[:, unit], weight[unit], bias[unit]
        covariances = []
        for on in (np.ones(len(output), bool), output > 0, output <= 0):
            covariance = (x[on] * output[on, None]).mean(0) - x[on].mean(0) * output.mean()
            covariances.append(covariance / (w @ covariance))
        a, plus, minus = covariances
        directions = {"S_w": (w / (w @ w), w / (w @ w)), "S_a": (a, a), "S_a+-": (plus, minus)}
        for name, (above, below) in directions.items():
            ((read, read_y), (scored, scored_y)) = (
                (p - np.where(o[:, unit, None] > 0, above, below) * (o[:, unit, None] - b), o[:, unit])
                for p, o in (reading, scoring)
            )
            centred = read - read.mean(0)
            ridge = 1e-6 * ((reading[0] - reading[0].mean(0)) ** 2).mean(0).mean() * np.eye(36)
            v = np.linalg.solve(centred.T @ centred / len(read) + ridge, centred.T @ read_y / len(read))
            expected = 1 - np.corrcoef(scored @ v, scored_y)[0, 1]
            found = rows.query("layer == '2' and unit == @unit and estimator == @name")["rho"].item()
            assert found == pytest.approx(expected, abs=1e-3), (unit, name)


def test_the_three_sets_share_no_image() -> None:
    sets = thirds(Squares(), "squares", 10)
    assert [(s.start, s.stop) for s in sets] == [(0, 3), (3, 6), (6, 10)]
    sets = thirds(Scenes(), "scenes", 100)
    assert [(s.dataset.fingerprint.rpartition("-")[2], s.start, s.stop) for s in sets] == [
        *(("train", 0, 100), ("train", 100, 200), ("val", 0, 100)),
    ]
    with pytest.raises(BadConfig, match="wants 6 images or more, not 5"):
        thirds(Squares(), "squares", 5)

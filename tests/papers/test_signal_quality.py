"""The quality of estimators on a whole network: rows, which images they rest on, and resumption."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles import Squares
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.errors import BadConfig
from rapbench.core.types import Classifier
from rapbench.datasets.scenes import Scenes
from rapbench.papers.pattern2017.signal_quality import ESTIMATORS, FOLDER, Quality, store, thirds
from rapbench.results.store import Store
from rapbench.run.plan import Experiment
from rapbench.run.resolve import prepare
from rapbench.run.spec import RunSpec


def experiment(out: Path, **options: object) -> Experiment:
    given = {"model": "doubles:tiny", "weights": "random", "dataset": "doubles:Squares(count=48)", "out": out}
    return prepare(RunSpec.read(None, {**given, "device": "cpu", "metric": "guards", **options}))


def watched(told: list[int]) -> Callable[[int], AbstractContextManager[Callable[[int], None]]]:
    return lambda total: nullcontext(told.append)


def test_rows_hold_every_estimator_and_are_measured_once(tmp_path: Path) -> None:
    told: list[int] = []
    folder = store(experiment(tmp_path), watched(told))
    held = Store(tmp_path / FOLDER)
    (one,) = held.held()
    rows = one.rows.frame
    assert sum(told) == 48
    assert set(rows) == {"index", "layer", "kind", "inputs", "unit", "estimator", "rho"}
    counts = rows.groupby(["layer", "estimator"]).size().to_dict()
    assert counts == {(layer, e): n for layer, n in (("0", 4), ("3", 64)) for e in ESTIMATORS}
    assert dict(rows.groupby("layer")["inputs"].first()) == {"0": 768, "3": 784}
    assert np.isfinite(rows["rho"]).all()
    assert store(experiment(tmp_path), watched(told)) == folder
    assert sum(told) == 48
    again = store(experiment(tmp_path / "other"), watched(told))
    (other,) = Store(tmp_path / "other" / FOLDER).held()
    assert other.rows.frame.equals(rows)
    assert again.name == folder.name


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
    rows = Quality(*sets, positions=10_000).measure(classifier, device=torch.device("cpu"), progress=lambda _: None)
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

"""Checks before a run: what each says of a machine, a data set or a network that is as it should be, and is not."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from doubles import tiny
from torch import nn

from rapbench.doctor import machine, network
from rapbench.doctor.examination import examined
from rapbench.doctor.finding import Finding
from rapbench.run.spec import RunSpec

SMALL = {
    "model": "doubles:tiny",
    "weights": "random",
    "dataset": "doubles:Squares",
    "method": "doubles:Counting",
    "device": "cpu",
}


def findings(*, required: bool = True, **options: object) -> dict[str, list[Finding]]:
    """The findings on one small run, by subject."""
    by_subject: dict[str, list[Finding]] = {}
    for finding in examined([RunSpec.read(None, {**SMALL, **options})], required=required):
        by_subject.setdefault(finding.subject.partition(" ")[0], []).append(finding)
    return by_subject


@pytest.fixture(autouse=True)
def _no_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise AssertionError("the doctor downloads nothing")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def test_everything_in_order_is_one_line_a_check() -> None:
    found = findings()
    assert list(found) == ["libraries", "settings", "device", "memory", "disk", "data", "model"]
    assert [finding.level for of_subject in found.values() for finding in of_subject] == ["ok"] * 9
    assert "Python 3" in found["libraries"][0].message
    assert f"torch {torch.__version__.partition('+')[0]}" in found["libraries"][0].message


def test_a_torchvision_that_does_not_import_ends_the_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
    (only,) = examined([RunSpec.read(None, SMALL)])
    assert (only.level, only.subject) == ("FAIL", "libraries")
    assert "as a pair from one package index" in only.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "segmentation", "dataset": "doubles:Unlabelled"}, "needs mask"),
        ({"metric": "perturbation(spase=raw)"}, "did you mean space?"),
        ({"model": "doubles:Nothing"}, "cannot load model 'doubles:Nothing'"),
    ],
)
def test_settings_that_no_run_accepts_fail_before_anything_is_read(options: dict[str, str], message: str) -> None:
    found = findings(**options)
    assert [f.level for f in found["settings"]] == ["FAIL"]
    assert message in found["settings"][0].message
    assert not {"data", "model"} & set(found)


def test_a_device_that_is_not_there_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (finding,) = findings(device="cuda")["device"]
    assert finding.level == "FAIL"
    assert "--device cpu" in finding.message


def test_little_memory_and_little_disk_are_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(machine, "_free_memory", lambda: 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(2**20))
    found = findings()
    assert [f.level for f in (*found["memory"], *found["disk"])] == ["warn", "warn"]
    assert "--batch-size 1" in found["memory"][0].message
    assert "choose another --out" in found["disk"][0].message


def test_a_results_folder_that_cannot_be_written_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**options: object) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    (finding,) = findings(out=tmp_path / "runs")["disk"]
    assert finding.level == "FAIL"
    assert "runs cannot be written (Read-only file system): choose another --out" in finding.message
    assert not (tmp_path / "runs").exists()


def test_free_memory_is_what_the_system_says() -> None:
    assert 2**20 < machine._free_memory() < 2**50


def test_images_are_counted_against_the_whole_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doubles.Squares.full_size", 1449)
    count, read = findings()["data"]
    assert (count.level, read.level) == ("warn", "ok")
    assert count.message.startswith("40 images of 1,449: ")
    monkeypatch.setattr("doubles.Squares.full_size", 40)
    assert findings()["data"][0].level == "ok"


def test_a_few_images_are_read_and_what_they_hold_is_counted() -> None:
    read = findings(dataset="doubles:Squares(count=2000, grey_every=1)")["data"][1]
    assert read.level == "ok"
    assert "read 11 of 11 looked at: 11 converted from grey, 0 with label, 11 with boxes, 11 with mask" in read.message
    assert "read 3 of 3" in findings(dataset="doubles:Squares(count=3)")["data"][1].message


def test_unreadable_images_warn_and_name_the_first_file() -> None:
    read = findings(dataset="doubles:Squares(count=8, unreadable_every=2)")["data"][1]
    assert read.level == "warn"
    assert "read 4 of 8" in read.message
    assert "4 left out by a run, first unreadable image: square-1.png" in read.message


def test_a_data_set_of_which_nothing_can_be_read_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doubles.Squares.__getitem__", _unreadable)
    read = findings()["data"][1]
    assert read.level == "FAIL"
    assert "read 0 of 11" in read.message


def test_annotations_that_a_data_set_promises_and_no_image_has_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doubles.Unlabelled.provides", frozenset({"boxes", "mask"}))
    read = findings(dataset="doubles:Unlabelled")["data"][1]
    assert read.level == "warn"
    assert "none has boxes or mask: look for the annotation files" in read.message


def test_data_that_is_not_there_fails_where_it_is_required_and_warns_where_not(tmp_path: Path) -> None:
    for required, level in ((True, "FAIL"), (False, "warn")):
        (finding,) = findings(dataset="voc", data_root=tmp_path, required=required)["data"]
        assert finding.level == level
        assert "VOCtrainval" in finding.message


def test_published_weights_that_are_not_here_are_named_with_their_place_and_not_downloaded(tmp_path: Path) -> None:
    weights, cost = findings(model="squeezenet1_1", weights="auto")["model"]
    assert (weights.level, cost.level) == ("warn", "ok")
    assert f"put it at {tmp_path}/torch/hub/checkpoints/squeezenet1_1-" in weights.message
    assert "https://" in weights.message


def test_a_network_that_a_run_trains_is_not_trained_here() -> None:
    weights, cost = findings(model="mnist_cnn", weights="auto", dataset="digits")["model"]
    assert (weights.level, cost.level) == ("warn", "ok")
    assert "trained on the data set's images" in weights.message


def test_a_data_set_of_another_size_than_the_network_fails() -> None:
    (finding,) = findings(model="mnist_cnn", dataset="scenes")["data"]
    assert finding.level == "FAIL"
    assert "size must be at least 64 pixels" in finding.message


def test_embedded_weights_are_there() -> None:
    weights, cost = findings(model="vgg16", weights="auto", dataset="scenes")["model"]
    assert weights.message == "vgg16 (width 1/8, scenes weights): weights fit"
    assert "a gradient" in cost.message


def test_a_weight_file_is_read_and_compared_with_the_network(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    state = {key: value.numpy() for key, value in tiny().state_dict().items()}
    np.savez(good, **state)
    np.savez(bad, other=state.pop("0.weight"), **state)
    assert findings(weights=str(good))["model"][0].message == "doubles:tiny (good.npz): weights fit"
    for file, message in ((bad, "1 missing: 0.weight; 1 unexpected: other"), (tmp_path / "none.npz", "no weight file")):
        (finding,) = findings(weights=str(file), required=False)["model"]
        assert finding.level == "FAIL"
        assert message in finding.message


def test_a_network_that_does_not_fit_into_memory_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(module: nn.Module, x: torch.Tensor) -> NoReturn:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(network, "_gradient", full)
    (finding,) = findings()["model"]
    assert finding.level == "FAIL"
    assert "out of memory with 4 images" in finding.message


def test_what_a_gradient_keeps_is_its_activations_without_the_weights() -> None:
    class Squared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(3 * 8 * 8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.dense(x.flatten(1))
            return hidden**2

    x = torch.rand(2, 3, 8, 8)
    module = Squared().requires_grad_(requires_grad=False)
    floats = 2 * 5  # the hidden layer, for the square
    largest = 2 * 8  # of amax: its result in float32 and where it lies
    assert floats * 4 <= network._kept_bytes(module, x) <= (2 * floats + largest) * 4


def _unreadable(self: object, index: int) -> NoReturn:
    from rapbench.core.errors import BadData

    raise BadData("unreadable image", f"{index}.png")

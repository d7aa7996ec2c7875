"""What a spec resolves to; what it refuses is in tests/cli/test_settings.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rapbench.core.errors import BadConfig
from rapbench.datasets.scenes import Scenes
from rapbench.run import resolve
from rapbench.run.spec import RunSpec

SMALL = {"model": "doubles:tiny", "weights": "random", "dataset": "doubles:Squares(count=70)", "device": "cpu"}


@pytest.mark.parametrize(
    "options",
    [
        {"method": "random,center"},
        {"method": "random", "limit": 33},
        {"method": "random", "metric": "segmentation,perturbation(images=3)", "limit": 1000},
        {"study": "signal_quality"},
    ],
    ids=str,
)
def test_a_rehearsal_counts_the_tasks_of_the_run(options: dict[str, object]) -> None:
    spec = RunSpec.read(None, {**SMALL, **options})
    assert resolve.rehearse(spec) == len(resolve.prepare(spec).tasks()) > 0


def test_a_rehearsal_neither_trains_nor_downloads_nor_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in (
        "torch.hub.download_url_to_file",
        "rapbench.models.digits.trained",
        "rapbench.run.resolve.patterns_for",
    ):
        monkeypatch.setattr(name, None)
    trained = {"model": "mnist_cnn", "dataset": "digits", "method": "random", "limit": 64}
    downloaded = {"model": "squeezenet1_1", "dataset": "doubles:Squares", "method": "random", "limit": 64}
    fitted = {"model": "vgg16", "dataset": "scenes", "method": "pattern_net", "limit": 64}
    for options in (trained, downloaded, fitted):
        assert resolve.rehearse(RunSpec.read(None, options)) == 2


def test_a_device_is_the_best_there_is_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = {choice: resolve.device(RunSpec(device=choice)).type for choice in ("auto", "cpu", "cuda")}
    assert found == {"auto": "cuda", "cpu": "cpu", "cuda": "cuda"}


@pytest.mark.parametrize("name", ["pointing_game", "energy"])
def test_what_draws_the_object_decides_which_images_a_metric_can_score(name: str, tmp_path: Path) -> None:
    masks = {**SMALL, "dataset": f"folder(path={tmp_path}, masks={tmp_path})", "method": "random"}
    with pytest.raises(BadConfig, match=f"metric {name} needs boxes, which folder"):
        resolve.settings(RunSpec.read(None, {**masks, "metric": name}))
    chosen = resolve.settings(RunSpec.read(None, {**masks, "metric": f"{name}(region=mask)"}))
    assert [metric.label for metric in chosen.metrics] == ["guards", f"{name}(region=mask)"]


def test_metrics_whose_needs_a_parameter_decides_are_taken_when_asked_for_alone() -> None:
    chosen = resolve.settings(RunSpec.read(None, {**SMALL, "method": "random"}))
    assert {metric.name for metric in chosen.metrics} == {"outside_inside", "segmentation", "perturbation", "guards"}


def test_pixels_are_erased_of_a_quarter_of_the_usual_images_and_of_all_where_a_number_is_chosen() -> None:
    def images(**options: object) -> int | None:
        chosen = resolve.settings(RunSpec.read(None, {"dataset": "scenes", "method": "random", **options}))
        (found,) = (metric.thing.images for metric in chosen.metrics if metric.name == "perturbation")
        return found

    assert images() == Scenes.default_limit // 4
    assert images(limit=100) is None

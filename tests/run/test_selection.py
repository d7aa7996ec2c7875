"""Which images a run takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rapbench.core.errors import BadConfig, BadData
from rapbench.results.store import Store
from rapbench.run.engine import execute
from rapbench.run.plan import Experiment
from rapbench.run.resolve import prepare
from rapbench.run.selection import selected, selection_file
from rapbench.run.spec import RunSpec


@pytest.fixture
def prepared(tmp_path: Path):
    def build(**options: object) -> Experiment:
        defaults = {"model": "resnet50", "dataset": "scenes", "out": tmp_path, "method": "center", "device": "cpu"}
        return prepare(RunSpec.read(None, {"select": "correct", "metric": "guards", **defaults, **options}))

    return build


@pytest.fixture
def hard(prepared, monkeypatch: pytest.MonkeyPatch):
    """The scenes with every third label moved to another class: what no network gets right."""

    def build(**options: object) -> Experiment:
        experiment = prepared(**options)
        original = type(experiment.dataset).__getitem__

        def moved(self, index):
            sample = original(self, index)
            return sample if index % 3 else type(sample)(**{**vars(sample), "label": (sample.label + 1) % 12})

        monkeypatch.setattr(type(experiment.dataset), "__getitem__", moved)
        return experiment

    return build


def test_the_first_correct_images_are_taken_in_order(hard) -> None:
    experiment = hard(limit=7)
    chosen, selection = selected(experiment, lambda count: None)
    with torch.no_grad():
        samples = [experiment.dataset[n] for n in range(32)]
        x = experiment.classifier.normalised(torch.stack([s.image for s in samples]))
        right = experiment.classifier.module(x).argmax(1) == torch.tensor([s.label for s in samples])
    assert chosen.order == tuple(right.nonzero().squeeze(1).tolist()[:7])
    assert selection.scanned == 32
    assert selection.dropped == {"misclassified": int((~right).sum())}


def test_a_selection_is_kept_and_extended(hard) -> None:
    first, _ = selected(hard(limit=5), lambda count: None)
    file = selection_file(first)
    held = json.loads(file.read_text())
    assert held["ids"][:5] == [first.dataset.ids[n] for n in first.order]
    again: list[int] = []
    same, _ = selected(hard(limit=5), again.append)
    assert (same.order, again) == (first.order, [])
    more, selection = selected(hard(limit=len(held["ids"]) + 1), again.append)
    assert again == [32], "only the block that was not scanned yet"
    assert more.order[:5] == first.order
    assert selection.scanned == 64


def test_a_torn_selection_is_made_again(hard) -> None:
    first, _ = selected(hard(limit=5), lambda count: None)
    file = selection_file(first)
    file.write_text(file.read_text()[:40])
    assert selected(hard(limit=5), lambda count: None)[0].order == first.order


@pytest.mark.slow
def test_an_image_that_could_not_be_read_is_selected_once_it_can(
    prepared, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = prepared(limit=4, metric="guards")
    read = type(experiment.dataset).__getitem__

    def faulty(self, index):
        if index == 1:
            raise BadData("missing image", "away")
        return read(self, index)

    monkeypatch.setattr(type(experiment.dataset), "__getitem__", faulty)
    first, scan = selected(experiment, lambda count: None)
    store = Store(first.spec.out)
    execute(first, first.pending(store), store, lambda count: None)
    assert scan.dropped["missing image"] == 1
    assert selected(experiment, lambda count: None)[0].order == first.order, "it is still away"
    monkeypatch.undo()
    second, scan = selected(experiment, lambda count: None)
    assert "missing image" not in scan.dropped
    assert 1 in second.order
    store = Store(first.spec.out)
    execute(second, second.pending(store), store, lambda count: None)
    assert "its rows are another's" in caplog.text
    (held,) = Store(first.spec.out).held()
    assert held.rows.frame["id"].to_list() == list(second.ids or ())


def test_shuffling_depends_on_the_seed_and_keeps_prefixes(prepared) -> None:
    few, many = prepared(shuffle=True, select="all", limit=5), prepared(shuffle=True, select="all", limit=9)
    assert many.order[:5] == few.order
    assert few.order != tuple(range(5))
    assert prepared(shuffle=True, select="all", limit=5, seed=1).order != few.order


def test_a_data_set_without_the_networks_labels_cannot_be_selected_from(tmp_path: Path) -> None:
    options = {"dataset": "doubles:Squares", "model": "doubles:tiny", "weights": "random", "method": "center"}
    spec = RunSpec.read(None, {**options, "select": "correct", "out": tmp_path, "device": "cpu"})
    with pytest.raises(BadConfig, match="needs labels in the classes of the network"):
        prepare(spec)


def test_selected_and_shuffled_images_are_stored_apart_from_all(prepared) -> None:
    keys = {
        next(iter(prepared(**options).cells.values())).key
        for options in ({"select": "all"}, {}, {"shuffle": True}, {"select": "all", "shuffle": True})
    }
    assert len(keys) == 4

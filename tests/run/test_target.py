"""Which class is explained: the predicted one, the label, or one for all images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from rapbench.cli.finished import collected, summary
from rapbench.core.errors import BadConfig, UnknownName
from rapbench.core.types import Classifier, Sample
from rapbench.metrics.undefined import misclassified
from rapbench.report.tables import text
from rapbench.results.store import Store
from rapbench.run.engine import execute
from rapbench.run.plan import Experiment
from rapbench.run.resolve import prepare
from rapbench.run.selection import selected
from rapbench.run.spec import RunSpec
from rapbench.run.target import class_index, target_of

METRICS = "outside_inside,guards"


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., Experiment]:
    """Five scenes and a method that is quick, prepared with options."""

    def build(**options: object) -> Experiment:
        defaults = {"model": "vgg16", "method": "input_gradient", "metric": METRICS, "limit": 5, "device": "cpu"}
        return prepare(RunSpec.read(None, {**defaults, "out": tmp_path, **options}))

    return build


@pytest.fixture(autouse=True)
def _labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Image 1 is labelled as another class than any network takes it for, image 3 not at all."""
    from rapbench.datasets.scenes import Scenes

    read = Scenes.__getitem__

    def relabelled(self: Scenes, index: int) -> Sample:
        sample = read(self, index)
        assert sample.label is not None
        labels = {1: (sample.label + 1) % 12, 3: None}
        return replace(sample, label=labels.get(index, sample.label))

    monkeypatch.setattr(Scenes, "__getitem__", relabelled)


def done(experiment: Experiment) -> dict[str, pd.DataFrame]:
    """The rows of a run by metric, read from its folder by a store of their own."""
    store = Store(experiment.spec.out)
    execute(experiment, experiment.pending(store), store, lambda count: None)
    held = Store(experiment.spec.out).held()
    own = {cell.key for cell in experiment.cells.values()}
    return {one.cell.metric: one.rows.frame.set_index("id") for one in held if one.cell.key in own}


def test_the_label_is_explained_and_the_predicted_class_stays_known(prepared: Callable[..., Experiment]) -> None:
    usual, labelled = done(prepared()), done(prepared(target="label"))
    rows, before = labelled["outside_inside"], usual["outside_inside"]
    assert (rows["target"] == rows["label"]).all()
    assert "predicted" not in before
    assert (rows["predicted"] == before["target"][rows.index]).all()
    assert misclassified(rows).tolist() == misclassified(before)[[0, 1, 2, 4]].tolist()
    assert misclassified(rows)[1]
    guards, others = labelled["guards"], usual["guards"].loc[rows.index]
    right = (rows["label"] == rows["predicted"]).to_numpy()
    assert right.sum() >= 2
    assert (guards[right]["logit"] == others[right]["logit"]).all()
    assert (guards[right]["relevance_sum"] == others[right]["relevance_sum"]).all()
    assert (guards[~right]["logit"] < others[~right]["logit"]).all()


@pytest.mark.slow
def test_images_without_a_label_are_skipped_with_a_reason_and_not_tried_again(
    prepared: Callable[..., Experiment],
) -> None:
    experiment = prepared(target="label")
    assert len(done(experiment)["guards"]) == 4
    store = Store(experiment.spec.out)
    assert experiment.pending(store) == []
    results = collected(experiment, store)
    assert all(result.skipped == {"unlabelled": 1} for result in results)
    with pytest.raises(Exception, match="unlabelled"):
        done(prepared(target="label", strict=True, out=experiment.spec.out / "strict"))


def test_one_class_is_explained_for_all_images_by_index_or_name(prepared: Callable[..., Experiment]) -> None:
    by_name, by_index = prepared(target="Striped Disc"), prepared(target="1")
    keys = [[cell.key for cell in experiment.cells.values()] for experiment in (by_name, by_index, prepared())]
    assert keys[0] == keys[1]
    assert set(keys[0]).isdisjoint(keys[2])
    rows, usual = done(by_name)["guards"], done(prepared())["guards"]
    assert (rows["target"] == 1).all()
    assert (rows["predicted"] == usual["target"]).all()
    assert "target striped disc (1)" in summary(by_name)
    assert "target" not in summary(prepared())


@pytest.mark.slow
def test_tables_say_which_class_is_explained(prepared: Callable[..., Experiment]) -> None:
    for target, told in (("label", "target label"), ("2", "target 2")):
        experiment = prepared(target=target)
        done(experiment)
        heads = [
            line for line in text(collected(experiment, Store(experiment.spec.out))).splitlines() if " on " in line
        ]
        assert len(heads) == 2
        assert all(told in head for head in heads)
    usual = prepared()
    done(usual)
    assert "target" not in text(collected(usual, Store(usual.spec.out)))


@pytest.mark.slow
def test_which_images_are_correct_does_not_depend_on_the_class_explained(prepared: Callable[..., Experiment]) -> None:
    orders, scans = zip(
        *(
            selected(prepared(select="correct", target=target, limit=3), lambda count: None)
            for target in ("label", "predicted", "0")
        ),
        strict=True,
    )
    assert orders[0].order == orders[1].order == orders[2].order
    assert {1, 3}.isdisjoint(orders[0].order)
    assert scans[0] == scans[1] == scans[2]
    assert [experiment.target for experiment in orders] == ["label", "predicted", "0"]


@pytest.mark.slow
def test_maps_of_other_classes_are_saved_apart(prepared: Callable[..., Experiment], tmp_path: Path) -> None:
    files = [
        experiment.map_file(experiment.methods[0], "a")
        for experiment in (
            prepared(save_maps=tmp_path / "maps", target=target) for target in ("predicted", "label", "1")
        )
    ]
    assert len({file.parent for file in files}) == 3


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("striped disk", UnknownName, "no class named 'striped disk' among the 12; near: striped disc"),
        ("12", BadConfig, "target 12: pass an index from 0 to 11 or a name"),
        ("-1", UnknownName, "no class named '-1'"),
    ],
)
def test_a_class_that_the_network_lacks_is_said_before_anything_is_computed(
    prepared: Callable[..., Experiment], target: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        prepared(target=target)


def test_a_name_of_two_classes_is_refused_and_a_network_without_names_takes_indices() -> None:
    with pytest.raises(BadConfig, match="classes 0 and 2 have this name: pass an index"):
        class_index("crane", ("crane", "dog", "Crane"), 3)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    nameless = Classifier(module=module, size=2)
    assert target_of("3", nameless) == "3"
    for target in ("4", "dog"):
        with pytest.raises(BadConfig, match=f"target {target}: pass an index from 0 to 3$"):
            target_of(target, nameless)


def test_a_study_explains_no_class() -> None:
    with pytest.raises(BadConfig, match="target=label: study signal_quality explains no class"):
        prepare(RunSpec.read(None, {"study": "signal_quality", "target": "label", "device": "cpu"}))

"""Identities: keys that stay, and change with everything that numbers depend on."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version

import pytest
from stored import cell

from rapbench.results.cell import Cell, Identity
from rapbench.run.resolve import prepare
from rapbench.run.spec import RunSpec


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"method": "rap,lrp_epsilon(epsilon=0.1)"}, ["9a8824e1193a6af5", "ce33b1b6a7c582c2"]),
        (
            {"method": "integrated_gradients(steps=8)", "dataset": "scenes(stream=train)", "backend": "captum"}
            | {"select": "correct"},
            ["eadcd6017d7cda3d"],
        ),
    ],
    ids=["native", "captum"],
)
def test_rows_stored_by_the_same_version_go_on_being_found(options: dict[str, str], keys: list[str]) -> None:
    experiment = prepare(RunSpec.read(None, {**options, "metric": "outside_inside", "device": "cpu"}))
    found = [own.key for (_, metric), own in experiment.cells.items() if metric == "outside_inside"]
    assert found == keys


@pytest.mark.parametrize(
    "other",
    [
        *({"seed": 1}, {"precision": "fp64"}, {"device": "cuda"}, {"select": "correct"}, {"rapbench": "2"}),
        *({"target": "label"}, {"target": "3"}),
        *({"weights": "random"}, {"model": "vgg19"}, {"dataset": "voc"}, {"parameters": {"preprocess": "crop"}}),
        *({"backend": "captum"}, {"digest": "d"}, {"method": "rap(routing=paper)"}, {"metric": "guards"}),
    ],
    ids=str,
)
def test_a_key_changes_with_all_that_numbers_depend_on(other: dict[str, object]) -> None:
    own = cell(**({"method": "rap"} | other))  # type: ignore[arg-type]
    assert own.key != cell("rap").key
    assert own.key == cell(**({"method": "rap"} | other)).key  # type: ignore[arg-type]


def test_a_cell_survives_its_document() -> None:
    own = cell("lrp_a2b1(bias=innvestigate)", select="correct", digest="d")
    again = Cell.parse(json.loads(json.dumps(own.document())))
    assert again == own
    assert again.key == own.key
    assert again.folder == own.folder


def test_what_was_not_asked_for_leaves_no_trace() -> None:
    own = cell("rap").identity
    assert {"select", "shuffle"}.isdisjoint(own.document()["dataset"])
    assert "target" not in own.document()
    assert Identity.parse(own.document()) == own
    shuffled = replace(own, dataset=replace(own.dataset, shuffle=True))
    assert shuffled.document()["dataset"]["shuffle"] is True
    labelled = replace(own, target="label")
    assert labelled.document() == own.document() | {"target": "label"}
    assert Identity.parse(labelled.document()) == labelled


def test_rows_tell_the_library_that_a_backend_rests_on() -> None:
    for backend in ("captum", "zennit"):
        experiment = prepare(RunSpec.read(None, {"method": "guided_backprop", "backend": backend, "device": "cpu"}))
        assert experiment.origin[backend] == version(backend)
    assert {"code", "torch", "numpy", "pillow"} <= experiment.origin.keys()


@pytest.mark.parametrize(("method", "matters"), [("rap", True), ("gradient", False)])
def test_rows_tell_the_batch_size_where_rounding_depends_on_it(method: str, matters: bool) -> None:
    options = {"model": "resnet50", "method": method, "batch_size": 3, "device": "cpu"}
    exact, rounded = (prepare(RunSpec.read(None, {**options, "precision": p})) for p in ("auto", "fp32"))
    assert "batch size" not in exact.origin
    assert rounded.origin.get("batch size") == ("3" if matters else None)

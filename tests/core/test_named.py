"""Names with parameters: what is written, what is read back, and what counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from rapbench.core.catalogue import Call, Catalogue, parse_call
from rapbench.core.named import Named, parameters
from rapbench.datasets import DATASETS
from rapbench.methods import METHODS
from rapbench.metrics import METRICS

OTHERS = {"pairs": "3-8 8-3", "annotations": "bbox", "low": "-2.5", "high": "2.5", "digit": "3", "keep": "0.25"} | {
    "threshold": "0.5"
}
"""Values of parameters whose types do not tell which they can be."""

FROM_DISK = {"imagenet", "imagenet_segmentation", "voc", "mnist", "folder", "grid", "coco", "maps"}


def _others(name: str, hint: Any, default: Any) -> Iterator[str]:
    """Values that are no default."""
    if name in OTHERS:
        yield OTHERS[name]
    elif get_origin(hint) is not None and all(isinstance(value, str) for value in get_args(hint)):
        yield from (value for value in get_args(hint) if value != default)
    elif isinstance(default, bool):
        yield str(not default)
    elif isinstance(default, int):
        yield str(default + 1)
    elif isinstance(default, float):
        yield str(default + 1.0)


def _calls(catalogue: Catalogue) -> Iterator[Call]:
    """Every class with each parameter set to something else than its default."""
    for name in catalogue.keys() - FROM_DISK:
        cls = catalogue.load(name)
        hints = get_type_hints(cls)
        for field in fields(cls):
            if field.init and field.name not in {"data_root", "size"} and "selection" not in field.metadata:
                yield from (
                    Call(name, {field.name: text}) for text in _others(field.name, hints[field.name], field.default)
                )


@pytest.mark.parametrize("catalogue", [METHODS, METRICS, DATASETS], ids=lambda c: c.kind)
def test_every_label_can_be_typed(catalogue: Catalogue) -> None:
    calls = [
        call for call in _calls(catalogue) if call.parameters.keys().isdisjoint({"alpha", "beta"})
    ]  # one by the other
    assert len(calls) > 2
    for call in calls:
        named = Named(call.name, catalogue.build(call))
        assert named.label.startswith(f"{call.name}(")
        again = Named(call.name, catalogue.build(parse_call(named.label)))
        assert (again.thing, again.label, parameters(again.thing)) == (
            named.thing,
            named.label,
            parameters(named.thing),
        )


@pytest.fixture
def references(tmp_path: Path) -> list[Path]:
    """Two paths of one content, one of another, all with names that have to be quoted."""
    found = []
    for name, value in (("a, b (1)", 0.5), ("it's", 0.5), ('"c"=\\d', 0.25)):
        (tmp_path / name).mkdir()
        found.append(tmp_path / name / "x0.npy")
        np.save(found[-1], np.full((3, 2, 2), value))
    return found


def test_a_label_names_its_file_and_can_be_typed(references: list[Path]) -> None:
    for path in references:
        named = Named("deeplift", METHODS.build(Call("deeplift", {"reference": str(path)})))
        call = parse_call(named.label)
        assert call == Call("deeplift", {"reference": str(path)})
        assert METHODS.build(call) == named.thing


def test_a_file_counts_by_its_content_wherever_it_lies(references: list[Path]) -> None:
    first, same, other = (
        Named("deeplift", METHODS.build(Call("deeplift", {"reference": str(path)}))) for path in references
    )
    assert first.label != same.label
    assert (first.digest, first.folder) == (same.digest, same.folder)
    assert parameters(first.thing) == parameters(same.thing) == parameters(other.thing)
    assert first.digest != other.digest
    assert first.folder != other.folder
    assert "/" not in first.folder


def test_a_file_in_the_place_of_a_number_is_told_from_the_number(references: list[Path]) -> None:
    plain = Named("deeplift", METHODS.build(Call("deeplift", {})))
    chosen = Named("deeplift", METHODS.build(Call("deeplift", {"reference": str(references[0])})))
    assert (plain.digest, parameters(plain.thing)["reference"]) == (None, 0.0)
    assert parameters(chosen.thing)["reference"] == "file"


def test_a_parameter_that_came_later_counts_only_where_it_is_no_default() -> None:
    own, other = (METHODS.build(parse_call(f"lrp_epsilon(gate={gate})")) for gate in ("signal", "half"))
    assert "gate" not in parameters(own)
    assert parameters(other) == {**parameters(own), "gate": "half"}
    assert Named("lrp_epsilon", other).label == "lrp_epsilon(gate=half)"

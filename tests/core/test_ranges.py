"""Numbers that no parameter may be, held against every method, metric, data set, study and setting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest

from rapbench.backends import CAPTUM, NATIVE, ZENNIT
from rapbench.core.catalogue import Call, Catalogue
from rapbench.core.errors import BadConfig
from rapbench.datasets import DATASETS
from rapbench.metrics import METRICS
from rapbench.run.spec import RunSpec
from rapbench.run.study import STUDIES

CATALOGUES = (NATIVE, CAPTUM, ZENNIT, METRICS, DATASETS, STUDIES)
ABSURD = ("nan", "inf", "-inf", str(10**20), "9" * 5000)


def numeric(hint: object) -> bool:
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return bare in (int, float) or any(map(numeric, get_args(bare)))


def parameters() -> Iterator[tuple[Catalogue, str, str]]:
    for catalogue in CATALOGUES:
        for name in catalogue:
            cls = catalogue.load(name)
            hints = get_type_hints(cls, include_extras=True)
            yield from ((catalogue, name, f.name) for f in fields(cls) if f.init and numeric(hints[f.name]))


def test_every_number_of_every_catalogue_refuses_what_is_absurd() -> None:
    found = [*parameters()]
    assert {key for _, _, key in found} >= {"epsilon", "steps", "noise", "low", "pixels", "seed", "units", "reference"}
    for catalogue, name, key in found:
        paths = {f.name: "." for f in fields(catalogue.load(name)) if f.default is f.default_factory is MISSING}
        for text in ABSURD:
            with pytest.raises(BadConfig, match=f"^[^\n]*{key}[^\n]+$"):
                catalogue.build(Call(name, {key: text, **paths}))


@pytest.mark.parametrize("setting", ["limit", "seed", "batch_size", "readers"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**20, -1, "9" * 5000])
def test_every_number_of_a_run_refuses_what_is_absurd(setting: str, value: object) -> None:
    assert numeric(RunSpec.model_fields[setting].annotation)
    with pytest.raises(BadConfig, match=f"^{setting}: [^\n]+$"):
        RunSpec.read(None, {setting: value})


def test_hundreds_of_readers_are_refused() -> None:
    with pytest.raises(BadConfig, match="readers: Input should be less than or equal to 256"):
        RunSpec.read(None, {"readers": 999})


@pytest.mark.parametrize("name", ["lrp_z_beta", "deep_taylor", "lrp_epsilon_gamma_box"])
def test_a_lower_bound_lies_below_the_upper_one(name: str) -> None:
    with pytest.raises(BadConfig, match="low must be less than high"):
        NATIVE.build(Call(name, {"low": "1", "high": "-1"}))


@pytest.mark.parametrize(
    "text", ["lrp_epsilon epsilon=-1", "lrp_gamma gamma=-1", "smooth_grad noise=-1", "integrated_gradients steps=0"]
)
def test_a_number_outside_its_range_is_refused(text: str) -> None:
    name, _, parameter = text.partition(" ")
    with pytest.raises(BadConfig, match=f"{name}: {parameter}: "):
        NATIVE.build(Call(name, dict([parameter.split("=")])))

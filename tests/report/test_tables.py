"""From rows to printed tables."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from rapbench.metrics import METRICS
from rapbench.report.tables import FIELDS, _number, results, text

ROWS = pd.DataFrame(
    {
        "index": [0, 1, 2],
        "id": ["a", "b", "c"],
        "label": [-1] * 3,
        "target": [0] * 3,
        "num_non_finite": [0] * 3,
        **{f"counts_{t}": [[6, 2, 1, 7]] * 3 for t in ("zero", "mean", "mean_pos", "mean_abs")},
        "num_labelled": [16] * 3,
    }
)
DISPLAY = {
    "dataset": "scenes",
    "model": "vgg16",
    "model_title": "vgg16 (width 1/8)",
    "weights": "scenes",
    "method": "rap",
    "method_title": "RAP",
    "backend": "native",
    "metric": "segmentation",
    "signed": True,
}
IDENTITY = {"metric": {"name": "segmentation", "parameters": {}}, "seed": 0}


def test_a_result_holds_the_promised_fields_and_counts_every_image() -> None:
    found = {r.variant: r for r in results(IDENTITY, DISPLAY, ROWS, {"unreadable image": 2})}
    document = found["pixel_accuracy@zero"].document()
    assert tuple(document) == FIELDS
    assert document["value"] == pytest.approx(100 * 13 / 16)
    assert (document["n"], document["n_dropped"]) == (3, 2)
    assert found["miou@paper"].document()["value"] == pytest.approx(100 * (6 / 9 + 7 / 10) / 2)
    assert json.loads(json.dumps(document)) == document


def test_the_text_shows_headline_variants_intervals_and_reasons() -> None:
    printed = text(results(IDENTITY, DISPLAY, ROWS, {"unreadable image": 2}))
    assert "segmentation on scenes, vgg16 (width 1/8)" in printed
    assert "pixel_accuracy@paper (higher)" in printed
    assert "pixel_accuracy@mean " not in printed
    assert "81.25 [81.25, 81.25]" in printed
    assert "2 unreadable image" in printed


def test_another_backend_is_named_beside_the_method() -> None:
    found = [
        *results(IDENTITY, DISPLAY, ROWS, {}),
        *results(IDENTITY, {**DISPLAY, "backend": "captum"}, ROWS, {}),
    ]
    lines = text(found).splitlines()
    assert [line.split("  ")[0] for line in lines[2:]] == ["rap", "rap [captum]"]


def test_guards_are_printed_last() -> None:
    guards = pd.DataFrame(
        {
            "index": [0],
            "id": ["a"],
            "label": [-1],
            "target": [0],
            "num_non_finite": [0],
            "relevance_sum": [1.0],
            "logit": [2.0],
            "probability": [0.5],
            "constant": [0],
            "tie_share": [0.0],
        }
    )
    identity = {"metric": {"name": "guards", "parameters": {}}, "seed": 0}
    found = results(identity, {**DISPLAY, "metric": "guards"}, guards, {}) + results(IDENTITY, DISPLAY, ROWS, {})
    headers = [block.splitlines()[0].split()[0] for block in text(found).split("\n\n")]
    assert headers == ["segmentation", "guards"]


@pytest.mark.parametrize("name", METRICS)
def test_every_headline_is_a_variant_of_signed_methods(name: str) -> None:
    metric = METRICS.load(name)()
    assert set(metric.headline) <= set(metric.variants(signed=True))


@pytest.mark.parametrize(
    ("value", "printed"),
    [(0.0, "0.000"), (0.2524, "0.252"), (12.345, "12.35"), (1e-7, "1e-07"), (-0.5, "-0.500"), (29536.0, "3e+04")],
)
def test_numbers_are_short(value: float, printed: str) -> None:
    assert _number(value) == printed
    assert math.isclose(float(_number(value)), value, rel_tol=0.05, abs_tol=1e-9)

"""From rows to printed tables."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pandas as pd
import pytest

from rapbench.core.types import Variant
from rapbench.metrics import METRICS
from rapbench.metrics.segmentation import THRESHOLDS, Segmentation
from rapbench.report import tables
from rapbench.report.formats import Format
from rapbench.report.statistics import Estimate
from rapbench.report.tables import FIELDS, Held, document, results, text

ROWS = pd.DataFrame(
    {
        "index": [0, 1, 2],
        "id": ["a", "b", "c"],
        "label": [-1] * 3,
        "target": [0] * 3,
        "num_non_finite": [0] * 3,
        **{f"counts_{t}": [[6, 2, 1, 7, 0, 0]] * 3 for t in THRESHOLDS},
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
            "total": [2.0],
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


def test_numbers_are_computed_when_they_are_looked_at_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []

    def estimates(variants: Mapping[str, Variant], rows: pd.DataFrame, *, seed: int) -> dict[str, Estimate]:
        computed.extend(variants)
        return dict.fromkeys(variants, Estimate(value=1.0, ci_low=None, ci_high=None, n=3, n_dropped=0, dropped={}))

    monkeypatch.setattr(tables, "estimates", estimates)
    found = results(IDENTITY, DISPLAY, ROWS, {})
    assert not computed
    text(found)
    text(found)
    assert computed == list(Segmentation.headline)
    document(found, Format.JSON)
    assert sorted(computed) == sorted(result.variant for result in found)


def test_files_hold_every_variant_and_people_read_the_headline() -> None:
    found = results(IDENTITY, DISPLAY, ROWS, {})
    assert len(document(found, Format.CSV).records) == len(document(found, Format.JSON).records) == len(found)
    for form in (Format.TEXT, Format.MARKDOWN, Format.LATEX):
        (grid,) = document(found, form).grids
        assert len(grid.header) == 1 + len(Segmentation.headline) + 2
        assert not document(found, form).records


def test_a_held_cell_reads_its_rows_when_asked_and_only_once() -> None:
    reads = []

    def read() -> tuple[pd.DataFrame, dict[str, int]]:
        reads.append(1)
        return ROWS, {"unreadable image": 2}

    held = Held(identity=IDENTITY, display=DISPLAY, read=read)
    assert not reads
    assert held.results["miou@paper"].skipped == held.results["miou@zero"].skipped == {"unreadable image": 2}
    assert len(reads) == 1


def test_a_cell_without_rows_has_no_value() -> None:
    (found, *_) = results(IDENTITY, DISPLAY, pd.DataFrame(), {"unreadable image": 2})
    assert found.document()["value"] is None
    assert (found.document()["n"], found.document()["n_dropped"]) == (0, 2)

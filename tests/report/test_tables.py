"""From rows to printed tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from stored import cell, held, ratios

from rapbench.core.types import Variant
from rapbench.metrics import METRICS
from rapbench.metrics.segmentation import THRESHOLDS, Segmentation
from rapbench.report import result
from rapbench.report.formats import Format, rendered
from rapbench.report.result import FIELDS, Scored, results
from rapbench.report.statistics import Estimate
from rapbench.report.tables import document, text
from rapbench.results.store import Held, Rows

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
MEASURED = {"metric": "segmentation", "dataset": "scenes", "weights": "scenes", "title": "vgg16 (width 1/8)"}
CELL = cell("rap", **MEASURED)


def test_a_result_holds_the_promised_fields_and_counts_every_image() -> None:
    found = {r.variant: r for r in results(held(CELL, ROWS, {"unreadable image": 2}))}
    document = found["pixel_accuracy@zero"].document()
    assert tuple(document) == FIELDS
    assert document["value"] == pytest.approx(100 * 13 / 16)
    assert (document["n"], document["n_dropped"]) == (3, 2)
    assert found["miou@paper"].document()["value"] == pytest.approx(100 * (6 / 9 + 7 / 10) / 2)
    assert json.loads(json.dumps(document)) == document


def test_the_text_shows_headline_variants_intervals_and_reasons() -> None:
    printed = text(results(held(CELL, ROWS, {"unreadable image": 2})))
    assert "segmentation on scenes, vgg16 (width 1/8)" in printed
    assert "pixel_accuracy@paper (higher)" in printed
    assert "pixel_accuracy@mean " not in printed
    assert "81.25 [81.25, 81.25]" in printed
    assert "2 unreadable image" in printed


def test_another_backend_is_named_beside_the_method() -> None:
    found = [
        *results(held(CELL, ROWS)),
        *results(
            held(
                cell(
                    "rap",
                    metric="segmentation",
                    dataset="scenes",
                    weights="scenes",
                    title="vgg16 (width 1/8)",
                    backend="captum",
                ),
                ROWS,
            )
        ),
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
    found = results(held(cell("rap", **{**MEASURED, "metric": "guards"}), guards)) + results(held(CELL, ROWS))
    headers = [block.splitlines()[0].split()[0] for block in text(found).split("\n\n")]
    assert headers == ["segmentation", "guards"]


@pytest.mark.parametrize("name", METRICS)
def test_every_headline_is_a_variant_of_signed_methods(name: str) -> None:
    metric = METRICS.load(name)()
    assert set(metric.headline) <= set(metric.variants(signed=True))


def test_numbers_are_computed_when_they_are_looked_at_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []

    def estimates(variants: Mapping[str, Variant], samples: object, *, seed: int) -> dict[str, Estimate]:
        computed.extend(variants)
        return dict.fromkeys(variants, Estimate(value=1.0, ci_low=None, ci_high=None, n=3, n_dropped=0, dropped={}))

    monkeypatch.setattr(result, "estimates_of", estimates)
    found = results(held(CELL, ROWS))
    assert not computed
    text(found)
    text(found)
    assert computed == list(Segmentation.headline)
    document(found, Format.JSON)
    assert sorted(computed) == sorted(result.variant for result in found)


def test_files_hold_every_variant_and_people_read_the_headline() -> None:
    found = results(held(CELL, ROWS))
    assert len(document(found, Format.CSV).records) == len(document(found, Format.JSON).records) == len(found)
    for form in (Format.TEXT, Format.MARKDOWN, Format.LATEX):
        (grid,) = document(found, form).grids
        assert len(grid.header) == 1 + len(Segmentation.headline) + 2
        assert not document(found, form).records


def test_a_held_cell_reads_its_rows_when_asked_and_only_once() -> None:
    reads = []

    def read() -> Rows:
        reads.append(1)
        return held(CELL, ROWS, {"unreadable image": 2}).rows

    one = Scored(held=Held(cell=CELL, read=read))
    assert not reads
    assert one.results["miou@paper"].skipped == one.results["miou@zero"].skipped == {"unreadable image": 2}
    assert len(reads) == 1


def test_a_cell_without_rows_has_no_value() -> None:
    (found, *_) = results(held(CELL, pd.DataFrame(), {"unreadable image": 2}))
    assert found.document()["value"] is None
    assert (found.document()["n"], found.document()["n_dropped"]) == (0, 2)


@pytest.mark.parametrize(
    ("apart", "told"),
    [
        ({"seed": 1}, "seed 1"),
        ({"precision": "fp64"}, "precision fp64"),
        ({"device": "cuda"}, "device cuda"),
        ({"select": "correct"}, "select correct"),
        ({"rapbench": "2"}, "rapbench 2"),
        ({"parameters": {"stream": "train"}}, "stream train"),
    ],
    ids=str,
)
def test_runs_that_differ_in_anything_have_tables_of_their_own_that_say_so(apart: dict[str, Any], told: str) -> None:
    """Two seeds in one folder printed as one row, whichever came last."""
    both = [cell("rap", **{"parameters": {"stream": "val"}, **other}) for other in ({}, apart)]
    found = [result for own in both for result in results(held(own, ratios([0.5, 0.6])))]
    for form in (Format.TEXT, Format.MARKDOWN, Format.LATEX):
        first, second = document(found, form).grids
        assert second.title.endswith(told)
        assert first.title != second.title
        assert [row[0] for grid in (first, second) for row in grid.rows] == ["rap", "rap"]
    for form in (Format.CSV, Format.JSON):
        records = document(found, form).records
        assert len(records) == len(found)
        assert all({"seed", "precision", "device", "select"} <= set(record) for record in records)


def test_two_files_behind_one_label_are_two_rows_that_say_so() -> None:
    both = [cell("rap", digest=digest) for digest in ("a" * 64, "b" * 64)]
    (grid,) = document([r for own in both for r in results(held(own, ratios([0.5])))], Format.TEXT).grids
    assert [row[0] for row in grid.rows] == [f"rap [file {'a' * 16}]", f"rap [file {'b' * 16}]"]


@pytest.mark.parametrize("form", Format)
def test_a_table_of_a_run_that_has_not_ended_gives_both_numbers(form: Format) -> None:
    asked = replace(CELL, limit=40)
    shown = rendered(document(results(held(asked, ROWS, {"unreadable image": 2})), form), form)
    if form in {Format.CSV, Format.JSON}:
        records = json.loads(shown)["results"] if form is Format.JSON else csv.DictReader(io.StringIO(shown))
        assert {(int(r["n"]), int(r["n_dropped"]), int(r["n_missing"])) for r in records} == {(3, 2, 35)}
    else:
        assert "3 of 40" in shown
        assert "35 of 40 images are not computed yet" in " ".join(shown.split())


def test_a_table_whose_rows_come_from_several_says_so() -> None:
    def computed_by(*versions: str) -> Held:
        return Held(cell=CELL, read=lambda: Rows(ROWS, (), tuple({"torch": v, "device": "x86_64"} for v in versions)))

    assert "computed by" not in text(results(computed_by("2.11.0")))
    both = results(computed_by("2.11.0", "2.14.1"))
    assert "computed by torch 2.11.0, device x86_64 | torch 2.14.1, device x86_64" in text(both)
    assert {r.document()["origin"] for r in both} == {"torch 2.11.0, device x86_64 | torch 2.14.1, device x86_64"}


def test_what_a_label_does_not_tell_is_in_every_record() -> None:
    keys = {r.document()["key"] for seed in (0, 1) for r in results(held(cell("rap", seed=seed), ratios([1.0])))}
    assert len(keys) == 2

"""Numbers against a baseline: what agrees, what differs and how, and what an update writes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

import pytest
from stored import cell

from rapbench.core.catalogue import split_calls
from rapbench.core.errors import BadConfig, DataMissing
from rapbench.methods import METHODS
from rapbench.metrics import METRICS
from rapbench.report.baseline import TOLERANCES, Baseline, Number, Tolerance, document
from rapbench.report.formats import Format, rendered
from rapbench.report.result import Result, measured_on
from rapbench.results.cell import Cell

TENTH = (Tolerance(absolute=0.1, reason="a test"),)


@dataclass(frozen=True)
class Measured:
    """What a baseline asks of a result."""

    value: float | None
    n: int = 4
    n_dropped: int = 0
    method: str = "rap"
    metric: str = "outside_inside"
    variant: str = "all"
    direction: str = "lower"
    headline: int | None = 0
    backend: str = "native"

    @property
    def cell(self) -> Cell:
        return cell(self.method, metric=self.metric, dataset="scenes", weights="scenes", backend=self.backend)

    def document(self) -> dict[str, Any]:
        return {**asdict(self), **measured_on(self.cell), "method": self.method, "metric": self.metric}


def result(value: float | None, **changes: Any) -> Result:
    return cast(Result, Measured(value, **changes))


def baseline(*found: Result, **settings: object) -> Baseline:
    """The baseline that holds these results."""
    empty = Baseline.model_validate({"spec": {}, "tolerances": TENTH, **settings})
    return empty.updated(empty.compared(found))


def verdict(before: Result, now: Result) -> str:
    (comparison,) = baseline(before).compared([now])
    return comparison.verdict


@pytest.mark.parametrize(
    ("before", "now", "direction", "expected"),
    [
        (1.0, 1.0, "lower", "agrees"),
        (1.0, 1.09, "lower", "agrees"),
        (1.0, 0.91, "higher", "agrees"),
        (1.0, 1.11, "lower", "worse"),
        (1.0, 0.89, "lower", "better"),
        (1.0, 1.11, "higher", "better"),
        (1.0, 0.89, "higher", "worse"),
    ],
)
def test_a_drift_beyond_the_tolerance_differs_in_either_direction(
    before: float, now: float, direction: str, expected: str
) -> None:
    assert verdict(result(before, direction=direction), result(now, direction=direction)) == expected


def test_no_value_agrees_with_no_value_only() -> None:
    assert verdict(result(None), result(None)) == "agrees"
    assert Baseline(spec={}, numbers=(Number(*[""] * 7, math.nan, 1, 0),)).numbers[0].value is None
    none, some = Number(*[""] * 7, None, 4, 0), Number(*[""] * 7, 1.0, 4, 0)
    for before, now, expected in ((none, some, "defined"), (some, none, "undefined")):
        (comparison,) = baseline(result(1.0)).compared([result(1.0)])
        changed = type(comparison)(expected=before, found=now, allowed=9.0, direction="lower")
        assert changed.verdict == expected
        assert changed.difference is None


@pytest.mark.parametrize("now", [{"n": 3}, {"n_dropped": 1}, {"n": 3, "n_dropped": 1}])
def test_the_same_value_from_other_images_differs(now: dict[str, int]) -> None:
    assert verdict(result(1.0), result(1.0, **now)) == "other images"


def test_what_only_one_side_has_differs() -> None:
    agreed = baseline(result(1.0), result(2.0, method="random"))
    found = agreed.compared([result(1.0), result(3.0, method="center")])
    assert [(c.verdict, c.row()[2]) for c in found] == [("agrees", "rap"), ("missing", "random"), ("new", "center")]


def test_the_first_tolerance_that_covers_a_number_holds_and_is_relative_to_the_baseline() -> None:
    tolerances = (
        Tolerance(metric="perturbation", variant="miou@*", absolute=1.0, reason="a test"),
        Tolerance(metric="perturbation", relative=0.5, absolute=0.25, reason="a test"),
    )

    def allowed(metric: str, variant: str) -> float:
        found = result(-2.0, metric=metric, variant=variant)
        (comparison,) = baseline(found, tolerances=tolerances).compared([found])
        return comparison.allowed

    assert allowed("perturbation", "miou@paper") == 1.0
    assert allowed("perturbation(steps=3)", "miou@paper") == 1.0
    assert allowed("perturbation", "fg_iou@paper") == 1.25
    assert allowed("guards", "ties") == 0.0


def test_a_tolerance_may_be_for_some_methods_of_some_networks() -> None:
    tolerance = Tolerance(model="*resne*", method="rap, lrp_*", absolute=1.0, reason="a test")

    def covers(model: str, method: str) -> bool:
        return tolerance.covers(Number("scenes", model, "scenes", method, "native", "guards", "ties", 1.0, 1, 0))

    assert covers("resnet50", "rap")
    assert covers("wide_resnet50_2", "lrp_a1b0(bias=signed)")
    assert not covers("vgg16", "rap")
    assert not covers("resnet50", "gradient")


def test_every_default_tolerance_is_reached_and_gives_a_reason() -> None:
    numbers = [
        Number("scenes", model, "scenes", "rap(first_rule=x)", "native", metric, variant, 1.0, 1, 0)
        for model in ("vgg16", "resnet50")
        for metric, variant in (
            *(("outside_inside", "all_median"), ("segmentation", "miou@paper"), ("guards", "ties")),
            *(("perturbation(steps=10)", "lerf_aopc_accuracy"), ("perturbation", "lerf_aopc_probability")),
            *(("guards", "residual"), ("outside_inside", "all")),
        )
    ]
    first = [next(tolerance for tolerance in TOLERANCES if tolerance.covers(number)) for number in numbers]
    assert set(first) == set(TOLERANCES)
    assert all(tolerance.reason for tolerance in TOLERANCES)
    assert all(tolerance.relative or tolerance.absolute for tolerance in TOLERANCES)


def test_headline_variants_are_compared_unless_the_file_lists_others() -> None:
    found = [
        result(1.0, variant="all"),
        result(1.0, variant="pos", headline=None),
        result(1.0, metric="guards", variant="ties"),
        result(1.0, metric="guards", variant="constant", headline=None),
    ]
    listed = baseline(*found, variants={"outside_inside": ["pos"]})
    assert [number.variant for number in listed.numbers] == ["pos", "ties"]


def test_a_listed_variant_that_no_run_gives_is_an_error_with_the_nearest() -> None:
    with pytest.raises(BadConfig, match="no outside_inside 'pso': did you mean pos"):
        baseline(result(1.0, variant="pos"), variants={"outside_inside": ["pso"]})


def test_an_update_takes_what_differs_and_leaves_what_agrees() -> None:
    agreed = baseline(result(1.0), result(1.0, method="random"), result(1.0, method="edge"))
    comparisons = agreed.compared([result(1.05), result(5.0, method="random"), result(7.0, method="center")])
    values = {number.method: number.value for number in agreed.updated(comparisons).numbers}
    assert values == {"rap": 1.0, "random": 5.0, "center": 7.0}


def test_a_file_is_read_as_it_was_written_with_a_number_a_line(tmp_path: Path) -> None:
    agreed = baseline(result(1 / 3), result(None, method="all_background"), variants={"guards": []})
    file = tmp_path / "baseline.json"
    file.write_text(agreed.text())
    assert Baseline.read(file) == agreed
    assert Baseline.read(file).text() == agreed.text()
    assert agreed.text().splitlines()[-4].strip() == (
        '["scenes", "vgg16", "scenes", "rap", "native", "outside_inside", "all", 0.333333, 4, 0],'
    )


def test_a_file_with_nothing_but_a_spec_gets_the_default_tolerances(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    file.write_text('{"spec": {"limit": 2}}')
    assert Baseline.read(file).tolerances == TOLERANCES
    assert Baseline.read(file).numbers == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "baseline.json: "),
        ("[]", "baseline.json: "),
        ("{}", "spec: Field required"),
        ('{"spec": {}, "tolerance": []}', "tolerance: Extra inputs"),
        ('{"spec": {}, "numbers": [["scenes"]]}', "numbers.0.1: Field required"),
        ('{"spec": {}, "columns": ["value"]}', "columns: .* must be dataset, model"),
        ('{"spec": {}, "tolerances": [{"absolute": -1, "reason": ""}]}', "tolerances.0.absolute"),
        ('{"spec": {}, "tolerances": [{"absolute": 1}]}', "tolerances.0.reason"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_file_that_is_no_baseline_says_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "baseline.json"
    file.write_text(content)
    with pytest.raises(BadConfig, match=message):
        Baseline.read(file)


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="holds a spec, then --update"):
        Baseline.read(tmp_path / "none.json")


def test_two_runs_of_one_number_are_an_error() -> None:
    with pytest.raises(BadConfig, match="two numbers for scenes vgg16 scenes rap native outside_inside all"):
        baseline(result(1.0), result(2.0))


def test_only_what_differs_is_shown_with_a_line_on_all() -> None:
    agreed = baseline(result(1.0), result(2.0, method="random"), result(None, method="edge"))
    comparisons = agreed.compared([result(1.5), result(2.0, method="random"), result(None, method="edge")])
    lines = rendered(document(comparisons, remark="; a hint"), Format.TEXT).splitlines()
    assert lines[-1] == "3 numbers compared: 1 differ (1 worse); a hint"
    (row,) = [line for line in lines if "vgg16" in line]
    assert " ".join(row.split()) == "scenes vgg16 (scenes) rap outside_inside all 1 1.5 0.5 0.1 4 of 4 worse"
    assert "| rap | outside\\_inside | all | 1 | 1.5 |" in rendered(document(comparisons), Format.MARKDOWN)
    assert (
        sum("vgg16" in line for line in rendered(document(comparisons, everything=True), Format.TEXT).splitlines()) == 3
    )


def test_agreement_is_one_line() -> None:
    agreed = baseline(result(1.0))
    assert rendered(document(agreed.compared([result(1.0)])), Format.TEXT) == "1 numbers compared: all agree"


def test_files_hold_both_sides_in_full() -> None:
    agreed = baseline(result(1.0, method="rap"), result(1.0, method="edge"))
    printed = json.loads(rendered(document(agreed.compared([result(1.5, n=3)])), Format.JSON))
    assert (printed["agree"], printed["compared"]) == (False, 2)
    changed, gone = printed["results"]
    assert (changed["value"], changed["n"], changed["expected_value"], changed["expected_n"]) == (1.5, 3, 1.0, 4)
    assert (changed["verdict"], gone["verdict"], gone["value"]) == ("other images", "missing", None)
    assert rendered(document(agreed.compared([])), Format.CSV).count("missing") == 2


BASELINES = Path(__file__).parents[2] / "results/baselines"


def test_the_committed_baseline_holds_every_native_method_that_needs_no_file() -> None:
    agreed = Baseline.read(BASELINES / "scenes.json")
    named = {call.name for part in agreed.spec["part"] for call in split_calls(part["method"])}
    needs_file = {"maps"} | {
        name for name in METHODS if any(field.name == "patterns" for field in fields(METHODS.load(name)))
    }
    assert named == set(METHODS) - needs_file
    assert {number.model for number in agreed.numbers} == {"vgg16", "resnet50", "vit_b_16"}
    assert {number.method.partition("(")[0] for number in agreed.numbers} == named


def test_the_committed_baselines_hold_every_metric_of_one_image_at_a_time() -> None:
    read = [Baseline.read(BASELINES / name) for name in ("scenes.json", "metrics.json")]
    assert {number.metric.partition("(")[0] for agreed in read for number in agreed.numbers} == set(METRICS) - {
        *("degradation", "digit_conversion", "grid_pointing"),  # a paper's, of other data sets
        "randomisation",  # which explains again for every layer
    }

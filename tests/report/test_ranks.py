"""Ranks over metrics: restatements by a walk over resamples, and the laws of ranks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from stored import cell, held, masks, ratios

from rapbench.report.agreement import kendall_w
from rapbench.report.formats import Format, rendered
from rapbench.report.paired import resamples_for
from rapbench.report.rank_tables import FIELDS, document
from rapbench.report.ranks import Ranks, ranks
from rapbench.report.result import Result, results

RNG = np.random.default_rng(0)
N = 30
RATIOS = {name: RNG.gamma(2, 1, N) + shift for name, shift in (("rap", 0), ("lrp_a2b1", 0.4), ("grad_cam", 0.5))}
COUNTS = {name: RNG.multinomial(16, [0.4, 0.2, 0.1, 0.3], N) for name in RATIOS}
METHODS = tuple(RATIOS)


def measured(name: str, ratio: Sequence[float], counts: Any = None, start: int = 0) -> list[Result]:
    """A method's numbers by the ratio outside-inside, and by segmentation where there are counts."""
    found = results(held(cell(name), ratios(list(ratio), start)))
    if counts is not None:
        rows = masks(**{t: [list(map(int, c)) for c in counts] for t in ("zero", "mean")})
        found += results(held(cell(name, metric="segmentation"), rows))
    return found


@pytest.fixture(scope="module")
def found() -> list[Result]:
    return [r for name in METHODS for r in measured(name, RATIOS[name], COUNTS[name])]


@pytest.fixture(scope="module")
def ranked(found: list[Result]) -> Ranks:
    result = ranks(found)
    assert result is not None
    return result


def numbers(draw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How bad methods are by the two criteria of the ratio that count, and by the three of segmentation."""
    of_ratios = [[np.mean(RATIOS[m][draw]), np.median(RATIOS[m][draw])] for m in METHODS]
    scores = []
    for m in METHODS:
        tp, fp, fn, tn = COUNTS[m][draw].sum(axis=0)
        iou, background = tp / (tp + fp + fn), tn / (tn + fp + fn)
        scores.append([-(tp + tn) / (tp + fp + fn + tn), -(iou + background) / 2, -iou])
    return np.array(of_ratios).T, np.array(scores).T


def walked(draw: np.ndarray) -> np.ndarray:
    """Ranks by the two metrics: those of the mean ranks over each metric's criteria."""
    return np.array([stats.rankdata(stats.rankdata(one, axis=1).mean(axis=0)) for one in numbers(draw)])


def test_mean_ranks_shares_and_agreement_are_a_walk_over_resampled_images(ranked: Ranks) -> None:
    now = walked(np.arange(N))
    draws = np.random.default_rng((0, N)).integers(N, size=(resamples_for(3), N))
    ids = sorted(f"image-{i}" for i in range(N))
    places = np.array([int(name.removeprefix("image-")) for name in ids])
    drawn = np.array([walked(places[draw]) for draw in draws])
    assert ranked.resamples == len(draws)
    for j, name in enumerate(METHODS):
        mean = ranked.overall[name]
        assert mean.value == now[:, j].mean()
        assert [mean.ci_low, mean.ci_high] == pytest.approx(np.percentile(drawn[:, :, j].mean(axis=1), [2.5, 97.5]))
        for g, metric in enumerate(("outside_inside", "segmentation")):
            place = ranked.of_metrics[metric][name]
            assert place.value == now[g, j]
            assert [place.ci_low, place.ci_high] == pytest.approx(np.percentile(drawn[:, g, j], [2.5, 97.5]))
    means = drawn.mean(axis=1)
    lowest = means == means.min(axis=1, keepdims=True)
    shares = (lowest / lowest.sum(axis=1, keepdims=True)).mean(axis=0)
    assert [ranked.first[name] for name in METHODS] == pytest.approx(shares)
    tau = ranked.agreement.tau_b["outside_inside", "segmentation"]
    assert tau.value == pytest.approx(stats.kendalltau(*now).statistic)
    assert ranked.agreement.w is not None
    assert ranked.agreement.w.value == pytest.approx(kendall_w(now))


def test_the_values_of_criteria_are_those_of_tables(found: list[Result], ranked: Ranks) -> None:
    tabled = {(r.cell.method, r.cell.metric, r.variant): r.estimate.value for r in found}
    for criterion in ranked.criteria:
        for name, value in criterion.values.items():  # noqa: PD011
            assert value == pytest.approx(tabled[name, criterion.metric, criterion.variant], rel=1e-12)


def test_a_variant_that_one_method_lacks_is_said_and_counts_for_nothing(ranked: Ranks) -> None:
    lacking = {one.variant: one.lacking for one in ranked.criteria if not one.counts}
    assert lacking == {"all": ("grad_cam",), "all_median": ("grad_cam",)}
    shown = rendered(document(ranked), Format.TEXT)
    assert "all does not count: no value of grad_cam" in shown
    (of_all,) = [one for one in ranked.criteria if one.variant == "all"]
    assert of_all.places.keys() == {"rap", "lrp_a2b1"}


def test_shares_of_methods_sum_to_one(ranked: Ranks) -> None:
    assert sum(ranked.first.values()) == pytest.approx(1)


def test_the_order_of_methods_does_not_matter(found: list[Result], ranked: Ranks) -> None:
    backwards = ranks([r for name in reversed(METHODS) for r in found if r.cell.method == name])
    assert backwards is not None
    assert backwards.overall == ranked.overall
    assert backwards.first == ranked.first
    assert backwards.agreement == ranked.agreement
    assert [one.places for one in backwards.criteria] == [one.places for one in ranked.criteria]
    told = [[one.separation.letters for one in r.criteria if one.separation] for r in (ranked, backwards)]
    assert told[0] == told[1]


@pytest.mark.parametrize("images", [N, 7])
def test_controls_stand_apart_and_move_no_method(found: list[Result], ranked: Ranks, images: int) -> None:
    controls = [*measured("center", np.zeros(images)), *measured("random", np.full(N, 99.0), COUNTS["rap"])]
    both = ranks([*controls, *found])
    assert both is not None
    assert (both.methods, both.controls) == (ranked.methods, ("random", "center"))
    assert {name: place.value for name, place in both.overall.items() if name in METHODS} == {
        name: place.value for name, place in ranked.overall.items()
    }
    assert [one.n for one in both.criteria] == [one.n for one in ranked.criteria]
    assert both.of_metrics["outside_inside"]["center"].value == 0.5
    assert both.of_metrics["outside_inside"]["random"].value == 3.5
    assert "center" not in both.overall
    assert sum(both.first[name] for name in METHODS) == pytest.approx(1)
    assert document(both).grids[1].title == "controls"


def test_a_control_ahead_of_all_takes_nothing_from_the_shares_of_methods(found: list[Result], ranked: Ranks) -> None:
    both = ranks([*found, *measured("center", np.zeros(N), [[8, 0, 0, 8]] * N)])
    assert both is not None
    assert both.overall["center"].value == 0.5
    assert both.first == {**ranked.first, "center": 1}


def test_methods_of_the_same_maps_share_ranks_shares_and_letters(found: list[Result]) -> None:
    twin = measured("lrp_epsilon", RATIOS["rap"], COUNTS["rap"])
    both = ranks([*found, *twin])
    assert both is not None
    assert both.overall["rap"] == both.overall["lrp_epsilon"]
    assert both.first["rap"] == both.first["lrp_epsilon"]
    for criterion in both.criteria:
        assert criterion.separation is not None
        assert criterion.separation.letters["rap"] == criterion.separation.letters["lrp_epsilon"]


def test_methods_are_compared_on_the_images_that_all_have() -> None:
    late = [*measured("rap", 1 + RNG.random(20), start=10), *measured("lrp_a2b1", [9.0] * 10 + [0.5] * 20)]
    result = ranks(late)
    assert result is not None
    assert {one.n for one in result.criteria} == {20}
    assert result.methods[0] == "lrp_a2b1"


def test_metrics_of_fewer_images_are_resampled_with_the_others() -> None:
    """A resample without an image of the smaller metric is left out, and how many are is said."""
    few = [r for name in METHODS for r in measured(name, RATIOS[name], COUNTS[name][:2])]
    result = ranks(few)
    assert result is not None
    assert result.n == N
    expected = (1 - 2 / N) ** N
    assert result.lost / result.resamples == pytest.approx(expected, abs=0.03)
    assert f"; {result.lost} of them hold no value" in document(result).remarks[0]
    assert all(place.ci_low is not None for place in result.overall.values())


def test_without_a_variant_that_all_have_there_is_no_mean_rank() -> None:
    apart = [
        *measured("rap", RATIOS["rap"]),
        *results(held(cell("grad_cam", metric="segmentation"), masks(zero=[[1, 2, 3, 4]]))),
    ]
    rows = masks(zero=[[1, 2, 3, 4]] * 3)
    apart += results(held(cell("lrp_a2b1", metric="segmentation"), rows))
    result = ranks(apart)
    assert result is not None
    assert (result.overall, result.first, result.agreement.w) == ({}, {}, None)
    assert "No mean rank" in rendered(document(result), Format.TEXT)


def test_nothing_is_ranked_with_fewer_than_two_methods() -> None:
    assert ranks([]) is None
    assert ranks([*measured("rap", RATIOS["rap"]), *measured("random", RATIOS["rap"])]) is None


def test_guards_rank_nobody(found: list[Result], ranked: Ranks) -> None:
    columns = ("label", "target", "num_non_finite", "relevance_sum", "total", "logit", "probability", "constant")
    rows = pd.DataFrame(
        {"index": [0, 1], "id": ["image-0", "image-1"], **dict.fromkeys(columns, 1.0), "tie_share": 0.5}
    )
    guards = [r for name in METHODS for r in results(held(cell(name, metric="guards"), rows))]
    assert ranks([*guards, *found]) == ranked


def test_records_hold_every_rank_once_with_the_same_fields(ranked: Ranks) -> None:
    shown = document(ranked)
    assert {tuple(record) for record in shown.records} == {FIELDS}
    keys = [(record["method"], record["metric"], record["variant"]) for record in shown.records]
    assert len(set(keys)) == len(keys) == 3 * (1 + 2 + len(ranked.criteria))
    loaded = json.loads(rendered(shown, Format.JSON))
    assert loaded["ranks"]["kendall_w"]["value"] == ranked.agreement.w.value  # type: ignore[union-attr]
    assert {pair["alike"] for pair in loaded["ranks"]["pairs"]} <= {True, False}
    rows = list(csv.DictReader(io.StringIO(rendered(shown, Format.CSV))))
    assert [float(row["rank"]) for row in rows[:3]] == [ranked.overall[name].value for name in ranked.methods]


@pytest.mark.parametrize("form", [Format.TEXT, Format.MARKDOWN, Format.LATEX])
def test_people_read_the_same_cells_in_every_format(ranked: Ranks, form: Format) -> None:
    shown = rendered(document(ranked), form)
    assert all(f"{ranked.overall[name].value:.2f}" in shown for name in METHODS)


@pytest.mark.slow
def test_ten_thousand_images_of_eleven_methods_take_seconds() -> None:
    import time

    names = ("rap", "lrp_a2b1", "lrp_epsilon", "gradient", "input_gradient", "guided_backprop", "grad_cam", "deconvnet")
    counts = RNG.integers(1, 9, (10_000, 4))
    many = [r for name in (*names, "random", "center", "edge") for r in measured(name, RNG.gamma(2, 1, 10_000), counts)]
    started = time.process_time()
    assert ranks(many) is not None
    assert time.process_time() - started < 60

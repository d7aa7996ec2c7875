"""Estimates: aggregation, drops, and what a bootstrap interval must do."""

import time

import numpy as np
import pandas as pd
import pytest

from rapbench.core.types import Variant
from rapbench.report.statistics import estimate

MEAN = Variant(direction="lower", statistics=lambda rows: rows[["a"]].to_numpy(), undefined={})
MEDIAN = Variant(direction="lower", statistics=lambda rows: rows[["a"]].to_numpy(), average="median", undefined={})
RATIO = Variant(
    direction="lower",
    statistics=lambda rows: rows[["a", "b"]].to_numpy(),
    value=lambda means: means[..., 0] / means[..., 1],
    undefined={
        "a above 2": lambda rows: (rows["a"] > 2).to_numpy(),
        "b above 1": lambda rows: (rows["b"] > 1).to_numpy(),
    },
)


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"a": rng.normal(size=n), "b": 3 + rng.normal(size=n)})


def test_the_value_is_the_mean_the_median_or_a_ratio_of_means():
    frame = rows(101)
    ratio = Variant(direction="lower", statistics=RATIO.statistics, value=RATIO.value, undefined={})
    assert estimate(MEAN, frame, seed=0).value == pytest.approx(frame["a"].mean())
    assert estimate(MEDIAN, frame, seed=0).value == frame["a"].median()
    assert estimate(ratio, frame, seed=0).value == pytest.approx(frame["a"].mean() / frame["b"].mean())


@pytest.mark.parametrize("variant", [MEAN, MEDIAN])
def test_the_interval_is_that_of_a_plain_bootstrap(variant):
    frame = rows(300)
    result = estimate(variant, frame, seed=0, resamples=4000)
    rng = np.random.default_rng(99)
    average = np.median if variant.average == "median" else np.mean
    plain = [average(rng.choice(frame["a"], 300)) for _ in range(4000)]
    assert [result.ci_low, result.ci_high] == pytest.approx(np.percentile(plain, [2.5, 97.5]), abs=0.015)
    assert result.ci_low < result.value < result.ci_high


def test_intervals_cover_the_true_mean_of_normal_data_19_times_in_20():
    hits = 0
    for seed in range(400):
        result = estimate(MEAN, rows(60, seed), seed=seed, resamples=300)
        hits += result.ci_low <= 0 <= result.ci_high
    assert 0.91 <= hits / 400 <= 0.98


@pytest.mark.parametrize("variant", [MEAN, MEDIAN])
def test_the_same_seed_gives_the_same_interval_and_another_seed_another(variant):
    frame = rows(50)
    assert estimate(variant, frame, seed=3) == estimate(variant, frame, seed=3)
    assert estimate(variant, frame, seed=3).ci_low != estimate(variant, frame, seed=4).ci_low


def test_methods_over_the_same_number_of_images_share_their_draws():
    frame = rows(50)
    shifted = frame + 1
    one, other = estimate(MEAN, frame, seed=0), estimate(MEAN, shifted, seed=0)
    assert [other.ci_low - one.ci_low, other.ci_high - one.ci_high] == pytest.approx([1, 1])


def test_each_dropped_image_counts_once_under_the_first_reason_that_holds():
    frame = pd.DataFrame({"a": [3.0, 0.1, 0.2, np.nan, 0.3], "b": [5.0, 4.0, 0.5, 0.5, 1.0]})
    result = estimate(RATIO, frame, seed=0)
    assert result.dropped == {"a above 2": 1, "b above 1": 1, "undefined": 1}
    assert (result.n, result.n_dropped) == (2, 3)
    assert result.value == pytest.approx(0.25 / 0.75)


def test_a_reason_that_drops_nothing_is_not_listed():
    assert estimate(RATIO, pd.DataFrame({"a": [1.0], "b": [1.0]}), seed=0).dropped == {}


def test_an_infinite_statistic_is_dropped_as_undefined():
    result = estimate(MEAN, pd.DataFrame({"a": [1.0, np.inf, -np.inf]}), seed=0)
    assert (result.value, result.dropped) == (1, {"undefined": 2})


def test_without_images_there_is_no_value():
    for frame in (rows(0), pd.DataFrame({"a": [9.0], "b": [1.0]})):
        result = estimate(RATIO, frame, seed=0)
        assert (result.value, result.ci_low, result.ci_high, result.n) == (None, None, None, 0)
        assert result.n_dropped == len(frame)


def test_one_image_has_a_value_and_no_interval():
    result = estimate(MEDIAN, pd.DataFrame({"a": [4.0]}), seed=0)
    assert (result.value, result.ci_low, result.ci_high, result.n) == (4, None, None, 1)


def test_a_ratio_without_a_denominator_has_no_value_and_no_warning():
    result = estimate(RATIO, pd.DataFrame({"a": [0.0, 1.0], "b": [0.0, 0.0]}), seed=0)
    assert (result.value, result.ci_low, result.ci_high, result.n) == (None, None, None, 2)


def test_an_interval_with_an_infinite_end_is_none():
    result = estimate(RATIO, pd.DataFrame({"a": [1.0, 1.0], "b": [0.0, 1.0]}), seed=0)
    assert (result.value, result.ci_low, result.ci_high) == (2, None, None)


def test_ten_thousand_images_take_seconds_not_minutes():
    start = time.perf_counter()
    for variant in (MEAN, MEDIAN):
        estimate(variant, rows(10_000), seed=0)
    assert time.perf_counter() - start < 10

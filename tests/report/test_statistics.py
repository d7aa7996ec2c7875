"""Estimates: aggregation, drops, and what a bootstrap interval must do."""

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from rapbench.core.types import Variant
from rapbench.metrics.segmentation import THRESHOLDS, Segmentation
from rapbench.report import statistics
from rapbench.report.statistics import estimate, estimates

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


@pytest.mark.parametrize("n", [2, 3, 40, 41])
@pytest.mark.parametrize("variant", [MEAN, MEDIAN])
def test_the_interval_is_that_of_a_walk_over_the_same_draws(variant, n):
    values = np.random.default_rng(n).integers(6, size=n) / 7  # many ties
    draws = np.random.default_rng((5, n)).integers(n, size=(200, n))
    average = np.median if variant.average == "median" else np.mean
    expected = np.percentile([average(values[draw]) for draw in draws], [2.5, 97.5])
    result = estimate(variant, pd.DataFrame({"a": values}), seed=5, resamples=200)
    assert [result.ci_low, result.ci_high] == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_a_ratios_interval_is_that_of_a_walk_over_the_same_draws():
    frame, plain = rows(50), Variant(direction="lower", statistics=RATIO.statistics, value=RATIO.value, undefined={})
    draws = np.random.default_rng((5, 50)).integers(50, size=(200, 50))
    ratios = [frame["a"].iloc[draw].mean() / frame["b"].iloc[draw].mean() for draw in draws]
    result = estimate(plain, frame, seed=5, resamples=200)
    assert [result.ci_low, result.ci_high] == pytest.approx(np.percentile(ratios, [2.5, 97.5]), rel=1e-12)


@pytest.mark.parametrize("variant", [MEAN, MEDIAN])
@pytest.mark.parametrize("value", [0.1, 1 / 3, -1e-30, 12345.678])
def test_equal_values_have_an_interval_of_no_width(variant, value):
    result = estimate(variant, pd.DataFrame({"a": [value] * 37}), seed=0)
    assert result.ci_low == result.value == result.ci_high == value


def test_many_variants_at_once_are_what_each_is_alone():
    frame = rows(101)
    frame.loc[7, "a"] = np.nan
    variants = {"mean": MEAN, "median": MEDIAN, "ratio": RATIO, "again": MEAN}
    together = estimates(variants, frame, seed=3)
    assert list(together) == list(variants)
    for name, variant in variants.items():
        alone, shared = (vars(found) for found in (estimate(variant, frame, seed=3), together[name]))
        assert alone["dropped"] == shared["dropped"]
        assert [alone[key] for key in alone if key != "dropped"] == pytest.approx(
            [shared[key] for key in alone if key != "dropped"], rel=1e-12
        )
    assert len({found.n for found in together.values()}) == 2


def test_what_variants_share_is_read_once():
    reads = []

    def read(frame):
        reads.append(len(frame))
        return frame[["a"]].to_numpy()

    undefined = {"b above 1": lambda frame: (frame["b"] > 1).to_numpy()}
    shared = [Variant(direction="lower", statistics=read, average=a, undefined=undefined) for a in ("mean", "median")]
    shared.append(
        Variant(direction="lower", statistics=read, value=lambda means: 2 * means[..., 0], undefined=undefined)
    )
    frame = pd.DataFrame({"a": [1.0, 2, 6, 9], "b": [0, 0, 0, 5]})
    found = estimates(dict(enumerate(shared)), frame, seed=0)
    assert [found[i].value for i in range(3)] == [3, 2, 6]
    assert found[2].ci_low == pytest.approx(2 * found[0].ci_low, rel=1e-12)
    assert reads == [3]


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


def test_a_resample_of_nothing_but_zeros_has_the_mean_zero():
    values = [0.0] * 39 + [0.68]
    assert estimate(MEAN, pd.DataFrame({"a": values, "b": values}), seed=0).ci_low == 0


def test_an_interval_with_an_infinite_end_is_none():
    result = estimate(RATIO, pd.DataFrame({"a": [1.0, 1.0], "b": [0.0, 1.0]}), seed=0)
    assert (result.value, result.ci_low, result.ci_high) == (2, None, None)


def test_all_variants_of_segmentation_are_estimated_together():
    rng = np.random.default_rng(0)
    counts = {f"counts_{name}": list(rng.multinomial(50_176, [1 / 6] * 6, size=10_000)) for name in THRESHOLDS}
    frame = pd.DataFrame(counts | {"num_labelled": 40_000, "num_non_finite": 0})
    found = estimates(Segmentation().variants(signed=True), frame, seed=0)
    assert len(found) == 120


def test_resamples_are_averaged_on_one_thread_and_the_others_are_given_back():
    """Several threads, one of whose cores was busy, took four times as long, or forty."""

    def threads():
        return {pool["num_threads"] for pool in statistics._pools().info() if pool["user_api"] == "blas"}

    class Times(np.ndarray):
        def __getitem__(self, key):
            seen.update(threads())
            return np.asarray(super().__getitem__(key))

    seen = set()
    with threadpool_limits(2, user_api="blas"):
        statistics._means(np.ones((9, 1)), np.ones((4, 9), dtype=np.uint8).view(Times))
        assert threads() == {2}
    assert seen == {1}


def test_samples_of_different_images_are_resampled_together() -> None:
    """An image is drawn for all samples or for none; a resample without any of a sample's images has no value."""
    rng = np.random.default_rng(0)
    n, places = 9, [np.arange(9), np.array([7, 2, 0]), np.array([4])]
    ratio = Variant(
        direction="lower",
        statistics=lambda rows: rows[["a", "b"]].to_numpy(),
        value=lambda means: means[..., 0] / means[..., 1],
        undefined={},
    )
    median = Variant(direction="lower", statistics=ratio.statistics, average="median", undefined={})
    samples = [rng.normal(size=(len(place), 2)) + 3 for place in places]
    samples += [some[:, :1] for some in samples]
    with np.errstate(invalid="ignore"):
        found = statistics.joint_bootstrap([ratio] * 3 + [median] * 3, samples, places * 2, seed=5, resamples=60)
    draws = np.random.default_rng((5, n)).integers(n, size=(60, n))
    for values, draw in zip(found, draws, strict=True):
        for column, (sample, place) in enumerate(zip(samples, places * 2, strict=True)):
            drawn = np.concatenate([sample[:0], *(sample[place == image] for image in draw)])
            expected = np.nan
            if len(drawn):
                mean = drawn.mean(axis=0)
                expected = np.median(drawn) if column > 2 else mean[0] / mean[1]
            assert values[column] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(found).any()
    assert not np.isnan(found[:, [0, 3]]).any()

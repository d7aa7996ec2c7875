"""Paired differences: slow restatements, the laws of a difference, and what corrections must do."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from rapbench.core.types import Variant
from rapbench.report import paired
from rapbench.report.paired import (
    Pair,
    Sample,
    bootstrap_p,
    differs,
    holm,
    pair,
    rank_biserial,
    resamples_for,
    wilcoxon_p,
)
from rapbench.report.statistics import defined

MEAN = Variant(direction="lower", statistics=lambda rows: rows[["a"]].to_numpy(), undefined={})
MEDIAN = Variant(direction="lower", statistics=lambda rows: rows[["a"]].to_numpy(), average="median", undefined={})
RATIO = Variant(
    direction="lower",
    statistics=lambda rows: rows[["a", "b"]].to_numpy(),
    value=lambda means: means[..., 0] / means[..., 1],
    undefined={"b above 5": lambda rows: (rows["b"] > 5).to_numpy()},
)
VARIANTS = {"mean": MEAN, "median": MEDIAN, "ratio": RATIO}


def rows(n, seed=0, *, shift=0.0):
    rng = np.random.default_rng(seed)
    names = [f"image{i}" for i in range(n)]
    return pd.DataFrame({"id": names, "a": shift + rng.normal(size=n), "b": 3 + rng.random(n)})


def sample(variant, frame):
    (kept,) = defined([variant], frame)
    return Sample(pd.Index(frame["id"])[kept.positions], kept.statistics)


def difference(variant, ours, theirs, **given):
    both = pair(sample(variant, ours), sample(variant, theirs))
    return paired.difference(variant, both, **given)


def slow_value(name, frame):
    if name == "ratio":
        return frame["a"].mean() / frame["b"].mean()
    return np.median(frame["a"]) if name == "median" else frame["a"].mean()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_difference_is_a_walk_over_resampled_pairs(name):
    ours, theirs = rows(31, 1), rows(31, 2, shift=0.5)
    draws = np.random.default_rng((4, 31)).integers(31, size=(300, 31))
    walked = np.array([slow_value(name, ours.iloc[draw]) - slow_value(name, theirs.iloc[draw]) for draw in draws])
    found = difference(VARIANTS[name], ours, theirs, seed=4, resamples=300)
    assert found.value == pytest.approx(slow_value(name, ours) - slow_value(name, theirs), rel=1e-12)
    assert [found.ci_low, found.ci_high] == pytest.approx(np.percentile(walked, [2.5, 97.5]), rel=1e-10)
    assert found.n == 31
    if name == "ratio":
        assert found.p_value == pytest.approx(2 * (min((walked <= 0).sum(), (walked >= 0).sum()) + 1) / 301)
        assert found.effect_size is None


@pytest.mark.parametrize("name", VARIANTS)
def test_images_are_matched_by_id_and_only_those_defined_for_both_count(name):
    ours, theirs = rows(40, 1), rows(40, 2)
    ours.loc[3, "a"], theirs.loc[5, "a"], theirs.loc[6, "b"] = np.nan, np.inf, 9
    both = [i for i in range(30) if i not in {3, 5} and not (name == "ratio" and i == 6)]
    expected = difference(VARIANTS[name], ours.iloc[both], theirs.iloc[both], seed=0)
    shuffled = theirs.sample(frac=1, random_state=0).reset_index(drop=True)
    assert difference(VARIANTS[name], ours.iloc[:30], shuffled, seed=0) == expected
    assert expected.n == len(both)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_method_does_not_differ_from_itself(name):
    found = difference(VARIANTS[name], rows(30), rows(30), seed=0)
    assert (found.value, found.ci_low, found.ci_high, found.p_value, found.n) == (0, 0, 0, 1, 30)
    assert found.effect_size == (None if name == "ratio" else 0)


@pytest.mark.parametrize("name", VARIANTS)
def test_exchanging_the_methods_changes_the_sign_alone(name):
    ours, theirs = rows(40, 1), rows(50, 2, shift=0.2)
    one, other = (difference(VARIANTS[name], *pair, seed=0) for pair in ((ours, theirs), (theirs, ours)))
    assert one.value == -other.value
    assert [one.ci_low, one.ci_high] == pytest.approx([-other.ci_high, -other.ci_low], rel=1e-9)
    assert one.p_value == pytest.approx(other.p_value)
    assert one.effect_size == (None if name == "ratio" else -other.effect_size)


@pytest.mark.parametrize("name", VARIANTS)
def test_without_a_difference_p_values_are_uniform(name):
    p_values = [
        difference(VARIANTS[name], rows(40, 2 * seed), rows(40, 2 * seed + 1), seed=seed, resamples=99).p_value
        for seed in range(200)
    ]
    for level in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(np.array(p_values) <= level) == pytest.approx(level, abs=0.08)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_clear_difference_has_a_small_p_value_and_an_interval_without_zero(name):
    found = difference(VARIANTS[name], rows(60, 1, shift=3), rows(60, 2), seed=0)
    assert found.p_value < 0.01
    assert 0 < found.ci_low < found.value < found.ci_high


def test_pairing_narrows_the_interval_of_methods_that_agree_on_what_is_hard():
    ours = rows(60, 1)
    theirs = ours.assign(a=ours["a"] + 0.1 + 0.01 * rows(60, 2)["a"])
    found = difference(MEAN, theirs, ours, seed=0)
    assert found.value == pytest.approx(0.1, abs=0.01)
    assert found.ci_high - found.ci_low < 0.02
    assert found.effect_size == 1


def slow_ranks(values):
    return [sum((other < v) + (other == v) / 2 for other in values) + 0.5 for v in values]


def test_the_signed_rank_test_equals_counting_all_signs():
    gains = np.array([0.3, -0.1, 0.8, 0.45, -0.2, 0.9, 0.7, 1.1])
    ranks = slow_ranks(np.abs(gains))
    center = sum(ranks) / 2
    seen = abs(sum(r for r, g in zip(ranks, gains, strict=True) if g > 0) - center)
    sums = [sum(r for r, up in zip(ranks, signs, strict=True) if up) for signs in product([0, 1], repeat=8)]
    assert wilcoxon_p(gains) == pytest.approx(np.mean([abs(s - center) >= seen for s in sums]))


@pytest.mark.parametrize("n", [1, 2, 5, 13, 14, 50, 51, 300])
@pytest.mark.parametrize("values", [3, 1000], ids=["tied", "not tied"])
def test_the_signed_rank_test_is_scipy_s(n, values):
    rng = np.random.default_rng(n)
    for _ in range(4):
        gains = rng.choice([-1, 1], size=n) * (1.0 + rng.choice(values, size=n, replace=values == 3))
        expected = wilcoxon(gains).pvalue if n > 1 else 1.0
        assert wilcoxon_p(np.r_[gains, 0.0]) == pytest.approx(expected, rel=1e-12)


def test_the_rank_biserial_correlation_is_a_difference_of_rank_sums():
    assert rank_biserial(np.array([1.0, -2, 3])) == pytest.approx((4 - 2) / 6)
    gains = np.random.default_rng(0).integers(-4, 6, size=50).astype(float)
    moved = [g for g in gains if g]
    ranks = slow_ranks([abs(g) for g in moved])
    expected = sum(r if g > 0 else -r for r, g in zip(ranks, moved, strict=True)) / sum(ranks)
    assert rank_biserial(gains) == pytest.approx(expected)


def test_images_without_a_difference_are_left_out_of_the_test():
    gains = np.array([0.3, -0.1, 0.8, 0.45, -0.2, 0.9])
    padded = np.concatenate([gains, np.zeros(20)])
    assert wilcoxon_p(padded) == wilcoxon_p(gains)
    assert rank_biserial(padded) == rank_biserial(gains)


def test_a_median_of_images_is_tested_like_their_mean():
    one, other = (difference(v, rows(40, 1), rows(40, 2), seed=0) for v in (MEAN, MEDIAN))
    assert (one.p_value, one.effect_size) == (other.p_value, other.effect_size)
    assert one.value != other.value


@pytest.mark.parametrize("name", VARIANTS)
def test_whether_methods_differ_is_the_p_value_of_their_difference(name):
    both = pair(sample(VARIANTS[name], rows(40, 1)), sample(VARIANTS[name], rows(40, 2, shift=0.4)))
    assert differs(VARIANTS[name], both, seed=0) == paired.difference(VARIANTS[name], both, seed=0).p_value


def test_methods_do_not_differ_where_a_few_images_decide():
    both = Pair(np.array([[-1.0]] * 19 + [[100.0]]), np.zeros((20, 1)))
    assert paired.difference(MEAN, both, seed=0).p_value < 0.01
    assert differs(MEAN, both, seed=0) == 1


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    found = [difference(RATIO, rows(40, 1), rows(40, 2), seed=seed) for seed in (3, 3, 4)]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("name", VARIANTS)
def test_fewer_than_two_common_images_are_not_tested(name):
    ours, theirs = rows(3, 1), rows(4, 2).iloc[2:]
    one = difference(VARIANTS[name], ours, theirs, seed=0)
    assert one.value == pytest.approx(slow_value(name, ours.iloc[2:]) - slow_value(name, theirs.iloc[:1]))
    none = difference(VARIANTS[name], ours.iloc[:2], theirs, seed=0)
    assert (one.n, none.n, none.value) == (1, 0, None)
    for found in (one, none):
        assert (found.ci_low, found.ci_high, found.p_value, found.effect_size) == (None, None, None, None)


def test_a_ratio_without_a_denominator_has_no_difference_and_no_warning():
    found = difference(RATIO, rows(9).assign(b=0.0), rows(9), seed=0)
    assert (found.value, found.ci_low, found.p_value, found.n) == (None, None, None, 9)


def test_holm_multiplies_the_smallest_by_their_number_and_never_falls():
    assert holm([0.01, 0.04, 0.03, None]) == [pytest.approx(p) for p in (0.03, 0.06, 0.06)] + [None]
    assert holm([None, 0.2, 0.9, 0.6]) == [None, pytest.approx(0.6), 1, 1]
    assert holm([]) == []


def test_holm_keeps_the_order_and_never_goes_below_the_raw_value_or_above_one():
    p_values = np.random.default_rng(0).random(50) ** 3
    adjusted = np.array(holm(list(p_values)))
    assert (adjusted >= p_values).all()
    assert adjusted.max() <= 1
    assert (np.diff(adjusted[p_values.argsort()]) >= 0).all()
    order = np.random.default_rng(1).permutation(50)
    assert holm(list(p_values[order])) == list(adjusted[order])


def test_a_mean_and_ranks_that_point_in_opposite_directions_are_told_with_the_median_image() -> None:
    frame = pd.DataFrame({"id": [f"image{i}" for i in range(20)], "a": [-1.0] * 19 + [100.0]})
    found = difference(MEAN, frame, frame.assign(a=0.0), seed=0)
    assert found.value > 0 > found.effect_size
    assert found.is_divided
    assert found.median == -1
    assert not difference(MEAN, frame.iloc[:19], frame.assign(a=0.0), seed=0).is_divided
    assert difference(RATIO, rows(10), rows(10, 1), seed=0).median is None


@pytest.mark.parametrize("comparisons", [2, 25, 26, 60, 400])
def test_the_least_p_value_of_a_bootstrap_reaches_significance_in_any_company(comparisons: int) -> None:
    least = bootstrap_p(np.ones(resamples_for(comparisons)))
    assert holm([least] * comparisons)[0] < 0.05

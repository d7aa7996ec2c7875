"""Which methods are told apart: corrections by hand, groups by brute force, and how often equal ones are not."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rapbench.core.types import Variant
from rapbench.report.cliques import Separation, separation
from rapbench.report.paired import LEVEL, Sample

MEAN = Variant(direction="lower", statistics=lambda rows: rows[["a"]].to_numpy(), undefined={})
RATIO = Variant(
    direction="lower",
    statistics=lambda rows: rows[["a", "b"]].to_numpy(),
    value=lambda means: means[..., 0] / means[..., 1],
    undefined={},
)


def separated(values: dict[str, np.ndarray], variant: Variant = MEAN, controls: frozenset[str] = frozenset()):
    """Of values (n, S) an image by method; a resampled value is a mean of the first statistic."""
    n = max(map(len, values.values()))
    draws = np.random.default_rng(1).integers(n, size=(600, n))
    samples = {name: Sample(pd.Index(range(len(some))), some) for name, some in values.items()}
    drawn = {name: variant.value(some[draws % len(some)].mean(axis=1)) for name, some in values.items()}
    return separation(variant, samples, drawn, controls=controls, seed=0)


def shifted(*shifts: float, n: int = 40, seed: int = 0) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(seed).normal(size=(len(shifts), n, 1))
    return {name: some + shift for name, some, shift in zip("abcdefgh", noise, shifts, strict=False)}


def test_pairs_are_compared_by_wilcoxons_test_and_corrected_by_hand() -> None:
    values = shifted(0, 0.2, 0.6, 1.5)
    found = separated(values)
    raw = {
        pair: stats.wilcoxon(values[pair[0]][:, 0] - values[pair[1]][:, 0]).pvalue for pair in combinations("abcd", 2)
    }
    ordered, largest = sorted(raw, key=raw.__getitem__), 0.0
    for place, pair in enumerate(ordered):
        largest = max(largest, min(1, (6 - place) * raw[pair]))
        assert found.p_values[frozenset(pair)] == pytest.approx(largest)
        assert (frozenset(pair) in found.alike) == (largest >= LEVEL)
    everything = np.concatenate(list(values.values()), axis=1)
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*everything.T).pvalue)
    ranks = stats.rankdata(everything, axis=1).mean(axis=0)
    assert found.image_ranks == pytest.approx(dict(zip("abcd", ranks, strict=True)))


def test_where_images_have_no_value_the_bootstrap_compares() -> None:
    values = {name: np.c_[some, np.ones(40)] for name, some in shifted(0, 0.05, 3).items()}
    found = separated(values, RATIO)
    assert not found.of_images
    assert found.friedman_p is None
    assert found.image_ranks == {}
    assert found.cliques == (("a", "b"), ("c",))
    assert found.p_values[frozenset("ac")] == pytest.approx(3 * 2 / 601)


def test_a_median_has_no_values_of_images_and_is_compared_by_the_bootstrap() -> None:
    found = separated(shifted(0, 3), replace(MEAN, average="median"))
    assert not found.of_images
    assert found.p_values == {frozenset("ab"): pytest.approx(2 / 601)}


def test_methods_are_told_apart_only_where_not_all_are_alike_and_controls_by_themselves() -> None:
    rng = np.random.default_rng(3)
    values = {name: rng.normal(size=(30, 1)) for name in "abcd"} | {"control": rng.normal(size=(30, 1)) + 9}
    found = separated(values, controls=frozenset({"control"}))
    assert found.friedman_p is not None
    assert found.friedman_p > LEVEL
    assert found.cliques == (("a", "b", "c", "d"), ("control",))
    assert found.image_ranks["control"] == 4.5


def test_a_pair_that_wilcoxon_tells_apart_is_alike_where_friedman_s_test_tells_none_apart() -> None:
    gains = np.r_[np.arange(1.0, 25.0), -np.arange(1, 17) / 100][:, None]  # few more are above zero than below, by far
    values = {"a": gains, "b": np.zeros((40, 1)), "c": np.tile([[100.0], [-100.0]], (20, 1))}
    found = separated(values)
    assert found.p_values[frozenset("ab")] < LEVEL < (found.friedman_p or 0)
    assert found.cliques == (("a", "b", "c"),)


def test_the_first_of_an_image_is_the_method_that_its_direction_calls_best() -> None:
    values = {name: np.full((5, 1), value) for name, value in {"a": 1.0, "b": 2.0, "c": 3.0}.items()}
    assert separated(values).image_ranks == {"a": 1, "b": 2, "c": 3}
    assert separated(values, replace(MEAN, direction="higher")).image_ranks == {"a": 3, "b": 2, "c": 1}


def test_a_control_with_fewer_images_is_compared_on_those_it_has() -> None:
    values = shifted(0, 1, 2) | {"control": np.zeros((9, 1))}
    found = separated(values, controls=frozenset({"control"}))
    without = separated(shifted(0, 1, 2))
    assert found.friedman_p == without.friedman_p
    assert {name: found.image_ranks[name] for name in "abc"} == without.image_ranks


def test_a_method_that_a_few_images_decide_against_is_not_told_apart() -> None:
    values = {"a": np.full((40, 1), 0.2), "b": np.r_[np.full(39, 0.1), 60.0][:, None]}
    assert separated(values).alike == {frozenset("ab")}


def test_what_no_image_tells_apart_is_one_group() -> None:
    same = np.ones((20, 1))
    found = separated(dict.fromkeys("abc", same))
    assert found.friedman_p == 1
    assert found.cliques == (("a", "b", "c"),)
    assert found.letters == dict.fromkeys("abc", "a")


def brute_force(names: str, edges: frozenset[frozenset[str]]) -> set[frozenset[str]]:
    subsets = chain.from_iterable(combinations(names, size) for size in range(1, len(names) + 1))
    full = [frozenset(s) for s in subsets if all(frozenset(pair) in edges for pair in combinations(s, 2))]
    return {one for one in full if not any(one < other for other in full)}


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_the_maximal_cliques_and_letters_tell_exactly_the_pairs(seed: int) -> None:
    names, rng = "abcdefg", np.random.default_rng(seed)
    edges = frozenset(frozenset(pair) for pair in combinations(names, 2) if rng.random() < 0.6)
    found = Separation(names=tuple(names), of_images=True, friedman_p=None, image_ranks={}, p_values={}, alike=edges)
    assert {frozenset(clique) for clique in found.cliques} == brute_force(names, edges)
    assert len(set(found.cliques)) == len(found.cliques)
    for one, other in combinations(names, 2):
        shared = set(found.letters[one]) & set(found.letters[other])
        assert bool(shared) == (frozenset((one, other)) in edges)


@pytest.mark.parametrize("methods", [2, 4])
@pytest.mark.slow
def test_equal_methods_are_told_apart_in_at_most_one_of_twenty_experiments(methods: int) -> None:
    """Images differ in how hard they are, and equal methods differ by noise alone."""
    rng, simulations = np.random.default_rng(5), 300
    wrong = 0
    for _ in range(simulations):
        hardness = rng.normal(size=(25, 1))
        values = {name: hardness + rng.normal(size=(25, 1)) for name in "abcd"[:methods]}
        found = separated(values)
        wrong += len(found.alike) < methods * (methods - 1) // 2
    assert stats.binomtest(wrong, simulations, LEVEL, alternative="greater").pvalue > 0.01


def test_equal_methods_are_rarely_told_apart_by_the_bootstrap() -> None:
    rng, simulations = np.random.default_rng(6), 300
    wrong = 0
    for _ in range(simulations):
        weights = 1 + rng.random((60, 1))
        values = {name: np.c_[weights * rng.normal(size=(60, 1)), weights] for name in "ab"}
        wrong += not separated(values, RATIO).alike
    assert stats.binomtest(wrong, simulations, LEVEL, alternative="greater").pvalue > 0.01


def test_a_difference_is_found_where_there_is_one() -> None:
    assert separated(shifted(0, 1.5, 3)).cliques == (("a",), ("b",), ("c",))

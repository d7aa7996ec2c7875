"""Ranks and their agreement, restated as textbooks print them and as scipy computes them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rapbench.report.agreement import friedman_p, gap, kendall_tau_b, kendall_w, ranks_among

RNG = np.random.default_rng(0)
TIED = RNG.integers(0, 4, size=(50, 7)).astype(float)
ALL = np.ones(7, dtype=bool)


def test_ranks_of_methods_are_mid_ranks() -> None:
    np.testing.assert_array_equal(ranks_among(TIED, ALL), stats.rankdata(TIED, axis=1))


def test_a_control_has_a_place_among_the_methods_and_moves_none_of_them() -> None:
    methods = np.array([True] * 5 + [False] * 2)
    found = ranks_among(TIED, methods)
    np.testing.assert_array_equal(found[:, :5], stats.rankdata(TIED[:, :5], axis=1))
    for row, values in zip(found, TIED, strict=True):
        for control in (5, 6):
            lower, equal = (values[:5] < values[control]).sum(), (values[:5] == values[control]).sum()
            assert row[control] == 0.5 + lower + equal / 2


def test_what_has_no_value_has_no_rank_and_takes_part_in_none() -> None:
    found = ranks_among(np.array([3.0, np.nan, 1.0, 2.0]), np.array([True, True, True, False]))
    np.testing.assert_array_equal(found, [2, np.nan, 1, 1.5])


def test_values_that_differ_by_rounding_are_tied() -> None:
    values = np.array([0.1 + 0.2, 0.3, 0.0, -0.0, 1e-15])
    assert ranks_among(values, np.ones(5, dtype=bool)).tolist() == [4.5, 4.5, 1.5, 1.5, 3]
    assert gap(np.array([0.1 + 0.2, 2.0]), np.array([0.3, 1.0])).tolist() == [0, 1]


def printed_w(ranks: np.ndarray) -> float:
    """12 S / (m² (k³ - k) - m Σ T)."""
    m, k = ranks.shape
    s = sum((total - m * (k + 1) / 2) ** 2 for total in ranks.sum(axis=0))
    ties = [sum(t**3 - t for t in np.unique(judge, return_counts=True)[1]) for judge in ranks]
    return 12 * s / (m**2 * (k**3 - k) - m * sum(ties))


@pytest.mark.parametrize("m", [2, 3, 12])
@pytest.mark.parametrize("values", [TIED, RNG.normal(size=(50, 7))], ids=["tied", "untied"])
def test_w_is_the_printed_formula(m: int, values: np.ndarray) -> None:
    judged = stats.rankdata(values[:m], axis=1)
    assert kendall_w(judged) == pytest.approx(printed_w(judged), rel=1e-12)


def test_w_is_one_where_judges_agree_and_unknown_where_none_tells_things_apart() -> None:
    assert kendall_w(np.tile([1.0, 2.5, 2.5, 4], (3, 1))) == pytest.approx(1)
    assert kendall_w(np.array([[1.0, 2, 3], [3, 2, 1]])) == 0
    assert np.isnan(kendall_w(np.full((3, 4), 2.5)))


def test_tau_is_scipys() -> None:
    found = kendall_tau_b(TIED[:-1], TIED[1:])
    for one, ours, theirs in zip(found, TIED[:-1], TIED[1:], strict=True):
        assert one == pytest.approx(stats.kendalltau(ours, theirs).statistic)
    assert np.isnan(kendall_tau_b(np.ones(4), np.arange(4.0)))


@pytest.mark.parametrize("values", [TIED, RNG.normal(size=(50, 7)) + np.arange(7) / 5], ids=["tied", "untied"])
def test_the_friedman_test_is_scipys(values: np.ndarray) -> None:
    assert friedman_p(ranks_among(values, ALL)) == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)


def test_nothing_is_tested_with_two_methods_and_nothing_differs_where_all_is_tied() -> None:
    assert friedman_p(np.tile([1.0, 2], (9, 1))) is None
    assert friedman_p(np.full((1, 5), 3.0)) is None
    assert friedman_p(np.full((9, 5), 3.0)) == 1

"""What a method gains over another on the images that both have a value for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rapbench.core.types import first
from rapbench.report.statistics import bootstrap, interval, value

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from rapbench.core.types import Variant

LEVEL = 0.05
"""Below it a corrected p-value tells two methods apart."""
_EXACT, _EXACT_IF_TIED = 50, 13
"""Gains up to which the signed-rank test is exact, as SciPy has it."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One method's value minus another's, over the images for which both are defined.

    Attributes:
        value: None where no image is left or the difference is not finite.
        ci_low: lower end of the 95 % interval; None with fewer than two images or where an end is not finite.
        ci_high: upper end of the 95 % interval, None where ci_low is.
        p_value: two-sided, uncorrected; of the Wilcoxon signed-rank test where images have values of their own, else of
            the paired bootstrap; None with fewer than two images.
        effect_size: matched-pairs rank-biserial correlation from -1 (every image lower) to 1 (every image higher); None
            where images have no values of their own or are fewer than two.
        n: images that both have.
        median: the median image's difference; None where images have no values of their own or none is left.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    effect_size: float | None
    n: int
    median: float | None = None

    @property
    def is_divided(self) -> bool:
        """Whether the value and the ranks of the images' differences point in opposite directions."""
        return (self.value or 0) * (self.effect_size or 0) < 0


class Sample(NamedTuple):
    """What a variant averages of one method: ids (n,) of the images, each once, and their statistics (n, S)."""

    ids: pd.Index[Any]
    statistics: NDArray[np.float64]


class Pair(NamedTuple):
    """Statistics (n, S) and (n, S) of two methods of the same images."""

    ours: NDArray[np.float64]
    theirs: NDArray[np.float64]

    @property
    def gains(self) -> NDArray[np.float64]:
        """How much the first statistic of each image (n,) is above the other method's."""
        return (self.ours - self.theirs)[:, 0]


def pair(ours: Sample, theirs: Sample) -> Pair:
    """The statistics of the images that both have, in the order of the first."""
    if ours.ids.equals(theirs.ids):
        return Pair(ours.statistics, theirs.statistics)
    partner = theirs.ids.get_indexer(ours.ids)
    return Pair(ours.statistics[partner >= 0], theirs.statistics[partner[partner >= 0]])


def difference(variant: Variant, both: Pair, *, seed: int, resamples: int = 1000) -> Difference:
    """The variant over one method's images minus the variant over another's.

    The interval is that of the percentile bootstrap over pairs: an image is drawn for both methods or for neither.

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = _drawn(variant, both, seed, resamples)
        low, high = interval(drawn)
        of_images = variant.value is first
        return Difference(
            value=_gain(variant, both),
            ci_low=low,
            ci_high=high,
            p_value=wilcoxon_p(both.gains) if of_images else bootstrap_p(drawn),
            effect_size=rank_biserial(both.gains) if of_images else None,
            n=len(both.gains),
            median=float(np.median(both.gains)) if of_images and len(both.gains) else None,
        )


def unpaired(variant: Variant, both: Pair, *, seed: int, resamples: int = 1000) -> Difference:
    """The variant over one sample of images minus that over another of different ones, each resampled by itself.

    Source: Efron and Tibshirani 1993, chapter 8.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ours, theirs = (
            bootstrap([variant], [sample], seed=own, resamples=resamples)[0]
            for own, sample in zip((seed, seed + 1), both, strict=True)  # of one size, they would be drawn alike
        )
        low, high = interval(ours - theirs)
        return Difference(
            value=_gain(variant, both),
            ci_low=low,
            ci_high=high,
            p_value=bootstrap_p(ours - theirs),
            effect_size=None,
            n=0,
        )


def differs(variant: Variant, both: Pair, *, seed: int, resamples: int = 1000) -> float | None:
    """The p-value of `difference` alone, without the interval that costs most of it; None where that has none.

    1 where the value and the ranks of the images point in opposite directions: a few images decide.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if variant.value is not first:
            return bootstrap_p(_drawn(variant, both, seed, resamples))
        is_divided = (_gain(variant, both) or 0) * (rank_biserial(both.gains) or 0) < 0
        return 1.0 if is_divided else wilcoxon_p(both.gains)


def _gain(variant: Variant, both: Pair) -> float | None:
    ours, theirs = (value(variant, statistics) for statistics in both)
    return None if ours is None or theirs is None else ours - theirs


def _drawn(variant: Variant, both: Pair, seed: int, resamples: int) -> NDArray[np.float64]:
    """The difference (M,) over resamples of the pairs."""
    ours, theirs = bootstrap([variant] * 2, both, seed=seed, resamples=resamples)
    return ours - theirs


def wilcoxon_p(gains: NDArray[np.float64]) -> float | None:
    """Two-sided p-value of the signed-rank test of gains (n,); gains of zero are left out, 1 where all are.

    It is exact up to 13 gains, up to 50 where none are tied, and of the normal distribution beyond.

    Source: Wilcoxon 1945; Pratt and Gibbons 1981, chapter 3, for ties.
    """
    if len(gains) < 2:
        return None
    moved = gains[gains != 0]
    ranks = mean_ranks(np.abs(moved))
    balance = abs(float(np.sign(moved) @ ranks))
    tied = len(np.unique(ranks)) < len(ranks)
    if len(ranks) <= (_EXACT_IF_TIED if tied else _EXACT):
        return _share_beyond(balance, ranks)
    return erfc(balance / sqrt(2 * float(ranks @ ranks)))


def _share_beyond(balance: float, ranks: NDArray[np.float64]) -> float:
    """The share of all 2^n choices of signs whose sum of signed ranks (n,) is at least so far from zero."""
    sums = np.ones(1)  # how many choices of signs have the sum 0, 1, 2, ... of doubled ranks with the sign +
    for doubled in (2 * ranks).astype(int):
        nothing = np.zeros(doubled)
        sums = np.r_[sums, nothing] + np.r_[nothing, sums]
    balances = np.arange(len(sums)) - ranks.sum()
    return float(sums[np.abs(balances) >= balance].sum() / sums.sum())


def rank_biserial(gains: NDArray[np.float64]) -> float | None:
    """Rank sum of the gains (n,) above zero minus that of those below, over both; 0 where all are zero.

    Source: Kerby 2014.
    """
    if len(gains) < 2:
        return None
    moved = gains[gains != 0]
    ranks = mean_ranks(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum()) if len(moved) else 0.0


def mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rank of each value (n,), 1 the lowest; ties share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (counts.cumsum() - (counts - 1) / 2)[place]
    return ranks


def bootstrap_p(drawn: NDArray[np.float64]) -> float | None:
    """Two-sided p-value of differences (M,) over resamples: the level at which their interval just touches zero.

    Source: Efron and Tibshirani 1993, chapter 15.
    """
    if not np.isfinite(drawn).all():
        return None
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1, 2 * (beyond + 1) / (len(drawn) + 1)))


def resamples_for(comparisons: int) -> int:
    """Resamples with which the least p-value of a bootstrap is still below LEVEL when corrected for its company."""
    return max(1000, 100 * comparisons)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number, in the order given; a missing one stays missing and is not counted.

    Source: Holm 1979.
    """
    adjusted: list[float | None] = [None] * len(p_values)
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = largest
    return adjusted

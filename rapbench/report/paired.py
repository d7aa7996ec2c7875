"""What a method gains over another on the images that both have a value for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rapbench.core.types import first
from rapbench.report.statistics import Defined, bootstrap, defined, interval, value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rapbench.core.types import Variant

    Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


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


def difference(
    variant: Variant, rows: pd.DataFrame, against: pd.DataFrame, *, seed: int, resamples: int = 1000
) -> Difference:
    """The variant over rows minus the variant over another method's rows, as `differences` gives it."""
    return differences({"": variant}, rows, against, seed=seed, resamples=resamples)[""]


def differences(
    variants: Mapping[str, Variant], rows: pd.DataFrame, against: pd.DataFrame, *, seed: int, resamples: int = 1000
) -> dict[str, Difference]:
    """The variants over rows minus the variants over another method's rows of the same images, matched by id.

    An interval is that of the percentile bootstrap over pairs: an image is drawn for both methods or for neither.

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = _pairs(variants, rows, against)
        ours, theirs = (
            bootstrap(list(variants.values()), samples, seed=seed, resamples=resamples)
            for samples in ([pair[0] for pair in pairs], [pair[1] for pair in pairs])
        )
        return {
            name: _difference(variant, pair, one - other)
            for (name, variant), pair, one, other in zip(variants.items(), pairs, ours, theirs, strict=True)
        }


def _difference(variant: Variant, pair: Pair, drawn: NDArray[np.float64]) -> Difference:
    ours, theirs = (value(variant, statistics) for statistics in pair)
    low, high = interval(drawn)
    of_images = variant.value is first
    gains = (pair[0] - pair[1])[:, 0]
    return Difference(
        value=None if ours is None or theirs is None else ours - theirs,
        ci_low=low,
        ci_high=high,
        p_value=wilcoxon_p(gains) if of_images else bootstrap_p(drawn),
        effect_size=rank_biserial(gains) if of_images else None,
        n=len(gains),
        median=float(np.median(gains)) if of_images and len(gains) else None,
    )


def _pairs(variants: Mapping[str, Variant], rows: pd.DataFrame, against: pd.DataFrame) -> list[Pair]:
    """Each variant's statistics (n, S) of both, image by image; the same arrays for variants that share them."""
    partner = pd.Index(against["id"]).get_indexer(pd.Index(rows["id"]))

    @cache
    def pair(ours: Defined, theirs: Defined) -> Pair:
        place = np.full(len(against) + 1, -1)  # of a row of the other's among its defined ones; the last: no such row
        place[theirs.positions] = np.arange(len(theirs.positions))
        matched = place[partner[ours.positions]]
        return ours.statistics[matched >= 0], theirs.statistics[matched[matched >= 0]]

    return [
        pair(*both) for both in zip(defined(variants.values(), rows), defined(variants.values(), against), strict=True)
    ]


def wilcoxon_p(gains: NDArray[np.float64]) -> float | None:
    """Two-sided p-value of the signed-rank test of gains (n,); gains of zero are left out, 1 where all are.

    Source: Wilcoxon 1945.
    """
    from scipy.stats import wilcoxon  # takes longer to import than most tables to compute

    if len(gains) < 2:
        return None
    moved = gains[gains != 0]
    return float(wilcoxon(moved).pvalue) if len(moved) else 1.0


def rank_biserial(gains: NDArray[np.float64]) -> float | None:
    """Rank sum of the gains (n,) above zero minus that of those below, over both; 0 where all are zero.

    Source: Kerby 2014.
    """
    from scipy.stats import rankdata

    if len(gains) < 2:
        return None
    moved = gains[gains != 0]
    ranks = rankdata(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum()) if len(moved) else 0.0


def bootstrap_p(drawn: NDArray[np.float64]) -> float | None:
    """Two-sided p-value of differences (M,) over resamples: the level at which their interval just touches zero.

    Source: Efron and Tibshirani 1993, chapter 15.
    """
    if not np.isfinite(drawn).all():
        return None
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1, 2 * (beyond + 1) / (len(drawn) + 1)))


def resamples_for(comparisons: int) -> int:
    """Resamples with which the least p-value of a bootstrap is still below 0.05 when corrected for its company."""
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

"""A metric's value over images with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

    from rapbench.core.types import Variant

_NUM_DRAWS = 2**20
"""Image indices drawn at once: bounds memory."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value over images and how sure it is.

    Attributes:
        value: None where no image is left or the value is not finite.
        ci_low: lower end of the 95 % interval; None with fewer than two images or where an end is not finite.
        ci_high: upper end of the 95 % interval, None where ci_low is.
        n: images the value rests on.
        n_dropped: images left out.
        dropped: reason -> number of images left out for it.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_dropped: int
    dropped: Mapping[str, int]


def estimate(variant: Variant, rows: DataFrame, *, seed: int, resamples: int = 1000) -> Estimate:
    """The variant's value over the stored rows, with a 95 % percentile bootstrap interval over images.

    The draws depend on the seed and the number of images alone: methods that keep the same images are resampled alike.

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        statistics, dropped = _kept(variant, rows)
        n = len(statistics)
        value = _combined(variant, statistics) if n else np.nan
        low, high = _interval(variant, statistics, seed, resamples) if n > 1 else (None, None)
    return Estimate(
        value=value if np.isfinite(value) else None,
        ci_low=low,
        ci_high=high,
        n=n,
        n_dropped=len(rows) - n,
        dropped=dropped,
    )


def _kept(variant: Variant, rows: DataFrame) -> tuple[NDArray[np.float64], dict[str, int]]:
    """Statistics (N, S) of the images that have a value, and how many others each reason drops."""
    kept = np.ones(len(rows), dtype=bool)
    dropped = {}
    for reason, holds in variant.undefined.items():
        hit = kept & holds(rows)
        dropped[reason] = int(hit.sum())
        kept &= ~hit
    statistics = variant.statistics(rows[kept]) if kept.any() else np.empty((0, 1))
    finite = np.isfinite(statistics).all(axis=1)
    dropped["undefined"] = int((~finite).sum())
    return statistics[finite], {reason: count for reason, count in dropped.items() if count}


def _combined(variant: Variant, statistics: NDArray[np.float64]) -> float:
    average = np.median if variant.average == "median" else np.mean
    return float(variant.value(average(statistics, axis=0)))


def _interval(
    variant: Variant, statistics: NDArray[np.float64], seed: int, resamples: int
) -> tuple[float, float] | tuple[None, None]:
    average = _median if variant.average == "median" else _mean
    averages = [average(statistics, draws) for draws in _draws(len(statistics), seed, resamples)]
    low, high = np.percentile(variant.value(np.concatenate(averages)), [2.5, 97.5])
    return (float(low), float(high)) if np.isfinite([low, high]).all() else (None, None)


def _draws(n: int, seed: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Image indices (M, N) of M resamples at a time, drawn with replacement."""
    generator = np.random.default_rng((seed, n))
    size = max(1, _NUM_DRAWS // n)
    for start in range(0, resamples, size):
        yield generator.integers(n, size=(min(size, resamples - start), n))


def _mean(statistics: NDArray[np.float64], draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Means (M, S) of the resampled images, as a product with how often each one was drawn."""
    num_resamples, n = draws.shape
    cells = draws + n * np.arange(num_resamples)[:, np.newaxis]
    times = np.bincount(cells.ravel(), minlength=draws.size).reshape(draws.shape)
    means: NDArray[np.float64] = times @ statistics / n
    return means


def _median(statistics: NDArray[np.float64], draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Medians (M, 1) of the resampled images' single statistic."""
    return np.median(statistics[:, 0][draws], axis=1, keepdims=True)

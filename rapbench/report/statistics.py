"""A metric's values over images with their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

    from rapbench.core.types import Variant

    Undefined = tuple[tuple[str, Callable[[DataFrame], NDArray[np.bool_]]], ...]

_NUM_DRAWS = 2**20
"""Image indices worked on at once: bounds memory."""


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
    """The variant's value over the stored rows, as `estimates` gives it."""
    return estimates({"": variant}, rows, seed=seed, resamples=resamples)[""]


def estimates(
    variants: Mapping[str, Variant], rows: DataFrame, *, seed: int, resamples: int = 1000
) -> dict[str, Estimate]:
    """The variants' values over the stored rows, with 95 % percentile bootstrap intervals over images.

    The draws depend on the seed and the number of images alone: methods that keep the same images are resampled alike.
    All variants of a metric at once cost little more than one: what they share is read and resampled once.

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    return estimates_of(variants, defined(variants.values(), rows), seed=seed, resamples=resamples)


def estimates_of(
    variants: Mapping[str, Variant], samples: Sequence[Defined], *, seed: int, resamples: int = 1000
) -> dict[str, Estimate]:
    """The same of what `defined` found of the rows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = bootstrap(
            list(variants.values()), [sample.statistics for sample in samples], seed=seed, resamples=resamples
        )
        return {
            name: _estimate(variant, sample, values)
            for (name, variant), sample, values in zip(variants.items(), samples, drawn, strict=True)
        }


def _estimate(variant: Variant, sample: Defined, drawn: NDArray[np.float64]) -> Estimate:
    low, high = interval(drawn)
    return Estimate(
        value=value(variant, sample.statistics),
        ci_low=low,
        ci_high=high,
        n=len(sample.statistics),
        n_dropped=sum(sample.dropped.values()),
        dropped=sample.dropped,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Defined:
    """The images for which a variant is defined.

    Attributes:
        positions: (n,) int64, which rows they are.
        statistics: (n, S) float64.
        dropped: reason -> number of the other rows that it drops.
    """

    positions: NDArray[np.int64]
    statistics: NDArray[np.float64]
    dropped: Mapping[str, int]


def defined(variants: Iterable[Variant], rows: DataFrame) -> list[Defined]:
    """What each variant averages; the same object for variants of the same statistics and reasons to drop an image."""

    @cache
    def kept(undefined: Undefined) -> tuple[NDArray[np.int64], DataFrame, dict[str, int]]:
        left, dropped = np.ones(len(rows), dtype=bool), {}
        for reason, holds in undefined:
            hit = left & holds(rows)
            dropped[reason] = int(hit.sum())
            left &= ~hit
        return np.flatnonzero(left), rows if left.all() else rows[left], dropped

    @cache
    def of(statistics: Callable[[DataFrame], NDArray[np.float64]], undefined: Undefined) -> Defined:
        positions, left, dropped = kept(undefined)
        values = statistics(left) if len(left) else np.empty((0, 1))
        finite = np.isfinite(values).all(axis=1)
        counts = dropped | {"undefined": int((~finite).sum())}
        return Defined(
            positions=positions[finite],
            statistics=values[finite],
            dropped={reason: count for reason, count in counts.items() if count},
        )

    with np.errstate(divide="ignore", invalid="ignore"):
        return [of(variant.statistics, tuple(variant.undefined.items())) for variant in variants]


def sound(variant: Variant, rows: DataFrame) -> DataFrame:
    """The rows of the images that a variant does not drop."""
    for holds in variant.undefined.values():
        rows = rows[~holds(rows)] if len(rows) else rows
    return rows


def band(values: NDArray[np.float64], *, seed: int, resamples: int = 1000) -> tuple[NDArray[np.float64], ...]:
    """Ends (L,) and (L,) of the 95 % bootstrap interval of the mean over images of values (n, L), column by column."""
    drawn = _means(values, _times(len(values), seed, resamples))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return low, high


def value(variant: Variant, statistics: NDArray[np.float64]) -> float | None:
    """The variant over images with these statistics (n, S); None without an image or where it is not finite."""
    if not len(statistics):
        return None
    average = np.median(statistics, axis=0) if variant.average == "median" else _mean(statistics)
    found = float(variant.value(average))
    return found if np.isfinite(found) else None


def interval(drawn: NDArray[np.float64]) -> tuple[float, float] | tuple[None, None]:
    """Central 95 % of values (M,) over resamples, where both ends are finite."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return (float(low), float(high)) if np.isfinite([low, high]).all() else (None, None)


def bootstrap(
    variants: Sequence[Variant], samples: Sequence[NDArray[np.float64]], *, seed: int, resamples: int
) -> list[NDArray[np.float64]]:
    """Each variant's values (M,) over resamples of its sample (n, S); not a number with fewer than two images.

    Samples of one size are resampled alike, and one that several variants share only once.
    """
    pairs = list(zip(variants, samples, strict=True))
    averaged = {id(sample): sample for v, sample in pairs if v.average == "mean" and len(sample) > 1}
    means: dict[int, NDArray[np.float64]] = {}
    for n in {len(sample) for sample in averaged.values()}:
        same = {key: sample for key, sample in averaged.items() if len(sample) == n}
        drawn = _means(np.hstack(list(same.values())), _times(n, seed, resamples))
        ends = np.cumsum([sample.shape[1] for sample in same.values()])
        means |= dict(zip(same, np.split(drawn, ends[:-1], axis=1), strict=True))

    def values(variant: Variant, sample: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(sample) < 2:
            return np.full(resamples, np.nan)
        median = variant.average == "median"
        return variant.value(_medians(sample, _times(len(sample), seed, resamples)) if median else means[id(sample)])

    return [values(variant, sample) for variant, sample in pairs]


def joint_bootstrap(
    variants: Sequence[Variant],
    samples: Sequence[NDArray[np.float64]],
    places: Sequence[NDArray[np.int64]],
    *,
    seed: int,
    resamples: int,
) -> NDArray[np.float64]:
    """Each variant's values (M, V) over resamples in which an image is drawn for all samples or for none.

    Not a number where a resample holds no image of a sample.

    Args:
        variants: what is computed of each sample.
        samples: their statistics (n, S); samples may be of different images.
        places: which images a sample is of, (n,), counted from 0 over the images of all.
        seed: of the draws.
        resamples: how many.

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    times = _times(1 + max(int(place.max()) for place in places), seed, resamples)
    averaged = [n for n, variant in enumerate(variants) if variant.average == "mean"]
    means = _joint_means([samples[n] for n in averaged], [places[n] for n in averaged], times)
    found = dict(zip(averaged, means, strict=True))
    return np.stack(
        [
            variant.value(found[n] if n in found else _medians(sample, times.take(place, axis=1)))
            for n, (variant, sample, place) in enumerate(zip(variants, samples, places, strict=True))
        ],
        axis=1,
    )


def _joint_means(
    samples: Sequence[NDArray[np.float64]], places: Sequence[NDArray[np.int64]], times: NDArray[np.uint8]
) -> list[NDArray[np.float64]]:
    """Means (M, S) of each resampled sample (n, S): its sum over how many of its images are drawn."""
    if not samples:
        return []
    centers = [_mean(sample) for sample in samples]
    blocks = [
        _spread(np.c_[sample - center, np.ones(len(sample))], place, times.shape[1])
        for sample, center, place in zip(samples, centers, places, strict=True)
    ]
    ends = np.cumsum([block.shape[1] for block in blocks])
    sums = np.split(_sums(np.hstack(blocks), times), ends[:-1], axis=1)
    return [_shifted(center, one[:, :-1] / one[:, -1:]) for center, one in zip(centers, sums, strict=True)]


def _spread(values: NDArray[np.float64], places: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Values (n, S) with those given at their places, 0 elsewhere."""
    spread = np.zeros((n, values.shape[1]))
    spread[places] = values
    return spread


@lru_cache(maxsize=4)
def _times(n: int, seed: int, resamples: int) -> NDArray[np.uint8]:
    """How often each of n images is drawn in each resample, (M, n): more than 255 times has no measurable chance."""
    times = np.empty((resamples, n), dtype=np.uint8)
    generator = np.random.default_rng((seed, n))
    size = max(1, _NUM_DRAWS // n)
    for start in range(0, resamples, size):
        some = times[start : start + size]
        for row, draws in zip(some, generator.integers(n, size=some.shape), strict=True):
            row[:] = np.bincount(draws, minlength=n)
    return times


def _mean(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean (S,) of statistics (n, S), taken from the lowest up: that of equal values is exactly their value."""
    lowest = statistics.min(axis=0)
    mean: NDArray[np.float64] = lowest + (statistics - lowest).mean(axis=0)
    return mean


def _means(statistics: NDArray[np.float64], times: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Means (M, S) of the resampled statistics (n, S)."""
    n, center = len(statistics), _mean(statistics)
    return _shifted(center, _sums(statistics - center, times) / n)


def _sums(values: NDArray[np.float64], times: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Sums (M, S) of the resampled values (n, S)."""
    sums, size = np.empty((len(times), values.shape[1])), max(1, _NUM_DRAWS // len(values))
    with _pools().limit(limits=1, user_api="blas"):  # products this thin wait longer for a second core than they take
        for start in range(0, len(times), size):
            sums[start : start + size] = times[start : start + size].astype(np.float64) @ values
    return sums


def _shifted(center: NDArray[np.float64], deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means (M, S) that deviate so from their center (S,)."""
    shifted: NDArray[np.float64] = center + deviations
    rounding = 8 * np.finfo(np.float64).eps * np.abs(center)
    return np.where(np.abs(shifted) < rounding, 0, shifted)  # a resample without the few images that are not 0


@cache
def _pools() -> ThreadpoolController:
    """The threads of this process's libraries."""
    return ThreadpoolController()


def _medians(statistics: NDArray[np.float64], times: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Medians (M, 1) of the resampled single statistic (n, 1): the values at which half of the draws are passed.

    Not a number where none of the images is drawn.
    """
    order = statistics[:, 0].argsort()
    values = np.append(statistics[order, 0], np.nan)
    size = max(1, _NUM_DRAWS // len(values))
    parts = (times[start : start + size].take(order, axis=1) for start in range(0, len(times), size))
    medians: NDArray[np.float64] = values[np.concatenate([*map(_middle, parts)])].mean(1, keepdims=True)
    return medians


def _middle(times: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The two places (M, 2), which may be one, at which half of the draws are passed; beyond the end without a draw."""
    passed = times.cumsum(axis=1, dtype=np.int32)
    total = passed[:, -1:]
    halves = np.maximum(total - 1, 0) // 2, total // 2
    return np.stack([(passed <= half).sum(axis=1) for half in halves], axis=1)

"""Ranks of methods over several metrics: how sure they are, and how far the metrics agree."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from rapbench.metrics import is_guard
from rapbench.report.agreement import kendall_tau_b, kendall_w, ranks_among
from rapbench.report.cliques import Separation, separation
from rapbench.report.criteria import Column, Contenders, columns, contenders, resampled
from rapbench.report.paired import resamples_for
from rapbench.report.statistics import interval
from rapbench.results.select import of_one_setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rapbench.report.result import Result
    from rapbench.results.cell import Cell

    Floats = NDArray[np.float64]

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A number with its interval.

    Attributes:
        value: the number.
        ci_low: lower end of the 95 % bootstrap interval over images, None where there is none.
        ci_high: upper end, None where ci_low is.
    """

    value: float
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One headline variant of a metric, by which methods are ranked.

    Attributes:
        metric: as typed, with what tells it from others called so.
        variant: name of the variant.
        direction: 'lower' or 'higher' is better.
        lacking: methods, without controls, that have no value.
        n: images: those for which all methods that have a value have one.
        values: by name, over these images.
        places: rank by name.
        separation: which methods it tells apart; None with fewer than two that have a value, or two images.
    """

    metric: str
    variant: str
    direction: str
    lacking: tuple[str, ...]
    n: int
    values: Mapping[str, float]
    places: Mapping[str, Place]
    separation: Separation | None

    @property
    def counts(self) -> bool:
        """Whether it enters mean ranks: where every method has a value."""
        return not self.lacking and self.separation is not None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far metrics agree on the ranks of methods, without controls.

    Attributes:
        w: Kendall's coefficient of concordance; None with fewer than two metrics, or where none tells methods apart.
        tau_b: Kendall's correlation of every two metrics, without those of which one tells no methods apart.
    """

    w: Place | None
    tau_b: Mapping[tuple[str, str], Place]


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Methods ranked by all metrics of one setting.

    Attributes:
        cell: any of the cells: all are of the same images and network.
        methods: names, the best mean rank first, ties as they were given.
        controls: names, likewise. They are ranked among the methods and move none of them: 1/2 is ahead of all.
        criteria: all headline variants; `counts` says which enter what follows.
        of_metrics: metric that counts -> rank by name: that of the mean rank over the metric's criteria.
        overall: mean rank by name over the metrics, of which each weighs the same; empty where none counts.
        first: share of resamples in which a method's mean rank is the lowest, a tie shared; of a control, in which no
            method's is lower.
        agreement: of the metrics.
        n: images that were resampled.
        resamples: how often.
        lost: resamples that hold no value of some method, left out of all but the ranks by single criteria.
    """

    cell: Cell
    methods: tuple[str, ...]
    controls: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    of_metrics: Mapping[str, Mapping[str, Place]]
    overall: Mapping[str, Place]
    first: Mapping[str, float]
    agreement: Agreement
    n: int
    resamples: int
    lost: int


def ranks(found: Sequence[Result]) -> Ranks | None:
    """Methods ranked by the headline variants of each metric, in their direction; None with fewer than two methods.

    A method's rank for a metric is that of its mean rank over the metric's criteria; its mean rank is over the metrics.
    Values are over the images for which every method has one. A criterion that one method lacks is ranked by itself and
    counts for nothing else: nothing is filled in.

    Intervals and shares are of the bootstrap over images, one draw for all methods and metrics. A resample repeats
    images, which adds noise to ranks that are nearly tied: there the bootstrap is no exact guide, and W and τ tend to
    be lower in resamples than in the images.

    Args:
        found: numbers of one setting.

    Source: Hall and Miller 2009, for the bootstrap of ranks.
    """
    shown = [one for one in found if one.headline is not None and not is_guard(one.cell.identity.metric.name)]
    assert len(of_one_setting(shown, lambda one: one.cell)) <= 1, "numbers of several settings"
    everyone = contenders(shown)
    if everyone.methods.sum() < 2:
        return None
    seed, held = shown[0].cell.identity.seed, list(columns(shown, everyone))
    num_pairs = len(everyone.names) * (len(everyone.names) - 1) // 2
    badness, n = resampled(held, everyone, seed=seed, resamples=resamples_for(num_pairs))
    ranked = ranks_among(badness, everyone.methods)
    criteria = tuple(
        _criterion(column, badness[1:, c], ranked[:, c], everyone, seed=seed) for c, column in enumerate(held)
    )
    return _over_metrics(shown[0].cell, everyone, criteria, ranked, n)


def _over_metrics(cell: Cell, everyone: Contenders, criteria: tuple[Criterion, ...], ranked: Floats, n: int) -> Ranks:
    """What ranks (1 + M, C, J) by criteria, of the images and of resamples, say together."""
    metrics: dict[str, list[int]] = {}
    for c in [c for c, one in enumerate(criteria) if one.counts]:
        metrics.setdefault(criteria[c].metric, []).append(c)
    by_metric = _by_metric(ranked, metrics, everyone)
    whole = np.isfinite(by_metric[..., everyone.methods]).all(axis=(1, 2))
    kept = by_metric[whole]
    means = kept.mean(axis=1) if metrics else np.full((len(kept), len(everyone.names)), np.nan)
    overall = _places(everyone.names, means)
    return Ranks(
        cell=cell,
        methods=_best_first(set(everyone.names) - everyone.controls, everyone, overall),
        controls=_best_first(everyone.controls, everyone, overall),
        criteria=criteria,
        of_metrics={metric: _places(everyone.names, kept[:, g]) for g, metric in enumerate(metrics)},
        overall=overall,
        first={name: share for name, share in _first(means[1:], everyone).items() if name in overall},
        agreement=_agreement(list(metrics), kept[..., everyone.methods]),
        n=n,
        resamples=len(ranked) - 1,
        lost=int((~whole).sum()),
    )


def _criterion(column: Column, drawn: Floats, ranked: Floats, everyone: Contenders, *, seed: int) -> Criterion:
    """A column ranked.

    Args:
        column: the criterion.
        drawn: how bad each method is (M, J), over resamples.
        ranked: ranks (1 + M, J), of the images and of the resamples.
        everyone: the methods.
        seed: of tests.
    """
    values, controls, places = column.scores, everyone.controls, _places(everyone.names, ranked)
    valued = sorted(values, key=lambda name: (places[name].value, everyone.names.index(name)))
    methods = [name for name in valued if name not in controls]
    n = len(column.samples[methods[0]].ids) if methods else 0
    tested = {name: column.samples[name] for name in valued}
    of_names = dict(zip(everyone.names, drawn.T, strict=True))
    is_tested = len(methods) > 1 and n > 1
    return Criterion(
        metric=column.metric,
        variant=column.variant,
        direction=column.definition.direction,
        lacking=tuple(name for name in everyone.names if name not in values and name not in controls),
        n=n,
        values=values,
        places=places,
        separation=separation(column.definition, tested, of_names, controls=controls, seed=seed) if is_tested else None,
    )


def _by_metric(by_criterion: Floats, metrics: Mapping[str, list[int]], everyone: Contenders) -> Floats:
    """Ranks (1 + M, metrics, J) of the mean ranks over each metric's criteria."""
    found = np.empty((len(by_criterion), len(metrics), len(everyone.names)))
    for g, places in enumerate(metrics.values()):
        found[:, g] = ranks_among(by_criterion[:, places].mean(axis=1), everyone.methods)
    return found


def _place(found: Floats) -> Place | None:
    """The first of numbers (1 + M,) with the interval of the others; None where it is not finite."""
    low, high = interval(found[1:]) if len(found) > 1 else (None, None)
    return Place(value=float(found[0]), ci_low=low, ci_high=high) if np.isfinite(found[0]) else None


def _places(called: Sequence[K], found: Floats) -> dict[K, Place]:
    """The same of numbers (1 + M, J), by name."""
    places = {name: _place(some) for name, some in zip(called, found.T, strict=True)}
    return {name: place for name, place in places.items() if place is not None}


def _best_first(called: Collection[str], everyone: Contenders, overall: Mapping[str, Place]) -> tuple[str, ...]:
    """Names by mean rank, those without one last; else in the order in which they were given."""
    given = [name for name in everyone.names if name in called]
    return tuple(sorted(given, key=lambda name: overall[name].value if name in overall else np.inf))


def _first(mean_ranks: Floats, everyone: Contenders) -> dict[str, float]:
    """Share of resamples in which each mean rank (M, J) is no higher than any method's; methods share ties."""
    level = mean_ranks <= mean_ranks[:, everyone.methods].min(axis=1, keepdims=True)
    sharing = level[:, everyone.methods].sum(axis=1, keepdims=True)
    shares = np.where(everyone.methods, level / np.maximum(sharing, 1), level)
    return dict(zip(everyone.names, shares.sum(axis=0) / max(1, len(shares)), strict=True))


def _agreement(metrics: Sequence[str], ranked: Floats) -> Agreement:
    """Of the ranks (1 + M, metrics, methods), the first of the images themselves."""
    pairs = list(combinations(range(len(metrics)), 2))
    if not pairs:
        return Agreement(w=None, tau_b={})
    correlations = np.stack([kendall_tau_b(ranked[:, a], ranked[:, b]) for a, b in pairs], axis=1)
    return Agreement(
        w=_place(kendall_w(ranked)), tau_b=_places([(metrics[a], metrics[b]) for a, b in pairs], correlations)
    )

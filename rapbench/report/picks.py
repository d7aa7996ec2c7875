"""Which images a gallery shows: at fixed percentiles of each method's own ranking, never chosen by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rapbench.core.catalogue import nearest, parse_call
from rapbench.core.errors import UnknownName
from rapbench.methods import is_control
from rapbench.metrics import METRICS, is_guard
from rapbench.report.boxes import image_scores
from rapbench.results.select import names

if TYPE_CHECKING:
    import pandas as pd

    from rapbench.report.result import Result
    from rapbench.results.cell import Cell

PERCENTILES = (0, 2, 5, 50, 95, 98, 100)
"""Ends of the bins of a ranking, best first. Source: Rao et al. 2022, AggAtt."""
_FIRST = (0, 100, 50, 2, 98, 5, 95)
"""The same in the order in which they are taken where not all can be."""


class Pick(NamedTuple):
    """An image at a percentile of a method's ranking."""

    method: str
    percentile: int
    image: str
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """How images are ranked for each method.

    Attributes:
        numbers: by the method's name, the number whose images' scores rank them.
        scores: by the method's name, the score (n,) of each image by its id, best first.
    """

    numbers: Mapping[str, Result]
    scores: Mapping[str, pd.Series[float]]

    @property
    def rule(self) -> str:
        """How images are chosen, in a sentence."""
        by = dict.fromkeys(f"{r.cell.metric}: {r.variant}, {r.direction} is better" for r in self.numbers.values())
        at = ", ".join(map(str, PERCENTILES[:-1]))
        return (
            f"Images are chosen by rule: for each method that is no control, those at percentiles {at} and "
            f"{PERCENTILES[-1]} of its own ranking, best first (the ends of the bins of Rao et al. 2022), ranked by "
            f"{' or '.join(by)}; of equal scores, the image that comes first in the run."
        )


def ranking(found: Iterable[Result], by: str = "") -> Ranking | None:
    """The ranking of a run's images by one metric; None where none gives images scores of their own.

    Args:
        found: the numbers of the run, guards included.
        by: name of a metric, or of a metric and one of its variants, joined by a slash; by default the first that is
            listed.

    Raises:
        UnknownName: the run has no such metric, or it has no such variant of images' own scores.
    """
    scored = _of_images(found)
    metrics = sorted({_metric(r.cell) for r in scored}, key=_place)
    wanted, _, variant = by.partition("/")
    if wanted and wanted not in metrics:
        raise UnknownName(f"no metric {wanted!r} that ranks images: {nearest(wanted, metrics)}")
    chosen = [r for r in scored if _metric(r.cell) == (wanted or metrics[0])]
    variants = list(dict.fromkeys(r.variant for r in chosen))
    if variant and variant not in variants:
        raise UnknownName(f"no variant {variant!r} of {wanted} that ranks images: {nearest(variant, variants)}")
    numbers = leading([r for r in chosen if not variant or r.variant == variant])
    ordered = {name: _ordered(result) for name, result in numbers.items()}
    return Ranking(numbers=numbers, scores=ordered) if ordered else None


def leading(found: Sequence[Result]) -> dict[str, Result]:
    """Of each method the first of some numbers of one metric whose images have scores, headlines first.

    Controls come last.
    """
    ordered = sorted(found, key=lambda r: (r.headline is None, r.headline or 0))
    first: dict[Cell, Result] = {}
    for result in ordered:
        first.setdefault(result.cell, result)
    cells = sorted(dict.fromkeys(result.cell for result in found), key=lambda c: is_control(c.identity.method.name))
    return dict(zip(names(cells), (first[cell] for cell in cells), strict=True))


def by_metric(found: Iterable[Result]) -> dict[str, dict[str, Result]]:
    """Of each metric what `leading` gives, guards left out."""
    scored = _of_images(found)
    metrics = dict.fromkeys(r.cell.metric for r in scored)
    return {metric: leading([r for r in scored if r.cell.metric == metric]) for metric in metrics}


def picks(ranked: Ranking, most: int) -> list[Pick]:
    """The images to show, by method and percentile, as far as there are at most so many different ones.

    What speaks most is taken first: each method's best, worst and median image, then what lies between.
    """
    found = [
        _pick(method, percentile, scores)
        for percentile in _FIRST
        for method, scores in ranked.scores.items()
        if not is_control(ranked.numbers[method].cell.identity.method.name)
    ]
    shown = list(dict.fromkeys(pick.image for pick in found))[:most]
    return [pick for pick in found if pick.image in shown]


def _pick(method: str, percentile: int, scores: pd.Series[float]) -> Pick:
    """The image whose rank is the nearest to a percentile of the ranking."""
    place = round(percentile / 100 * (len(scores) - 1))
    return Pick(method, percentile, str(scores.index[place]), float(scores.iloc[place]))


def _ordered(result: Result) -> pd.Series[float]:
    """The scores of a number's images, best first."""
    scores = image_scores(result)
    assert scores is not None
    return scores.sort_values(ascending=result.direction == "lower", kind="stable")


def _of_images(found: Iterable[Result]) -> list[Result]:
    """Numbers of metrics that score, whose images have scores."""
    scoring = [r for r in found if not is_guard(r.cell.identity.metric.name)]
    return [r for r in scoring if (scores := image_scores(r)) is not None and len(scores)]


def _place(metric: str) -> tuple[int, str]:
    """Where a metric stands among those that are listed; others last."""
    return list(METRICS).index(metric) if metric in METRICS else len(METRICS), metric


def _metric(cell: Cell) -> str:
    return parse_call(cell.metric).name

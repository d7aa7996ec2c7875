"""Which method of a column is best, and which others cannot be told from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rapbench.methods import is_control
from rapbench.report.paired import LEVEL, differs, holm, pair, resamples_for

if TYPE_CHECKING:
    from rapbench.report.result import Result

BEST, ALIKE, UNBEATEN = "*", "~", "!"
LEGEND = (
    f"{BEST} the best method of a column. {ALIKE} a method that cannot be told from it: over the images of both, "
    f"their difference has a p of {LEVEL} or more after Holm for the column, or a few images decide it. "
    f"{UNBEATEN} a control that the best method does not beat."
)


def marks(column: Sequence[Result]) -> dict[Result, str]:
    """What is special about numbers of one variant; numbers without a mark are not listed.

    The best of the methods is compared with every other number of the column, controls included, image by image: by
    Wilcoxon's signed-rank test where images have values of their own, else by the paired bootstrap. A control is never
    the best. Where all numbers are equal none is special.

    Source: Demšar 2006, for the comparison with one method of a table; Holm 1979.
    """
    valued = [result for result in column if result.estimate.value is not None]
    methods = [result for result in valued if not _is_control(result)]
    if not methods or len(set(map(_badness, valued))) == 1:
        return {}
    best = min(methods, key=_badness)
    others = [result for result in valued if result is not best]
    p_values = holm([_p_value(result, best, len(others)) for result in others])
    found = {other: _mark(other, best, p) for other, p in zip(others, p_values, strict=True)}
    return {best: BEST, **{result: mark for result, mark in found.items() if mark}}


def _badness(result: Result) -> float:
    """The lower the better."""
    assert result.estimate.value is not None
    return result.estimate.value if result.direction == "lower" else -result.estimate.value


def _is_control(result: Result) -> bool:
    return is_control(result.cell.identity.method.name)


def _p_value(result: Result, best: Result, comparisons: int) -> float | None:
    both = pair(best.sample, result.sample)
    return differs(best.definition, both, seed=best.cell.identity.seed, resamples=resamples_for(comparisons))


def _mark(result: Result, best: Result, p_value: float | None) -> str:
    alike = p_value is None or p_value >= LEVEL
    if _is_control(result):
        return UNBEATEN if alike or _badness(result) < _badness(best) else ""
    if _badness(result) == _badness(best):
        return BEST
    return ALIKE if alike else ""

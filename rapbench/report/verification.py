"""Stored rows beside the same computed again: how far apart they are, and whether that is rounding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rapbench.core.rows import vectors

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from rapbench.results.cell import Cell

ALIKE, APART = 1e-5, 1e-2
"""What counts as agreement on a processor where code, versions and device are those of the rows, and elsewhere or on a
card: there the order of sums differs, and pixels within rounding of each other change places in the order in which they
are erased."""
_NAMES = frozenset({"index", "id"})
"""Columns that say which image it is; its place differs where others are left out."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where a row that was computed again is the furthest from the stored one.

    Attributes:
        cell: whose row.
        image: its id.
        column: in which they differ most.
        size: of the difference, as a share of the larger of the two values and of the column's median magnitude;
            infinite where only one of the two is a number.
        stored: the value in the store, None where it holds no such column.
        now: the value computed again, None likewise.
        tolerance: up to which it is rounding.
    """

    cell: Cell
    image: str
    column: str
    size: float
    stored: float | None
    now: float | None
    tolerance: float

    @property
    def is_rounding(self) -> bool:
        """Whether the rows agree."""
        return self.size <= self.tolerance

    def __str__(self) -> str:
        where = f"{self.column} of {self.cell.method} by {self.cell.metric}, image {self.image}"
        return f"{self.size:.1e} ({where}: {_shown(self.stored)} stored, {_shown(self.now)} now)"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What came of computing rows of a run again.

    Attributes:
        title: of the run.
        asked: which share, as typed.
        num_rows: how many the run has.
        rows: of each that was computed again, its difference.
        lacking: by reason, how many rows of which methods by which metrics could not be computed again.
        elsewhere: what computed the rows, and what computed them again, as far as that is not the same.
    """

    title: str
    asked: str
    num_rows: int
    rows: Sequence[Difference]
    lacking: Mapping[str, Mapping[tuple[str, str], int]] = field(default_factory=dict)
    elsewhere: tuple[str, str] | None = None

    @property
    def differing(self) -> list[Difference]:
        """Rows that differ by more than rounding, the furthest first."""
        return sorted((row for row in self.rows if not row.is_rounding), key=lambda row: -row.size)

    def lines(self) -> Iterator[str]:
        """It in words."""
        count = len(self.rows)
        verdict = f"{len(self.differing)} of them differ" if self.differing else "all agree" if count else "none"
        yield f"{self.title}: {count} of {self.num_rows} rows computed again (--verify {self.asked}): {verdict}."
        if self.rows:
            greatest = max(self.rows, key=lambda row: row.size)
            yield f"The greatest difference is {greatest}." if greatest.size else "They are equal to the last bit."
            yield self._measure()
        for row in self.differing[1:_LISTED]:
            yield f"Another difference is {row}."
        for reason, cells in self.lacking.items():
            yield f"Not computed again, {sum(cells.values())} rows of {len(cells)} cells ({_named(cells)}): {reason}."

    def _measure(self) -> str:
        measure = "as a share of the larger value and of the column's median magnitude"
        if self.elsewhere is None:
            tolerance = max(row.tolerance for row in self.rows)
            card = ", whose kernels round otherwise from run to run" if tolerance == APART else ""
            return f"Rows agree up to {tolerance:.0e}, {measure}: versions and device are those of the store{card}."
        stored, now = self.elsewhere
        return (
            f"The store's rows are of {stored}, these of {now}: of other code, versions or another machine, rows agree "
            f"up to {APART:.0e}, {measure}."
        )


def _named(cells: Iterable[tuple[str, str]]) -> str:
    """Methods and metrics, each once as far as all of some methods are with all of some metrics."""
    methods: dict[str, list[str]] = {}
    for method, metric in cells:
        methods.setdefault(metric, []).append(method)
    metrics: dict[tuple[str, ...], list[str]] = {}
    for metric, some in methods.items():
        metrics.setdefault(tuple(some), []).append(metric)
    return "; ".join(f"{', '.join(some)} by {', '.join(by)}" for some, by in metrics.items())


_LISTED = 10
"""Differences that are listed."""


def differences(cell: Cell, stored: pd.DataFrame, now: pd.DataFrame, tolerance: float) -> Iterator[Difference]:
    """The greatest difference of each row that was computed again.

    Args:
        cell: whose rows.
        stored: all that the store holds.
        now: those computed again, of some of the same images.
        tolerance: up to which a difference is rounding.
    """
    columns = [name for name in dict.fromkeys((*stored, *now)) if name not in _NAMES]
    places = stored["id"].to_numpy().tolist()
    before = stored.iloc[[places.index(image) for image in now["id"]]]
    gaps = {name: _gaps(stored, before, now, name) for name in columns}
    for n, image in enumerate(now["id"]):
        name = max(gaps, key=lambda one: float(gaps[one][n].max(initial=0)))
        place = int(gaps[name][n].argmax())
        old, new = (_value(rows, name, n, place) for rows in (before, now))
        size = float(gaps[name][n][place])
        yield Difference(cell=cell, image=str(image), column=name, size=size, stored=old, now=new, tolerance=tolerance)


def _gaps(stored: pd.DataFrame, before: pd.DataFrame, now: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """The differences (N, L) in a column, as shares."""
    infinite = np.full((len(now), 1), np.inf)
    if name not in before or name not in now:
        return infinite
    old, new, whole = (_numbers(rows, name) for rows in (before, now, stored))
    if old.shape != new.shape:
        return infinite
    magnitudes = np.abs(whole[np.isfinite(whole)])
    usual = float(np.median(magnitudes)) if len(magnitudes) else 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.abs(new - old) / np.maximum(np.maximum(np.abs(old), np.abs(new)), usual)
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    return np.where(same, 0.0, np.where(np.isfinite(shares), shares, np.inf))


def _value(rows: pd.DataFrame, name: str, row: int, place: int) -> float | None:
    if name not in rows:
        return None
    numbers = _numbers(rows, name)
    return float(numbers[row, min(place, numbers.shape[1] - 1)])


def _numbers(rows: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """A column of numbers or of vectors as (N, L)."""
    if rows[name].dtype == object:
        return vectors(rows, name)
    return rows[[name]].to_numpy(dtype=np.float64)


def _shown(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"

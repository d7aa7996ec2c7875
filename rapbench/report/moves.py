"""Numbers of two results folders side by side: what moved beyond its interval, and what only one of them holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rapbench.core.errors import BadConfig
from rapbench.report.baseline import TOLERANCES
from rapbench.report.paired import Difference, Pair, difference, pair, unpaired
from rapbench.report.result import Result, Scored
from rapbench.report.statistics import value

if TYPE_CHECKING:
    from rapbench.results.cell import Cell

_ROUNDING = TOLERANCES[-1]
"""What float32 leaves open of any number."""
WITHIN = "within its interval"
_VERSION = "rapbench"
"""The part of a setting that may differ in any case."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Move:
    """A number that two folders hold.

    Attributes:
        before: as the first folder has it.
        after: as the second has it.
    """

    before: Result
    after: Result

    @cached_property
    def _common(self) -> Pair:
        """The statistics of the images that both have."""
        return pair(self.after.sample, self.before.sample)

    @property
    def is_paired(self) -> bool:
        """Whether both have values of the same images."""
        return len(self._common.ours) > 0

    @property
    def _both(self) -> Pair:
        """What is averaged after and before: of the images that both have, where there are some."""
        each = Pair(self.after.sample.statistics, self.before.sample.statistics)
        return self._common if self.is_paired else each

    @cached_property
    def numbers(self) -> tuple[float | None, float | None]:
        """Before and after, of the images that both have, where there are some."""
        after, before = self._both
        return value(self.before.definition, before), value(self.after.definition, after)

    @property
    def counts(self) -> tuple[int, int]:
        """Images that the values rest on, before and after."""
        return len(self._both.theirs), len(self._both.ours)

    @cached_property
    def difference(self) -> Difference | None:
        """After minus before, image by image where both have the same; None where there are not two values."""
        if None in self.numbers:
            return None
        of_two = difference if self.is_paired else unpaired
        return of_two(self.after.definition, self._both, seed=self.after.cell.identity.seed)

    @property
    def is_unchanged(self) -> bool:
        """Whether the number is within rounding of what it was, or there is none on either side."""
        before, after = self.numbers
        if before is None or after is None:
            return before is after
        return abs(after - before) <= _ROUNDING.absolute + _ROUNDING.relative * abs(before)

    @property
    def verdict(self) -> str:
        """In a word: same, within its interval, better or worse; defined or undefined where only one has a value."""
        before, after = self.numbers
        if self.is_unchanged:
            return "same"
        if before is None or after is None:
            return "defined" if before is None else "undefined"
        assert self.difference is not None
        low, high = self.difference.ci_low, self.difference.ci_high
        if low is None or high is None or low <= 0 <= high:
            return WITHIN
        return "better" if (after < before) == (self.after.direction == "lower") else "worse"

    @property
    def has_moved(self) -> bool:
        """Whether it is another number than it was, as far as its images can tell."""
        return self.verdict not in {"same", WITHIN}


@dataclass(frozen=True, kw_only=True, eq=False)
class Moves:
    """Two results folders side by side.

    Attributes:
        both: numbers that both hold.
        only_before: cells that only the first holds.
        only_after: cells that only the second holds.
    """

    both: tuple[Move, ...]
    only_before: tuple[Cell, ...]
    only_after: tuple[Cell, ...]

    @property
    def moved(self) -> tuple[Move, ...]:
        """Those that moved."""
        return tuple(move for move in self.both if move.has_moved)

    @property
    def verdicts(self) -> Mapping[str, int]:
        """How many numbers there are of each verdict."""
        return Counter(move.verdict for move in self.both)


def moves(
    before: Sequence[Scored], after: Sequence[Scored], *, ignored: frozenset[str] = frozenset(), headline: bool = True
) -> Moves:
    """The numbers of two folders, matched by all that they depend on but the version of the package.

    Args:
        before: cells of the first folder.
        after: cells of the second.
        ignored: what else of a setting may differ, as `Identity.setting` names it.
        headline: whether only the variants that tables show are taken.

    Raises:
        BadConfig: a folder holds two cells that differ in nothing else.
    """
    one, other = (_by_key(cells, ignored) for cells in (before, after))
    return Moves(
        both=tuple(move for key in one if key in other for move in _moves(one[key], other[key], headline)),
        only_before=tuple(cell.cell for key, cell in one.items() if key not in other),
        only_after=tuple(cell.cell for key, cell in other.items() if key not in one),
    )


def apart(before: Sequence[Scored], after: Sequence[Scored]) -> dict[str, tuple[str, str]]:
    """What keeps the cells of two folders apart: parts of settings that have no value in common, with their values."""
    one, other = ([scored.cell.identity.setting() for scored in cells] for cells in (before, after))
    keys = dict.fromkeys(key for setting in (*one, *other) for key in setting if key != _VERSION)
    values = {key: [{setting.get(key, "") for setting in settings} for settings in (one, other)] for key in keys}
    return {
        key: (", ".join(sorted(ours)), ", ".join(sorted(theirs)))
        for key, (ours, theirs) in values.items()
        if ours.isdisjoint(theirs)
    }


def _by_key(cells: Sequence[Scored], ignored: frozenset[str]) -> dict[str, Scored]:
    found: dict[str, Scored] = {}
    for scored in cells:
        key = _key(scored.cell, ignored)
        if key in found:
            raise BadConfig(
                f"one folder holds {scored.cell.folder} and {found[key].cell.folder}, which would be one number: "
                "narrow by what they differ in, or keep them in folders of their own"
            )
        found[key] = scored
    return found


def _key(cell: Cell, ignored: frozenset[str]) -> str:
    own = cell.identity
    setting = {key: text for key, text in own.setting().items() if key not in {_VERSION, *ignored}}
    return json.dumps([setting, asdict(own.method), asdict(own.metric)], sort_keys=True)


def _moves(before: Scored, after: Scored, headline: bool) -> Iterator[Move]:
    shown = [(v, one) for v, one in after.results.items() if one.headline is not None or not headline]
    for variant, result in sorted(shown, key=lambda pair: (pair[1].headline is None, pair[1].headline or 0)):
        yield Move(before=before.results[variant], after=result)

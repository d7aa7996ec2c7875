"""What printed segmentation scores imply by themselves, whatever produced them. Scores are in percent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import NamedTuple

from rapbench.papers.card import Table
from rapbench.papers.comparison import Panel
from rapbench.report.formats import number

COIN_FLIP = 3.0
"""A pixel accuracy so close to 50 is called a coin flip."""


class IoUs(NamedTuple):
    """Intersections over unions of the two classes, the smaller first."""

    smaller: float
    larger: float


class Pair(NamedTuple):
    """A row's published pixel accuracy and mIOU on one data set."""

    title: str
    accuracy: float
    miou: float


def class_ious(accuracy: float, miou: float) -> IoUs | None:
    """The two classes' IoU behind an accuracy and a mean IoU over the same pixels; None where no mask has both.

    With a share e of wrong pixels, a class that has the share u of the pixels in map or mask has IoU 1 - e/u. Which is
    which the scores do not tell: the foreground is the smaller one wherever objects cover less than the background.
    """
    unions = _unions(accuracy, miou)
    if unions is None:
        return None
    smaller, larger = (100 - (100 - accuracy) / union for union in unions)
    return IoUs(smaller, larger)


def shares(accuracy: float, miou: float) -> tuple[float, float] | None:
    """Least and greatest share of the pixels that the class of the smaller IoU can have in the mask; None as above.

    Its true positives are its union without the wrong pixels, and of the wrong ones it misses none to all.
    """
    unions = _unions(accuracy, miou)
    return unions and (unions[0] - (1 - accuracy / 100), unions[0])


def _unions(accuracy: float, miou: float) -> tuple[float, float] | None:
    """Each class's share of the pixels in map or mask: they sum to 1 + e, and the mean IoU fixes their product."""
    wrong = 1 - accuracy / 100
    product = wrong * (1 + wrong) / (2 - miou / 50)
    discriminant = (1 + wrong) ** 2 - 4 * product
    if discriminant < 0:
        return None
    return (1 + wrong - sqrt(discriminant)) / 2, (1 + wrong + sqrt(discriminant)) / 2


def coin_flip_share(miou: float) -> float | None:
    """The smaller class's share of the pixels at which a coin flip has that mean IoU; None where at none.

    With a share p of foreground a coin flip has IoU p/(1 + p) there and (1 - p)/(2 - p) in the background.
    """
    discriminant = 9 - 6 / (1 - miou / 100)
    return (1 - sqrt(discriminant)) / 2 if 0 <= discriminant <= 1 else None


def paragraphs(table: Table, panels: Sequence[Panel]) -> Iterator[str]:
    """What the published numbers of a table imply, and how that compares with what was measured."""
    pairs = {accuracy.column.part.published_for: _pairs(table, accuracy, miou) for accuracy, miou in _scored(panels)}
    for accuracy, miou in _scored(panels):
        where = accuracy.column.part.published_for
        yield _foregrounds(where, pairs[where])
        for pair in pairs[where]:
            if abs(pair.accuracy - 50) <= COIN_FLIP and (share := coin_flip_share(pair.miou)):
                yield _coin_flip(where, pair, share, pairs[where])
        yield from _trivial(accuracy, miou)
    yield from _thresholds(pairs)


def _scored(panels: Sequence[Panel]) -> list[tuple[Panel, Panel]]:
    """The columns of pixel accuracy and of mIOU that belong together."""
    return [
        (one, other)
        for one in panels
        for other in panels
        if one.column.part.published_for == other.column.part.published_for
        and one.column.variant.startswith("pixel_accuracy@")
        and other.column.variant == one.column.variant.replace("pixel_accuracy", "miou")
    ]


def _pairs(table: Table, accuracy: Panel, miou: Panel) -> list[Pair]:
    both = [row for row in table.rows if row.name in accuracy.column.published and row.name in miou.column.published]
    return [Pair(row.title, accuracy.column.published[row.name], miou.column.published[row.name]) for row in both]


def _foregrounds(where: str, pairs: Sequence[Pair]) -> str:
    told = []
    for pair in pairs:
        ious = class_ious(pair.accuracy, pair.miou)
        scores = f"{pair.title} {pair.accuracy:.2f}/{pair.miou:.2f}"
        told.append(f"{scores}: {f'{ious.smaller:.1f} and {ious.larger:.1f}' if ious else 'no mask has both'}")
    return (
        f"{where}: accuracy and mIOU, if both are of all pixels of the data set together, imply the IoU of foreground "
        f"and background (foreground first, as the smaller class): {'; '.join(told)}.{_allowed(pairs)}"
    )


def _allowed(pairs: Sequence[Pair]) -> str:
    """Which shares of foreground agree with every row."""
    bounds = [found for pair in pairs if (found := shares(pair.accuracy, pair.miou))]
    if not bounds:
        return ""
    low, high = max(low for low, _ in bounds), min(high for _, high in bounds)
    if low > high:
        return " No share of foreground agrees with all of them: they were not counted over the same pixels."
    return f" They agree for objects that cover {low:.3f} to {high:.3f} of the pixels."


def _coin_flip(where: str, pair: Pair, share: float, pairs: Sequence[Pair]) -> str:
    background = 100 * (1 - share)
    best = max(pairs, key=lambda other: other.accuracy)
    return (
        f"{where}: {pair.title} with {pair.accuracy:.2f}/{pair.miou:.2f} is close to a coin flip, whose mIOU would "
        f"imply that objects cover {share:.3f} of the pixels. A map that finds nothing would then score "
        f"{background:.1f}/{background / 2:.1f}; the best published accuracy is {best.title}'s {best.accuracy:.2f}."
    )


def _trivial(accuracy: Panel, miou: Panel) -> Iterator[str]:
    """What finding nothing scored here."""
    for one, other in zip(accuracy.entries, miou.entries, strict=True):
        if one.row.name == "all_background" and one.value is not None and other.value is not None:
            yield (
                f"{accuracy.part.dataset}: a map that finds nothing scores {number(one.value)}/{number(other.value)} "
                "here (pixel accuracy/mIOU, measured)."
            )


def _thresholds(pairs: dict[str, list[Pair]]) -> Iterator[str]:
    """Methods whose printed accuracy is a coin flip on one data set and far from it on another."""
    for where, found in pairs.items():
        flips = {pair.title for pair in found if abs(pair.accuracy - 50) <= COIN_FLIP}
        for other, others in pairs.items():
            far = [pair for pair in others if pair.title in flips and abs(pair.accuracy - 50) > 3 * COIN_FLIP]
            if far:
                told = " and ".join(f"{pair.title} ({pair.accuracy:.2f})" for pair in far)
                yield (
                    f"{other}: {told} cannot be thresholded at zero as in {where}, where the same maps come out as a "
                    "coin flip: compare the readings @mean, @mean_pos and @mean_abs."
                )

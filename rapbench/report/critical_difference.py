"""Critical-difference diagrams: mean ranks over images on a line, with bars across methods that are not told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from rapbench.report.figures import Drawing, colour, styled
from rapbench.report.formats import number, printable
from rapbench.report.ranks import Criterion, Ranks, ranks
from rapbench.report.result import measured_on, results
from rapbench.results.select import method_of, of_one_setting, telling

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rapbench.report.cliques import Separation
    from rapbench.results.store import Held

_WIDTH_INCHES, _LINE_INCHES = 5.0, 0.17


@dataclass(frozen=True, kw_only=True)
class CriticalDifference:
    """Which methods each metric tells apart image by image, of whatever the store holds.

    There is a drawing for each network on each data set, and in it a diagram for each variant whose images have values
    of their own: mean ranks over images among the methods, bars across those that are not told apart. A bar passes
    over a method without a dot on it that is told apart from one of the others.

    Source: Demšar 2006, Figure 1.
    """

    metric: ClassVar[str] = ""

    def __call__(self, held: Sequence[Held]) -> list[Drawing]:
        settings = of_one_setting([one for one in held if not one.cell.is_study], lambda one: one.cell)
        cells = [some[0].cell for some in settings]
        drawings = []
        for some, cell in zip(settings, cells, strict=True):
            found = ranks([result for one in some for result in results(one)])
            if found and drawn(found):
                drawings.append(_drawing(found, "_".join(value for _, value in telling(cell, cells))))
        return drawings


def drawn(found: Ranks) -> dict[str, tuple[Criterion, Separation]]:
    """The variants whose images have values of their own, by the title of a diagram, with what each tells apart."""
    diagrams = [(one, told) for one in found.criteria if (told := _separation(one))]
    return {_title(one, told): (one, told) for one, told in diagrams}


def points(found: Ranks) -> pd.DataFrame:
    """A row a method of each diagram."""
    return pd.DataFrame(point for one, told in drawn(found).values() for point in _points(found, one, told))


def notes(found: Ranks) -> tuple[str, ...]:
    """What is not drawn."""
    left = [one for one in found.criteria if not _separation(one)]
    return tuple(f"{one.metric} {one.variant} is not drawn: no single image has a value" for one in left)


def bars(told: Separation) -> list[tuple[str, ...]]:
    """The groups in which no two methods are told apart, but for methods that are alone."""
    return [clique for clique in told.cliques if len(clique) > 1]


def _separation(criterion: Criterion) -> Separation | None:
    """What a criterion tells apart, where images have values of their own."""
    return criterion.separation if criterion.separation and criterion.separation.of_images else None


def _drawing(found: Ranks, suffix: str) -> Drawing:
    with styled():
        return Drawing(suffix=suffix, figure=_figure(found), points=points(found), notes=notes(found))


def _points(found: Ranks, criterion: Criterion, told: Separation) -> Iterator[dict[str, Any]]:
    """A row a method."""
    fixed = {key: value for key, value in measured_on(found.cell).items() if key not in {"method", "backend", "key"}}
    for name, rank in told.image_ranks.items():
        yield {
            **fixed,
            "metric": criterion.metric,
            "variant": criterion.variant,
            "direction": criterion.direction,
            "method": name,
            "image_rank": rank,
            "letters": told.letters[name],
            "n": criterion.n,
            "friedman_p": told.friedman_p,
        }


def _figure(found: Ranks) -> Figure:
    """A diagram below the other."""
    from matplotlib.figure import Figure  # a page draws diagrams without it

    diagrams = drawn(found)
    heights = [_LINE_INCHES * (_num_lines(told) + 4) for _, told in diagrams.values()]
    figure = Figure(figsize=(_WIDTH_INCHES, sum(heights) + 2 * _LINE_INCHES), layout="constrained")
    grid = figure.subplots(len(heights), squeeze=False, height_ratios=heights)
    for axes, (title, (_, told)) in zip(grid.flat, diagrams.items(), strict=True):
        _draw(axes, told, frozenset(found.controls))
        axes.set_title(title)
    figure.suptitle(printable(f"{found.cell.dataset}, {found.cell.model_title}: mean rank over images"), fontsize=8)
    return figure


def _title(criterion: Criterion, told: Separation) -> str:
    friedman = "" if told.friedman_p is None else f", Friedman p = {number(told.friedman_p)}"
    text = f"{criterion.metric}: {criterion.variant} ({criterion.direction}), {criterion.n} images{friedman}"
    return printable(text)


def _num_lines(told: Separation) -> int:
    """Lines of text below the axis: bars, then the names of half the methods."""
    return len(bars(told)) + (len(told.names) + 1) // 2


def _draw(axes: Axes, told: Separation, controls: frozenset[str]) -> None:
    """One diagram: the better half of the names stands on the left, the other on the right; controls are grey."""
    from matplotlib.ticker import MaxNLocator

    ordered = sorted(told.image_ranks, key=lambda name: (told.image_ranks[name], name))
    lowest, highest = 0.5, 0.5 + sum(name not in controls for name in ordered)
    groups = bars(told)
    for level, clique in enumerate(groups, 1):
        places = [told.image_ranks[name] for name in clique]
        axes.plot([min(places), max(places)], [-level, -level], color="0.2", linewidth=1.8, solid_capstyle="butt")
        axes.plot(places, [-level] * len(places), "o", color="0.2", markersize=3)
    half = (len(ordered) + 1) // 2
    for n, name in enumerate(ordered):
        place, left = told.image_ranks[name], n < half
        height = -len(groups) - 1 - (n if left else len(ordered) - 1 - n)
        end, look = lowest if left else highest, colour(method_of(name))
        axes.plot([place, place, end], [0, height, height], color=look, linewidth=0.7, zorder=1)
        axes.plot([place], [0], "o", color=look, markersize=3, clip_on=False)
        aligned: dict[str, Any] = {"ha": "right" if left else "left", "va": "center", "fontsize": 7, "color": look}
        axes.text(end, height, printable(f" {name} ({place:.2f}) "), **aligned)
    axes.set_xlim(lowest, highest)
    axes.set_ylim(-_num_lines(told) - 0.5, 0)
    axes.xaxis.set_ticks_position("top")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_visible(False)
    axes.spines[["left", "right", "bottom"]].set_visible(False)

"""Box plots of digit conversion, and digits with the pixels that each method would erase."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rapbench.metrics.digit_conversion import DigitConversion, Pair, drops
from rapbench.report.figures import Drawing, bare, called, colour, styled
from rapbench.report.formats import printable
from rapbench.report.result import measured_on
from rapbench.report.statistics import estimate, sound
from rapbench.report.tables import heading
from rapbench.results.select import Group, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from rapbench.results.store import Held

_ORDER = ("guided_backprop", "gradient", "input_gradient", "integrated_gradients")
"""Methods that the paper compares with, in its order; others, DeepLIFT last, stand behind them."""
_MOST_PANELS = 6
_TITLE_WIDTH = 18
_LEAST_INCHES, _LETTER_INCHES = 2.4, 0.065
_RED = (0.65, 0.08, 0.05)
"""Of pixels that go."""


@dataclass(frozen=True, kw_only=True)
class Figure4:
    """Box plots of the drop of the log-odds: a panel a pair of digits, a box a method, notched at its interval.

    With more than six pairs there is one panel, of the pairs' medians.

    Source: Shrikumar et al. 2017, Figure 4, bottom.
    """

    metric: ClassVar[str] = "digit_conversion"

    def __call__(self, held: Sequence[Held]) -> list[Drawing]:
        groups = sorted(grouped(ordered(held), lambda one: one.cell), key=_suffix)
        found = [_drawing(group, "" if len(groups) == 1 else _suffix(group)) for group in groups]
        return [drawing for drawing in found if len(drawing.points)]


def _drawing(group: Group[Held], suffix: str) -> Drawing:
    points = [_points(one) for one in group.members]
    drawn = [one for one, numbers in zip(group.members, points, strict=True) if len(numbers)]
    missing = tuple(f"{called(one.cell)} has no defined image" for one in group.members if one not in drawn)
    table = pd.concat(points, ignore_index=True)
    figure = _boxes(drawn, table, printable(heading(group))) if drawn else Figure()
    return Drawing(suffix=suffix, figure=figure, points=table, notes=missing)


def _suffix(group: Group[Held]) -> str:
    parts = (group.cell.dataset, group.cell.model_title, group.cell.metric, group.remark)
    return "_".join(filter(None, parts))


def ordered(held: Sequence[Held]) -> list[Held]:
    """In the order in which the figure shows methods."""
    return sorted(held, key=_place)


def _place(held: Held) -> tuple[bool, int, int, str]:
    name, label = held.cell.identity.method.name, called(held.cell)
    place = _ORDER.index(name) if name in _ORDER else len(_ORDER)
    return name.startswith("deeplift"), place, len(label), label


def _wrapped(name: str) -> str:
    return textwrap.fill(name, _TITLE_WIDTH, break_long_words=False)


def _metric(held: Held) -> DigitConversion:
    return DigitConversion(**held.cell.identity.metric.parameters)


def _points(held: Held) -> pd.DataFrame:
    """A row a pair of digits: the median with its interval, the mean, quartiles, and the share of flipped images."""
    cell = held.cell
    variants = _metric(held).variants(signed=cell.signed)
    rows = []
    for pair in _metric(held).conversions:
        median, mean, flipped = (
            estimate(variants[name], held.rows.frame, seed=cell.identity.seed)
            for name in (f"log_odds@{_name(pair)}", f"log_odds@{_name(pair)}:mean", f"flipped@{_name(pair)}")
        )
        if median.n:
            low, high = np.percentile(_drops(held, pair), [25, 75])
            ends = {"ci_low": median.ci_low, "ci_high": median.ci_high, "q1": low, "q3": high}
            means = {"mean": mean.value, "mean_ci_low": mean.ci_low, "mean_ci_high": mean.ci_high}
            numbers = {"median": median.value, **ends, **means, "flipped": flipped.value}
            told = {**measured_on(cell), "model_title": cell.model_title, "name": called(cell)}
            rows.append({**told, "pair": _name(pair), "n": median.n, **numbers})
    return pd.DataFrame(rows)


def _name(pair: Pair) -> str:
    return f"{pair[0]}-{pair[1]}"


def _drops(held: Held, pair: Pair) -> NDArray[np.float64]:
    """D (N,) of the images that count for a pair."""
    rows = sound(_metric(held).variants(signed=held.cell.signed)[f"log_odds@{_name(pair)}"], held.rows.frame)
    values = drops(rows, pair) if len(rows) else np.empty(0)
    return values[np.isfinite(values)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Panel:
    """Boxes side by side: the values of each, and the ends of its notch; no notches where there are no ends."""

    title: str
    boxes: list[NDArray[np.float64]]
    notches: list[tuple[float, float]] | None


def _panels(group: Sequence[Held], points: pd.DataFrame) -> list[_Panel]:
    pairs = _metric(group[0]).conversions
    values = {pair: [_drops(one, pair) for one in group] for pair in pairs}
    values = {pair: boxes for pair, boxes in values.items() if all(map(len, boxes))}
    if len(pairs) <= _MOST_PANELS:
        return [_pair_panel(pair, boxes, points) for pair, boxes in values.items()]
    medians = np.array([[np.median(box) for box in boxes] for boxes in values.values()])
    return [_Panel(title=f"medians of {len(medians)} pairs of digits", boxes=list(medians.T), notches=None)]


def _pair_panel(pair: Pair, boxes: list[NDArray[np.float64]], points: pd.DataFrame) -> _Panel:
    """The notches are the intervals of the points."""
    own = points[points["pair"] == _name(pair)]
    ends = own[["ci_low", "ci_high"]].fillna(own["median"].to_frame("ci_low").assign(ci_high=own["median"]))
    title = f"{pair[0]} → {pair[1]}, n = {len(boxes[0])}"
    return _Panel(title=title, boxes=boxes, notches=[(low, high) for low, high in ends.to_numpy(np.float64)])


def _boxes(group: Sequence[Held], points: pd.DataFrame, title: str) -> Figure:
    panels, names = _panels(group, points), [called(one.cell).replace(" (", "\n(") for one in group]
    colours = [colour(one.cell.identity.method.name) for one in group]
    with styled():
        figure = Figure(figsize=(max(0.36 * len(group) * len(panels) + 1, _LEAST_INCHES), 3.6), layout="constrained")
        figure.suptitle(textwrap.fill(title, int(figure.get_figwidth() / _LETTER_INCHES)), fontsize=8)
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            _draw(axes, panel, colours)
            axes.set_title(panel.title)
            axes.set_xticks(range(1, len(names) + 1), names, rotation=60, ha="right", rotation_mode="anchor")
        grid[0].set_ylabel("drop of the log-odds\nof the original class")
    return figure


def _draw(axes: Axes, panel: _Panel, colours: list[str]) -> None:
    thin = {"linewidth": 0.7}
    drawn = axes.boxplot(
        panel.boxes,
        notch=panel.notches is not None,
        conf_intervals=panel.notches,
        widths=0.7,
        patch_artist=True,
        boxprops=thin,
        whiskerprops=thin,
        capprops=thin,
        medianprops={"color": "black", "linewidth": 1.2},
        flierprops={"marker": ".", "markersize": 1.5, "markeredgecolor": "0.5"},
    )
    for patch, own in zip(drawn["boxes"], colours, strict=True):
        patch.set(facecolor=own, alpha=0.7)
    axes.axhline(0, color="0.5", linewidth=0.6, zorder=0)
    bare(axes)


@dataclass(frozen=True, kw_only=True)
class MaskedDigit:
    """What one method makes of one image.

    Attributes:
        title: of the method.
        scores: (H, W) relevance for each digit.
        erased: (H, W) bool, which pixels go for each pair.
        drops: what that takes from the log-odds.
    """

    title: str
    scores: Mapping[int, NDArray[np.float64]]
    erased: Mapping[Pair, NDArray[np.bool_]]
    drops: Mapping[Pair, float]


def masked_digits(image: NDArray[np.float64], methods: Sequence[MaskedDigit], title: str) -> Figure:
    """A column a method, after the image itself: erased pixels in red for each pair, then relevance for each digit.

    Relevance goes from blue by white (zero) to red, on one scale a method.

    Args:
        image: (H, W) in [0, 1].
        methods: all of the same pairs and digits.
        title: network and data.

    Source: Shrikumar et al. 2017, Figure 4, top.
    """
    pairs, digits = list(methods[0].erased), list(methods[0].scores)
    num_rows = len(pairs) + len(digits)
    with styled():
        figure = Figure(figsize=(0.95 * (len(methods) + 1), 1.0 * num_rows + 0.6), layout="constrained")
        figure.suptitle(textwrap.fill(title, int(figure.get_figwidth() / _LETTER_INCHES)), fontsize=8)
        grid = figure.subplots(num_rows, len(methods) + 1, squeeze=False)
        for axes in grid.flat:
            axes.set_xticks([])
            axes.set_yticks([])
        _first_column(grid[:, 0], image, [*(f"{o} → {t}" for o, t in pairs), *(f"for {k}" for k in digits)])
        for column, method in zip(grid[:, 1:].T, methods, strict=True):
            _column(column, image, method)
    return figure


def _first_column(column: NDArray[np.object_], image: NDArray[np.float64], names: list[str]) -> None:
    for axes, name in zip(column, names, strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_ylabel(name)
    column[0].set_title("image")


def _column(column: NDArray[np.object_], image: NDArray[np.float64], method: MaskedDigit) -> None:
    column[0].set_title(_wrapped(method.title), fontsize=6.5)
    for axes, (pair, gone) in zip(column, method.erased.items(), strict=False):
        tint: Any = np.where(gone[..., None], _RED, (1.0, 1.0, 1.0))
        axes.imshow(image[..., None] * tint)
        axes.set_xlabel(f"D = {method.drops[pair]:.1f}", fontsize=6.5, labelpad=2)
    largest = max(float(np.abs(scores).max()) for scores in method.scores.values()) or 1.0
    for axes, scores in zip(column[len(method.erased) :], method.scores.values(), strict=True):
        axes.imshow(scores, cmap="seismic", vmin=-largest, vmax=largest)

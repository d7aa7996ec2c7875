"""Curves over images against what has been erased, one a method, with their bands."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from scipy.special import bdtr, bdtrik  # scipy.stats takes longer to import than most figures to draw

from rapbench.core.catalogue import parse_call
from rapbench.core.rows import vectors
from rapbench.methods import METHODS, is_control
from rapbench.metrics import METRICS
from rapbench.models import MODELS
from rapbench.report.figures import GREY, Drawing, bare, called, colour, place, styled
from rapbench.report.formats import printable
from rapbench.report.result import measured_on
from rapbench.report.statistics import sound
from rapbench.results.select import Group, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from rapbench.results.cell import Cell
    from rapbench.results.store import Held

_DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)))
_MARKERS = "os^DvPX*<>p"
_GREY_DASHES: tuple[Any, ...] = ((0, (4, 2)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (2, 1, 2, 3)), (0, (8, 3)))
_COLUMN_INCHES = 3.3
"""Width of a column of a two-column page; a figure of two panels takes both columns."""
_HANDLE_INCHES, _LETTER_INCHES = 0.45, 0.055
"""Width of a line in the legend, and of a letter behind it."""
_TITLE_LETTERS = 50
_METRIC_OF_ORDER = {"lerf": "lerf_aopc_accuracy", "morf": "morf_aopc_accuracy"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """A mean over images of one method, step by step.

    Attributes:
        cell: what it was measured on.
        name: what the legend says.
        x: how much is erased (L + 1,).
        y: the mean (L + 1,).
        ci_low: lower end of its 95 % band (L + 1,).
        ci_high: the upper end.
        n: images; 0 where no image has a value, and then the arrays are empty.
    """

    cell: Cell
    name: str
    x: NDArray[np.int64]
    y: NDArray[np.float64]
    ci_low: NDArray[np.float64]
    ci_high: NDArray[np.float64]
    n: int

    @property
    def is_control(self) -> bool:
        """Whether the method knows nothing of the network."""
        return is_control(self.cell.identity.method.name)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the axes say, and what their numbers are called in files."""

    x_label: str
    y_label: str
    x: str
    y: str


@runtime_checkable
class Plotted(Protocol):
    """What a kind of figure has besides that shows curves."""

    metric: ClassVar[str]

    def plots(self, held: Sequence[Held]) -> list[Plot]:
        """What its drawings show."""


@dataclass(frozen=True, kw_only=True)
class PerturbationCurves:
    """Accuracy while pixels are erased, of whatever the store holds.

    There is a drawing for each setting of the metric, and in it a panel for each network on each data set.

    Attributes:
        order: 'lerf' erases the least relevant pixels first, 'morf' the most relevant.
        methods: names of those that come first in the legend, in order.

    Source: Nam et al. 2020, Figure 7.
    """

    metric: ClassVar[str] = "perturbation"

    order: Literal["lerf", "morf"] = "lerf"
    methods: tuple[str, ...] = ()

    def __call__(self, held: Sequence[Held]) -> list[Drawing]:
        return [drawing(plot) for plot in self.plots(held)]

    def plots(self, held: Sequence[Held]) -> list[Plot]:
        """What the drawings show."""
        labels = Labels(x_label="number of perturbed pixels", y_label="accuracy", x="pixels", y="accuracy")
        suffix = "morf" if self.order == "morf" else ""
        return plots([survival(one, self.order) for one in held], labels, first=self.methods, suffix=suffix)


def survival(held: Held, order: str) -> Curve:
    """The share of images whose explained class is still the top one.

    Images are dropped as the metric's own numbers drop them. A resampled number of surviving images is binomial: the
    band is the bootstrap's over images without the noise of drawing.

    Source: Efron and Tibshirani 1993, chapters 5 and 13.
    """
    cell = held.cell
    parameters = cell.identity.metric.parameters
    variants = METRICS.load(cell.identity.metric.name)(**parameters).variants(signed=cell.signed)
    variant = variants.get(_METRIC_OF_ORDER[order])  # None where the metric's `orders` leave this one out
    rows = held.rows.frame if variant is None else sound(variant, held.rows.frame)
    if variant is None or not len(rows):
        return without_images(cell, called(cell))
    survived = vectors(rows, f"{order}_accuracy")
    n, accuracy = len(survived), survived.mean(axis=0)
    low, high = (_binomial(q, n, accuracy) / n for q in (0.025, 0.975))
    pixels = parameters["pixels"] * np.arange(survived.shape[1])
    return Curve(cell=cell, name=called(cell), x=pixels, y=accuracy, ci_low=low, ci_high=high, n=n)


def _binomial(q: float, n: int, p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quantiles of binomial numbers of n draws with probabilities p (L,)."""
    certain = (p == 0) | (p == 1)
    above = np.ceil(bdtrik(q, n, np.where(certain, 0.5, p)))
    below = np.maximum(above - 1, 0)
    quantiles: NDArray[np.float64] = np.where(bdtr(below, n, p) >= q, below, above)
    return np.where(certain, n * p, quantiles)


def without_images(cell: Cell, name: str) -> Curve:
    """The curve of a method for which no image has a value."""
    nothing = np.empty(0)
    return Curve(cell=cell, name=name, x=nothing.astype(np.int64), y=nothing, ci_low=nothing, ci_high=nothing, n=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Plot:
    """What a figure of curves shows: those of one setting of the metric.

    Attributes:
        curves: in the order of the legend.
        labels: of the axes.
        setting: the metric as a user types it.
        suffix: tells it from others of the same name.
        top: the greatest value there is.
    """

    curves: tuple[Curve, ...]
    labels: Labels
    setting: str
    suffix: str = ""
    top: float = 1.0

    @property
    def name(self) -> str:
        """The metric's parameters and the suffix, as part of a file's name; empty where there are none."""
        parameters = [f"{key}-{value}" for key, value in parse_call(self.setting).parameters.items()]
        return "_".join(filter(None, [*parameters, self.suffix]))

    @property
    def panels(self) -> list[Group[Curve]]:
        """The curves of each network on each data set."""
        return sorted(grouped(self.curves, lambda found: found.cell), key=_place_of_panel)

    @property
    def looks(self) -> dict[str, dict[str, Any]]:
        """How each method's curve looks, in the order of the legend, the same in every panel."""
        return dict(_looks(self.curves))

    @property
    def lowest(self) -> float:
        """Lower end of the vertical axis."""
        return _lowest(self.curves)

    @property
    def points(self) -> pd.DataFrame:
        """A row a step of each curve."""
        return pd.concat([_points(found, self.labels) for found in self.curves], ignore_index=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which methods have no curve."""
        return tuple(f"{found.name} has no defined image" for found in self.curves if not found.n)


def plots(
    curves: Sequence[Curve], labels: Labels, *, first: Sequence[str] = (), suffix: str = "", top: float = 1.0
) -> list[Plot]:
    """A plot for each setting of the metric that has a curve.

    Args:
        curves: of one metric.
        labels: of the axes.
        first: names of the methods that come first, in order; then others as they are listed, controls last.
        suffix: tells the plots from others of the same name.
        top: the greatest value there is.
    """

    def in_legend(found: Curve) -> tuple[bool, int, int, str]:
        name, known = found.cell.identity.method.name, list(METHODS)
        early, listed = (names.index(name) if name in names else len(names) for names in (list(first), known))
        return found.is_control and name not in first, early, listed, found.name

    ordered = sorted(curves, key=in_legend)
    settings = sorted({found.cell.metric for found in curves if found.n})
    return [
        Plot(
            curves=tuple(found for found in ordered if found.cell.metric == setting),
            labels=labels,
            setting=setting,
            suffix=suffix,
            top=top,
        )
        for setting in settings
    ]


def drawing(plot: Plot) -> Drawing:
    """A plot as a figure, with its points."""
    with styled():
        figure = _figure(plot)
    return Drawing(suffix=plot.name, figure=figure, points=plot.points, notes=plot.notes)


def _points(found: Curve, labels: Labels) -> pd.DataFrame:
    """A row a step."""
    fixed = {**measured_on(found.cell), "model_title": found.cell.model_title, "name": found.name, "n": found.n}
    moving = {labels.x: found.x, labels.y: found.y, "ci_low": found.ci_low, "ci_high": found.ci_high}
    return pd.DataFrame(moving).assign(**fixed)[[*fixed, *moving]]


def _figure(plot: Plot) -> Figure:
    """Panels two abreast on one vertical scale, one legend below."""
    from matplotlib.figure import Figure  # a page draws curves without it
    from matplotlib.lines import Line2D

    panels, looks, curves, labels = plot.panels, plot.looks, plot.curves, plot.labels
    num_columns = min(len(panels), 2)
    num_rows = -(-len(panels) // num_columns)
    width, lowest = _COLUMN_INCHES * num_columns, plot.lowest
    legend = _legend([entry(name, curves, lowest) for name in looks], width)
    figure = Figure(figsize=(width, 2.4 * num_rows + legend.inches), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw(axes, [found for found in panel.members if found.n], looks)
        axes.set_title("\n".join(textwrap.fill(line, _TITLE_LETTERS) for line in title(panel)))
        axes.set_xlabel(labels.x_label)
    for axes in grid[:, 0]:
        axes.set_ylabel(labels.y_label)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    grid[0, 0].set_ylim(lowest, plot.top + 0.02 * (plot.top - lowest))  # a curve that stays at the top is seen whole
    drawn = {found.name for found in curves if found.n}
    handles = [Line2D([], [], **(look if name in drawn else {"color": "none"})) for name, look in looks.items()]
    where: dict[str, Any] = {"loc": "outside lower center", "ncols": legend.per_line}
    figure.legend(handles, legend.texts, frameon=False, handlelength=3, **where)
    return figure


def _draw(axes: Axes, curves: list[Curve], looks: Mapping[str, Mapping[str, Any]]) -> None:
    """The curves of a panel with their bands; controls are thin, without a band, and above what they cover."""
    from matplotlib.ticker import MaxNLocator

    for n, found in enumerate(curves):
        every = max(1, len(found.x) // 8)
        start = n * every // len(curves)  # markers of neighbouring curves do not cover each other
        look = looks[found.name]
        axes.plot(found.x, found.y, label=found.name, markevery=(start, every), **look)
        if not found.is_control:
            axes.fill_between(found.x, found.ci_low, found.ci_high, color=look["color"], alpha=0.12, linewidth=0)
    axes.set_xlim(0, 1.02 * max((found.x[-1] for found in curves), default=1))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    bare(axes)
    axes.grid(axis="x", color="0.9", linewidth=0.4)


class _Legend(NamedTuple):
    """What stands behind the lines of a legend, how many are abreast, and its height."""

    texts: list[str]
    per_line: int
    inches: float


def _legend(texts: Sequence[str], width: float) -> _Legend:
    """A legend no wider, with at most two entries abreast in a column of a page."""
    wrapped = [textwrap.wrap(text, int((width - _HANDLE_INCHES) / _LETTER_INCHES)) for text in texts]
    widest = max(len(line) for lines in wrapped for line in lines)
    fitting = int(width / (_HANDLE_INCHES + _LETTER_INCHES * widest))
    per_line = max(1, min(2 * round(width / _COLUMN_INCHES), fitting))
    num_lines = max(map(len, wrapped)) * -(-len(texts) // per_line)
    return _Legend(["\n".join(lines) for lines in wrapped], per_line, 0.15 * num_lines + 0.1)


def entry(name: str, curves: Sequence[Curve], lowest: float) -> str:
    """A method in the legend, with what is not seen of it."""
    drawn = [found for found in curves if found.name == name and found.n]
    if not drawn:
        return f"{name} (no image)"
    return f"{name} (leaves the panel)" if any(found.y.min() < lowest for found in drawn) else name


def _looks(curves: Sequence[Curve]) -> Iterator[tuple[str, dict[str, Any]]]:
    """How each method's curve looks.

    The colour is the method's own; what is dashed differs from curve to curve, so that one below another is seen.
    """
    methods = {found.name: found.cell.identity.method.name for found in curves}
    others = [name for name in methods if not is_control(methods[name])]
    for n, name in enumerate(others):
        alike = [methods[other] for other in others[:n]].count(methods[name])
        yield name, _coloured(methods[name], n, alike)
    for n, name in enumerate(name for name in methods if name not in others):
        yield name, _grey(n)


def _coloured(method: str, n: int, alike: int) -> dict[str, Any]:
    """The n-th method of a figure, before which so many are the same method with other parameters."""
    marker = _MARKERS[(place(method) + alike) % len(_MARKERS)]
    look = {"color": colour(method), "linestyle": _DASHES[n % len(_DASHES)], "marker": marker, "markersize": 3}
    return {**look, "linewidth": 1.1 if n else 1.6, "zorder": 2.5}


def _grey(n: int) -> dict[str, Any]:
    return {"color": GREY, "linestyle": _GREY_DASHES[n % len(_GREY_DASHES)], "linewidth": 0.8, "zorder": 2.6}


def _lowest(curves: Sequence[Curve]) -> float:
    """Lower end of the vertical axis: all methods with their bands; controls may at most double the range."""
    drawn = [found for found in curves if found.n]
    methods = min((found.ci_low.min() for found in drawn if not found.is_control), default=0.0)
    everything = min(found.y.min() for found in drawn)
    lowest = min(methods, max(everything, 2 * methods - 1))
    return max(0.0, float(np.floor(20 * lowest - 1e-9)) / 20)


def _place_of_panel(panel: Group[Curve]) -> tuple[str, int, str]:
    cell, model = panel.cell, panel.cell.identity.model.name
    return cell.dataset, list(MODELS).index(model) if model in MODELS else len(MODELS), cell.model_title


def title(panel: Group[Curve]) -> tuple[str, str]:
    """Network; data set, images, settings of the metric that are not defaults, and what differs from other panels."""
    counts = sorted({found.n for found in panel.members if found.n}) or [0]
    images = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    setting = [f"{key} = {value}" for key, value in parse_call(panel.cell.metric).parameters.items()]
    told = filter(None, [panel.cell.dataset, images, *setting, panel.remark])
    return printable(panel.cell.model_title), printable(", ".join(told))

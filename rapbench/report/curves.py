"""Accuracy against the number of perturbed pixels, one curve a method."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import binom

from rapbench.core.catalogue import parse_call
from rapbench.core.types import Metric
from rapbench.methods import METHODS
from rapbench.metrics import METRICS
from rapbench.models import MODELS
from rapbench.report.figures import Drawing, Stored, label, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by any kind of colour vision. Source: Okabe and Ito 2008."""
_DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)))
_MARKERS = "os^DvPX*<>p"
_GREY_DASHES: tuple[Any, ...] = ((0, (4, 2)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (2, 1, 2, 3)), (0, (8, 3)))
_COLUMN_INCHES = 3.3
"""Width of a column of a two-column page; a figure of two panels takes both columns."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Mean accuracy of one method over images.

    Attributes:
        stored: where it comes from.
        pixels: numbers of perturbed pixels (L + 1,).
        accuracy: share of the images (L + 1,) whose explained class is still the top one.
        ci_low: lower end of the 95 % bootstrap band (L + 1,).
        ci_high: its upper end.
        n: images.
    """

    stored: Stored
    pixels: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    ci_low: NDArray[np.float64]
    ci_high: NDArray[np.float64]
    n: int

    @property
    def name(self) -> str:
        """The method's catalogue name."""
        return str(self.stored.identity["method"]["name"])

    @property
    def is_control(self) -> bool:
        """Whether the method knows nothing of the network."""
        return self.name in METHODS and METHODS[self.name].target.startswith("rapbench.methods.control:")

    @property
    def label(self) -> str:
        """What the legend says."""
        display = self.stored.display
        return label(display["method_title"], display["method"], display["backend"])

    def points(self) -> pd.DataFrame:
        """A row a number of pixels."""
        display = self.stored.display
        return pd.DataFrame(
            {
                "dataset": display["dataset"],
                "model": display["model_title"],
                "method": display["method"],
                "backend": display["backend"],
                "pixels": self.pixels,
                "accuracy": self.accuracy,
                "ci_low": self.ci_low,
                "ci_high": self.ci_high,
                "n": self.n,
            }
        )


def curve(stored: Stored, order: str) -> Curve | None:
    """The curve of one method; None where no image has a value.

    Images are dropped as the metric's own numbers drop them. A resampled number of surviving images is binomial: the
    band is the bootstrap's over images without the noise of drawing.

    Source: Efron and Tibshirani 1993, chapters 5 and 13.
    """
    parameters = stored.identity["metric"]["parameters"]
    metric: Metric = METRICS.load(stored.identity["metric"]["name"])(**parameters)
    undefined = metric.variants(signed=stored.display["signed"])[f"{order}_aopc_accuracy"].undefined
    rows = stored.rows
    for holds in undefined.values():
        rows = rows[~holds(rows)] if len(rows) else rows
    if not len(rows):
        return None
    survived = np.stack(rows[f"{order}_accuracy"].to_list()).astype(np.float64)
    n, accuracy = len(survived), survived.mean(axis=0)
    low, high = (binom.ppf(q, n, accuracy) / n for q in (0.025, 0.975))
    pixels = parameters["pixels"] * np.arange(survived.shape[1])
    return Curve(stored=stored, pixels=pixels, accuracy=accuracy, ci_low=low, ci_high=high, n=n)


@dataclass(frozen=True, kw_only=True)
class PerturbationCurves:
    """Negative perturbation of whatever the store holds.

    There is a drawing for each setting of the metric, and in it a panel for each network on each data set.

    Attributes:
        order: 'lerf' erases the least relevant pixels first, 'morf' the most relevant.
    """

    metric: ClassVar[str] = "perturbation"

    order: Literal["lerf", "morf"] = "lerf"

    @property
    def card(self) -> Mapping[str, Any]:
        """What a paper says of its figure: methods in order, labels of the axes, command."""
        return {
            "methods": list(METHODS),
            "x_label": "number of perturbed pixels",
            "y_label": "accuracy",
            "run": "rapbench run --metric perturbation",
        }

    @property
    def command(self) -> str:
        return str(self.card["run"])

    def __call__(self, stored: Sequence[Stored]) -> list[Drawing]:
        curves = [found for one in stored if (found := curve(one, self.order))]
        settings = sorted({found.stored.display["metric"] for found in curves})
        return [self._drawing(s, [c for c in curves if c.stored.display["metric"] == s]) for s in settings]

    def _drawing(self, setting: str, curves: list[Curve]) -> Drawing:
        curves.sort(key=self._place)
        parameters = [f"{key}-{value}" for key, value in parse_call(setting).parameters.items()]
        suffix = "_".join([*parameters, *(["morf"] if self.order == "morf" else [])])
        points = pd.concat([found.points() for found in curves], ignore_index=True)
        with styled():
            return Drawing(suffix=suffix, figure=_figure(curves, self.card), points=points)

    def _place(self, found: Curve) -> tuple[bool, int, int, str]:
        """The card's methods in its order, then others as they are listed, controls last."""
        first, known = list(self.card["methods"]), list(METHODS)
        in_card, in_list = (names.index(found.name) if found.name in names else len(names) for names in (first, known))
        return found.is_control, in_card, in_list, found.label


@dataclass(frozen=True, kw_only=True)
class Figure7(PerturbationCurves):
    """The paper's figure of negative perturbation.

    Source: Nam et al. 2020, Figure 7.
    """

    @cached_property
    def card(self) -> Mapping[str, Any]:
        text = (resources.files("rapbench") / "papers" / "rap2020.toml").read_text(encoding="utf-8")
        section: Mapping[str, Any] = tomllib.loads(text)["figure7"]
        return section


def _figure(curves: list[Curve], card: Mapping[str, Any]) -> Figure:
    """Panels two abreast on one vertical scale, one legend below."""
    panels = _panels(curves)
    styles = dict(_styles(curves))
    num_columns = min(len(panels), 2)
    num_rows = -(-len(panels) // num_columns)
    per_line = 2 * num_columns
    legend_inches = 0.15 * -(-len(styles) // per_line) + 0.1
    size = (_COLUMN_INCHES * num_columns, 2.4 * num_rows + legend_inches)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False)
    for axes, (title, of_panel) in zip(grid.flat, panels.items(), strict=False):
        _draw(axes, of_panel, styles)
        axes.set_title(title, parse_math=False)
        axes.set_xlabel(card["x_label"])
    for axes in grid[:, 0]:
        axes.set_ylabel(card["y_label"])
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    lowest = _lowest(curves)
    grid[0, 0].set_ylim(lowest, 1 + 0.02 * (1 - lowest))  # a curve that stays at 1 is seen whole
    handles = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    named = [name for name in styles if name in handles]
    figure.legend(
        [handles[name] for name in named],
        named,
        loc="outside lower center",
        ncols=per_line,
        frameon=False,
        handlelength=3,
    )
    return figure


def _draw(axes: Axes, curves: list[Curve], styles: Mapping[str, Mapping[str, Any]]) -> None:
    """The curves of a panel with their bands; controls under the others and without a band."""
    every = max(1, len(curves[0].pixels) // 8)
    for n, found in enumerate(curves):
        start = n * every // len(curves)  # markers of neighbouring curves do not cover each other
        look = styles[found.label]
        axes.plot(found.pixels, found.accuracy, label=found.label, markevery=(start, every), **look)
        if not found.is_control:
            axes.fill_between(found.pixels, found.ci_low, found.ci_high, color=look["color"], alpha=0.12, linewidth=0)
    axes.set_xlim(0, 1.02 * max(found.pixels[-1] for found in curves))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.grid(color="0.9", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _styles(curves: list[Curve]) -> Iterator[tuple[str, dict[str, Any]]]:
    """How each method's curve looks, in the order of the legend, the same in every panel."""
    controls = {found.label: found.is_control for found in curves}
    for n, name in enumerate(name for name, is_control in controls.items() if not is_control):
        yield (
            name,
            {
                "color": _COLOURS[n % len(_COLOURS)],
                "linestyle": _DASHES[n % len(_DASHES)],
                "marker": _MARKERS[n % len(_MARKERS)],
                "markersize": 3,
                "linewidth": 1.6 if n == 0 else 1.1,
                "zorder": 2.5,
            },
        )
    for n, name in enumerate(name for name, is_control in controls.items() if is_control):
        yield name, {"color": "0.55", "linestyle": _GREY_DASHES[n % len(_GREY_DASHES)], "linewidth": 0.8, "zorder": 2}


def _lowest(curves: list[Curve]) -> float:
    """Lower end of the vertical axis: all methods with their bands; controls may at most double the range."""
    methods = min((found.ci_low.min() for found in curves if not found.is_control), default=0.0)
    everything = min(found.accuracy.min() for found in curves)
    lowest = min(methods, max(everything, 2 * methods - 1))
    return max(0.0, float(np.floor(20 * lowest - 1e-9)) / 20)


def _panels(curves: list[Curve]) -> dict[str, list[Curve]]:
    """The curves of each panel by its title."""
    groups: dict[tuple[str, ...], list[Curve]] = {}
    for found in curves:
        groups.setdefault(tuple(_circumstances(found).values()), []).append(found)
    panels = sorted(groups.values(), key=lambda group: _place_of_panel(group[0]))
    return {_title(panel, _differing(panel[0], [other[0] for other in panels])): panel for panel in panels}


def _circumstances(found: Curve) -> dict[str, str]:
    """What the curves of a panel have in common, flat: all that the rows depend on but method and metric."""
    shared = {key: value for key, value in found.stored.identity.items() if key not in {"method", "metric"}}
    return {str(key): str(value) for key, value in pd.json_normalize(shared).iloc[0].items()}


def _place_of_panel(found: Curve) -> tuple[str, int, str]:
    dataset, model, title = (found.stored.display[key] for key in ("dataset", "model", "model_title"))
    return dataset, list(MODELS).index(model) if model in MODELS else len(MODELS), title


def _differing(panel: Curve, panels: list[Curve]) -> list[str]:
    """What tells a panel from those of the same network and data set, for example 'seed 1'."""
    own = _circumstances(panel)
    namesakes = [_circumstances(p) for p in panels if _place_of_panel(p) == _place_of_panel(panel)]
    keys = [key for key in own if any(other.get(key) != own[key] for other in namesakes)]
    return [f"{key.rpartition('.')[2]} {own[key][:16]}" for key in keys]


def _title(panel: list[Curve], differing: list[str]) -> str:
    """Network; data set, images, settings of the metric that are not defaults, and what differs from other panels."""
    display = panel[0].stored.display
    counts = sorted({found.n for found in panel})
    images = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    setting = [f"{key} = {value}" for key, value in parse_call(display["metric"]).parameters.items()]
    return f"{display['model_title']}\n{', '.join([display['dataset'], images, *setting, *differing])}"

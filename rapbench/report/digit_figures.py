"""Box plots of digit conversion, and digits with the pixels that each method would erase."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rapbench.core.types import Variant
from rapbench.metrics.digit_conversion import DigitConversion, Pair, drops
from rapbench.report.figures import Drawing, Stored, label, styled
from rapbench.report.statistics import estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_ORDER = ("guided_backprop", "gradient", "input_gradient", "integrated_gradients")
"""Methods that the paper compares with, in its order; others, DeepLIFT last, stand behind them."""
_MOST_PANELS = 6
_TITLE_WIDTH = 18
_BLUE, _ORANGE, _RED = "#9DB8CC", "#E69F00", (0.65, 0.08, 0.05)


@dataclass(frozen=True, kw_only=True)
class Figure4:
    """Box plots of the drop of the log-odds: a panel a pair of digits, a box a method, notched at its interval.

    With more than six pairs there is one panel, of the pairs' medians.

    Source: Shrikumar et al. 2017, Figure 4, bottom.
    """

    metric: ClassVar[str] = "digit_conversion"

    @property
    def command(self) -> str:
        return "rapbench run --config configs/deeplift2017_figure4.toml --data-root DIR"

    def __call__(self, stored: Sequence[Stored]) -> list[Drawing]:
        groups: dict[tuple[str, ...], list[Stored]] = {}
        for one in ordered(stored):
            groups.setdefault(tuple(one.display[key] for key in ("dataset", "model_title", "metric")), []).append(one)
        tables = {key: pd.concat(map(_points, group), ignore_index=True) for key, group in groups.items()}
        return [
            Drawing(suffix="" if len(groups) == 1 else _suffix(key), figure=_boxes(group), points=tables[key])
            for key, group in sorted(groups.items())
            if len(tables[key])
        ]


def _suffix(key: tuple[str, ...]) -> str:
    return "_".join("".join(c if c.isalnum() else "-" for c in part).strip("-") for part in key)


def ordered(stored: Sequence[Stored]) -> list[Stored]:
    """In the order in which the figure shows methods."""
    return sorted(stored, key=_place)


def _place(stored: Stored) -> tuple[bool, int, int, str]:
    name = str(stored.identity["method"]["name"])
    place = _ORDER.index(name) if name in _ORDER else len(_ORDER)
    return name.startswith("deeplift"), place, len(_label(stored)), _label(stored)


def _label(stored: Stored) -> str:
    display = stored.display
    return label(display["method_title"], display["method"], display["backend"])


def _wrapped(name: str) -> str:
    return textwrap.fill(name, _TITLE_WIDTH, break_long_words=False)


def _metric(stored: Stored) -> DigitConversion:
    return DigitConversion(**stored.identity["metric"]["parameters"])


def _points(stored: Stored) -> pd.DataFrame:
    """A row a pair of digits: the median with its interval, the mean, quartiles, and the share of flipped images."""
    variants = _metric(stored).variants(signed=stored.display["signed"])
    display = {key: stored.display[key] for key in ("dataset", "model_title", "method", "backend")}
    rows = []
    for pair in _metric(stored).conversions:
        median, mean, flipped = (
            estimate(variants[name], stored.rows, seed=stored.identity["seed"])
            for name in (f"log_odds@{_name(pair)}", f"log_odds@{_name(pair)}:mean", f"flipped@{_name(pair)}")
        )
        if median.n:
            low, high = np.percentile(_drops(stored, pair), [25, 75])
            ends = {"ci_low": median.ci_low, "ci_high": median.ci_high, "q1": low, "q3": high}
            means = {"mean": mean.value, "mean_ci_low": mean.ci_low, "mean_ci_high": mean.ci_high}
            numbers = {"median": median.value, **ends, **means, "flipped": flipped.value}
            rows.append({**display, "pair": _name(pair), "n": median.n, **numbers})
    return pd.DataFrame(rows)


def _name(pair: Pair) -> str:
    return f"{pair[0]}-{pair[1]}"


def _drops(stored: Stored, pair: Pair) -> NDArray[np.float64]:
    """D (N,) of the images that count for a pair."""
    variant: Variant = _metric(stored).variants(signed=stored.display["signed"])[f"log_odds@{_name(pair)}"]
    rows = stored.rows
    for holds in variant.undefined.values():
        rows = rows[~holds(rows)] if len(rows) else rows
    values = drops(rows, pair) if len(rows) else np.empty(0)
    return values[np.isfinite(values)]


def _panels(group: list[Stored]) -> dict[str, list[NDArray[np.float64]]]:
    """By the title of a panel, the values of each method's box."""
    pairs = _metric(group[0]).conversions
    values = {pair: [_drops(one, pair) for one in group] for pair in pairs}
    values = {pair: boxes for pair, boxes in values.items() if all(map(len, boxes))}
    if len(pairs) <= _MOST_PANELS:
        return {f"{o} → {t}, n = {len(boxes[0])}": boxes for (o, t), boxes in values.items()}
    medians = np.array([[np.median(box) for box in boxes] for boxes in values.values()])
    return {f"medians of {len(medians)} pairs of digits": list(medians.T)}


def _boxes(group: list[Stored]) -> Figure:
    panels, names = _panels(group), [_label(one).replace(" (", "\n(") for one in group]
    colours = [_ORANGE if one.identity["method"]["name"].startswith("deeplift") else _BLUE for one in group]
    with styled():
        figure = Figure(figsize=(0.36 * len(group) * len(panels) + 1, 3.4), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, boxes) in zip(grid, panels.items(), strict=True):
            _draw(axes, boxes, colours)
            axes.set_title(title)
            axes.set_xticks(range(1, len(names) + 1), names, rotation=60, ha="right", rotation_mode="anchor")
        grid[0].set_ylabel("drop of the log-odds\nof the original class")
    return figure


def _draw(axes: Axes, boxes: list[NDArray[np.float64]], colours: list[str]) -> None:
    thin = {"linewidth": 0.7}
    drawn = axes.boxplot(
        boxes,
        notch=True,
        conf_intervals=[_interval(box) for box in boxes],
        widths=0.7,
        patch_artist=True,
        boxprops=thin,
        whiskerprops=thin,
        capprops=thin,
        medianprops={"color": "black", "linewidth": 1.2},
        flierprops={"marker": ".", "markersize": 1.5, "markeredgecolor": "0.5"},
    )
    for patch, colour in zip(drawn["boxes"], colours, strict=True):
        patch.set_facecolor(colour)
    axes.axhline(0, color="0.5", linewidth=0.6, zorder=0)
    axes.grid(axis="y", color="0.9", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the median by order statistics. Source: Conover 1999, Section 3.2."""
    ordered, reach = np.sort(values), 0.98 * np.sqrt(len(values))
    low, high = np.clip([len(values) / 2 - reach, len(values) / 2 + reach], 0, len(values) - 1).astype(int)
    return float(ordered[low]), float(ordered[high])


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


def masked_digits(image: NDArray[np.float64], methods: Sequence[MaskedDigit]) -> Figure:
    """A column a method, after the image itself: erased pixels in red for each pair, then relevance for each digit.

    Relevance goes from blue by white (zero) to red, on one scale a method.

    Args:
        image: (H, W) in [0, 1].
        methods: all of the same pairs and digits.

    Source: Shrikumar et al. 2017, Figure 4, top.
    """
    pairs, digits = list(methods[0].erased), list(methods[0].scores)
    num_rows = len(pairs) + len(digits)
    with styled():
        figure = Figure(figsize=(0.95 * (len(methods) + 1), 1.0 * num_rows + 0.4), layout="constrained")
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
        colour: Any = np.where(gone[..., None], _RED, (1.0, 1.0, 1.0))
        axes.imshow(image[..., None] * colour)
        axes.set_xlabel(f"D = {method.drops[pair]:.1f}", fontsize=6.5, labelpad=2)
    largest = max(float(np.abs(scores).max()) for scores in method.scores.values()) or 1.0
    for axes, scores in zip(column[len(method.erased) :], method.scores.values(), strict=True):
        axes.imshow(scores, cmap="seismic", vmin=-largest, vmax=largest)

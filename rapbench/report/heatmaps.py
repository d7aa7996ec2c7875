"""Heatmaps beside the pictures that they explain: red speaks for the class, blue against it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from rapbench.report.figures import styled
from rapbench.report.formats import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_PANEL_INCHES, _LINE_INCHES, _BAR_INCHES = 1.3, 0.13, 0.7
_PANEL_LETTERS = 22
COLOURS = colormaps["seismic"].with_extremes(bad="0.6")
"""Of relevance: blue below zero, white at zero, red above; grey where it is not finite."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A picture and its heatmaps.

    Attributes:
        photo: (H, W, 3) RGB or (H, W, 1) grey, in [0, 1].
        caption: lines below the picture.
        maps: signed pixel maps (h, w), of any resolution, by the title of their column.
        name: what is written beside the row; may be empty.
    """

    photo: NDArray[Any]
    caption: str
    maps: Mapping[str, NDArray[Any]]
    name: str = ""


def heatmaps(rows: Sequence[Row], title: str = "", percentile: float = 100) -> Figure:
    """A row a picture: the picture, then its maps from blue by white (zero) to red, up to the largest magnitude.

    Every map has a scale of its own; values that are not finite are grey. All rows have the columns of the first.

    Args:
        rows: at least one.
        title: what is written above all of them, for example which network they are of.
        percentile: of a map's magnitudes, where its colours end; 100 is the largest. Beyond, colours stay the same.

    Source: Nam et al. 2020, Figures 1, 4 and 5.
    """
    from matplotlib.figure import Figure  # a page needs the colours alone

    columns = [_wrapped(title) for title in rows[0].maps]
    num_lines = max(_wrapped(row.caption).count("\n") for row in rows) + 1
    num_title_lines = max(column.count("\n") for column in columns) + 1
    width = _PANEL_INCHES * (len(columns) + 1) + _BAR_INCHES
    num_title_lines += bool(title)
    height = (_PANEL_INCHES + _LINE_INCHES * num_lines) * len(rows) + _LINE_INCHES * num_title_lines
    with styled():
        figure = Figure(figsize=(width, height), layout="compressed")
        grid = figure.subplots(len(rows), len(columns) + 1, squeeze=False)
        for panels, row in zip(grid, rows, strict=True):
            _draw(panels, row, percentile)
        for axes, column in zip(grid[0, 1:], columns, strict=True):
            axes.set_title(column)
        _scale(figure, grid[:, -1], percentile)
        if title:
            figure.suptitle(title, fontsize="medium")
    return figure


def _wrapped(text: str) -> str:
    """Lines that are not wider than a panel."""
    return "\n".join(textwrap.fill(printable(line), _PANEL_LETTERS) for line in text.splitlines())


def _draw(panels: NDArray[Any], row: Row, percentile: float) -> None:
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(linewidth=0.4)
    panels[0].imshow(row.photo, cmap="gray", vmin=0, vmax=1)
    panels[0].set_xlabel(_wrapped(row.caption))
    panels[0].set_ylabel(_wrapped(row.name))
    for axes, values in zip(panels[1:], row.maps.values(), strict=True):
        end = colour_end(values, percentile)
        axes.imshow(values, cmap=COLOURS, vmin=-end, vmax=end)


def colour_end(values: NDArray[Any], percentile: float) -> float:
    """Magnitude at which the colours of a map end.

    It is a percentile of the map's magnitudes, the largest of them where that is zero, and 1 where all are.
    """
    magnitudes = np.abs(values[np.isfinite(values)])
    at = float(np.percentile(magnitudes, percentile)) if magnitudes.size else 0.0
    return at or float(magnitudes.max(initial=0)) or 1.0


def _scale(figure: Figure, beside: NDArray[Any], percentile: float) -> None:
    """What the colours mean, in magnitudes of each map's own."""
    colours = ScalarMappable(Normalize(-1, 1), COLOURS)
    bar = figure.colorbar(colours, ax=list(beside), ticks=[-1, 0, 1], fraction=0.1, aspect=20, shrink=0.9)
    end = "max |R|" if percentile == 100 else f"P{percentile:g} |R|"
    bar.ax.set_yticklabels([f"−{end}", "0", end])
    bar.outline.set(linewidth=0.4)

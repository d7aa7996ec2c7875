"""The quality of signal estimators, layer by layer."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from rapbench.report.figures import Drawing, bare, colour, styled
from rapbench.report.formats import printable
from rapbench.report.result import measured_on
from rapbench.results.select import Group, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from rapbench.results.store import Held

_METHODS = {
    "random": "random",
    "S_w": "signal_w",
    "S_a": "pattern_attribution_a",
    "S_a+-": "pattern_attribution",
}
"""The methods whose signals the estimators are, and which are of the same colour in other figures."""
_TITLE_LETTERS = 110


@dataclass(frozen=True, kw_only=True)
class Figure3:
    """Boxes over the units of each layer of ρ(S), higher is better: quartiles, median, and whiskers to 5 and 95 %.

    Source: Kindermans et al. 2018, Figure 3.
    """

    metric: ClassVar[str] = "signal_quality"

    def __call__(self, held: Sequence[Held]) -> list[Drawing]:
        names = [one.cell.identity.model.name for one in held]
        return [
            Drawing(
                suffix=name if names.count(name) == 1 else f"{name}_{n}",
                figure=_boxes(one.rows.frame, _title_of_quality(group)),
                points=quantiles(one.rows.frame).assign(**measured_on(one.cell)),
            )
            for n, (name, group) in enumerate(zip(names, grouped(held, lambda one: one.cell), strict=True))
            for one in group.members
        ]


def quantiles(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a layer and estimator: quantiles and mean of rho over the units that have one, and how many have none."""
    found = []
    for (layer, estimator), group in rows.groupby(["layer", "estimator"], sort=False):
        rho = group["rho"].dropna().to_numpy()
        ends = np.quantile(rho, (0.05, 0.25, 0.5, 0.75, 0.95)) if len(rho) else np.full(5, np.nan)
        row = {"layer": layer, "kind": group["kind"].iloc[0], "inputs": group["inputs"].iloc[0], "estimator": estimator}
        row |= {"mean": rho.mean() if len(rho) else np.nan}
        row |= dict(zip(("p5", "p25", "p50", "p75", "p95"), ends, strict=True))
        found.append({**row, "units": len(rho), "undefined": len(group) - len(rho)})
    return pd.DataFrame(found)


def _title_of_quality(group: Group[Held]) -> str:
    cell = group.cell
    sets = cell.identity.metric.parameters
    fitting, reading, scoring = (sets[key][1] - sets[key][0] for key in ("fitting", "reading", "scoring"))
    images = f"fitted to {fitting} images, v from {reading}, scored on {scoring}"
    return ", ".join(filter(None, [cell.model_title, f"{cell.dataset}: {images}", group.remark]))


def _boxes(rows: pd.DataFrame, title: str) -> Figure:
    """One group of boxes a layer, one box an estimator."""
    from matplotlib.figure import Figure  # a page that lacks this figure does without it

    table = quantiles(rows)
    layers, estimators = list(dict.fromkeys(table["layer"])), list(dict.fromkeys(table["estimator"]))
    with styled():
        figure = Figure(figsize=(6.9, 2.7), layout="constrained")
        axes = figure.subplots()
        width = 0.8 / len(estimators)
        for n, estimator in enumerate(estimators):
            own = table[table["estimator"] == estimator].set_index("layer").loc[layers]
            at = np.arange(len(layers), dtype=np.float64) + (n - (len(estimators) - 1) / 2) * width
            _box(axes, own, at, width, colour(_METHODS[estimator]), estimator)
        kinds = table.drop_duplicates("layer").set_index("layer")["kind"]
        axes.set_xticks(range(len(layers)), _layer_names([kinds[layer] for layer in layers]), rotation=45)
        axes.set_ylabel("ρ(S)")
        axes.set_ylim(bottom=min(-0.05, float(table["p5"].min())))  # so that boxes at 0 are seen
        axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
        axes.axhline(1, color="0.8", linewidth=0.6, zorder=0)
        axes.set_title(textwrap.fill(printable(title), _TITLE_LETTERS))
        figure.legend(loc="outside lower center", ncols=len(estimators), frameon=False)
        bare(axes)
    return figure


def _box(axes: Axes, table: pd.DataFrame, at: NDArray[np.floating], width: float, colour: str, name: str) -> None:
    height = table["p75"] - table["p25"]
    axes.bar(at, height, 0.8 * width, table["p25"], color=colour, alpha=0.45, label=name, linewidth=0)
    axes.vlines(at, table["p5"], table["p95"], color=colour, linewidth=0.7)
    axes.hlines(table["p50"], at - 0.4 * width, at + 0.4 * width, color=colour, linewidth=1.6)


def _layer_names(kinds: Sequence[str]) -> list[str]:
    """Layers numbered within their kind: conv 1, conv 2, ..., dense 1."""
    short = {"convolution": "conv", "dense": "dense"}
    return [f"{short[kind]} {kinds[: n + 1].count(kind)}" for n, kind in enumerate(kinds)]

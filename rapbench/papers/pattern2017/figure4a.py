"""How fast the maps of signal estimators degrade the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rapbench.core.rows import vectors
from rapbench.metrics.degradation import Degradation
from rapbench.report.curves import Curve, Labels, drawing, plots, without_images
from rapbench.report.formats import printable
from rapbench.report.statistics import band, sound

if TYPE_CHECKING:
    from rapbench.report.curves import Plot
    from rapbench.report.figures import Drawing
    from rapbench.results.cell import Cell
    from rapbench.results.store import Held

_ESTIMATORS = {
    "random": "random",
    "input_gradient": "S_x",
    "signal_w": "S_w",
    "pattern_attribution_a": "S_a",
    "pattern_attribution": "S_a+-",
}
"""The methods that are the paper's estimators, in the order of its legend."""


@dataclass(frozen=True, kw_only=True)
class Figure4a:
    """The explained class's mean probability while patches lose their content, with 95 % intervals over images.

    A panel for each network and data set; the estimators of the paper under its names, other methods under theirs.

    Source: Kindermans et al. 2018, Figure 4a.
    """

    metric: ClassVar[str] = "degradation"

    def __call__(self, held: Sequence[Held]) -> list[Drawing]:
        return [drawing(plot) for plot in self.plots(held)]

    def plots(self, held: Sequence[Held]) -> list[Plot]:
        """What the drawings show."""
        labels = Labels(
            x_label="patches replaced by their mean, most relevant first",
            y_label="probability of the class first predicted",
            x="patches",
            y="probability",
        )
        return plots([degradation_curve(one) for one in held], labels, first=tuple(_ESTIMATORS))


def degradation_curve(held: Held) -> Curve:
    """Mean probability step by step, with its bootstrap interval; images are dropped as the metric drops them."""
    cell = held.cell
    metric = Degradation(**cell.identity.metric.parameters)
    rows = sound(metric.variants(signed=True)["mean_drop"], held.rows.frame)
    if not len(rows):
        return without_images(cell, _name(cell))
    probability = vectors(rows, "probability")
    low, high = band(probability, seed=cell.identity.seed)
    steps = np.arange(probability.shape[1])
    n, mean = len(probability), probability.mean(axis=0)
    return Curve(cell=cell, name=_name(cell), x=steps, y=mean, ci_low=low, ci_high=high, n=n)


def _name(cell: Cell) -> str:
    return _ESTIMATORS.get(cell.identity.method.name) or printable(cell.method)

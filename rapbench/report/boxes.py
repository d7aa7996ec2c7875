"""How a method's scores are spread over images, beside the number that a table gives of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rapbench.core.types import first
from rapbench.methods import is_control
from rapbench.report.result import measured_on

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rapbench.report.result import Result
    from rapbench.report.tables import Scores

QUANTILES = (5, 25, 50, 75, 95)
"""Percentiles over images: whiskers, quartiles and the median."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Box:
    """A method's number of one variant, with its interval and the quantiles of images.

    Attributes:
        result: the number.
        name: of the method, as the table calls it.
        quantiles: (5,) of the images' own scores; None where they have none or no image is left.
    """

    result: Result
    name: str
    quantiles: NDArray[np.float64] | None

    @property
    def is_control(self) -> bool:
        """Whether the method knows nothing of the network."""
        return is_control(self.result.cell.identity.method.name)


def boxes(table: Scores, variant: str) -> list[Box]:
    """A box for each method of a table that has a value, controls last."""
    found = [Box(result=r, name=name, quantiles=quantiles(r)) for name, r in _valued(table, variant)]
    return sorted(found, key=lambda box: box.is_control)


def _valued(table: Scores, variant: str) -> Iterable[tuple[str, Result]]:
    named = [(line.name, line.results.get(variant)) for line in table.lines]
    return [(name, one) for name, one in named if one is not None and one.estimate.value is not None]


def quantiles(result: Result) -> NDArray[np.float64] | None:
    """The quantiles of the images' own scores; None where they have none."""
    scores = image_scores(result)
    return None if scores is None or scores.empty else np.percentile(scores.to_numpy(), QUANTILES)


def image_scores(result: Result) -> pd.Series[float] | None:
    """The score of each image by its id; None where only all images together have one."""
    if result.definition.value is not first:
        return None
    return pd.Series(result.sample.statistics[:, 0], index=result.sample.ids)


def points(found: Iterable[Box]) -> pd.DataFrame:
    """A row a box."""
    return pd.DataFrame([_point(box) for box in found])


def _point(box: Box) -> dict[str, object]:
    estimate, spread = box.result.estimate, [None] * len(QUANTILES) if box.quantiles is None else box.quantiles
    numbers = {key: getattr(estimate, key) for key in ("value", "ci_low", "ci_high", "n")}
    told = {**measured_on(box.result.cell), "name": box.name, "variant": box.result.variant}
    return {**told, **numbers, **{f"p{q}": value for q, value in zip(QUANTILES, spread, strict=True)}}

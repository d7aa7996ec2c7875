"""Average drop and increase in confidence: how well does the network do on the image that a map lets through?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch

from rapbench.core.types import Direction, Explained, Need, Variant
from rapbench.metrics.average_precision import scaled
from rapbench.metrics.masked import probability
from rapbench.metrics.undefined import FLAWS, flawless, flaws, scattered

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AverageDrop:
    """What the explained class's probability p becomes, p', on the image times its map, which is scaled to [0, 1].

    The mask M is the map less its minimum, by its range. `average_drop` is the mean of 100 max(0, p - p') / p, the
    lower the better; `increase` the percent of images with p' > p, the higher the better; `mask_mean` the mean of M in
    percent. Both scores reward maps that let much through: read them beside `mask_mean`.

    Attributes:
        part: 'signed' scales the map as it is, so that M is grey where a signed map is zero; 'positive' its positive
            part, as of a class activation map.

    Source: Chattopadhay et al. 2018, Section 4.1.
    Departs: M multiplies the normalised image, so that what it shuts out becomes the mean colour.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("average_drop", "increase", "mask_mean")
    only_when_asked: ClassVar[bool] = True
    """Large, blurred maps score well whatever the network does."""

    part: Literal["signed", "positive"] = "signed"

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        pixels = explained.pixels if self.part == "signed" else explained.pixels.clamp(min=0)
        found = flaws(explained.relevance, pixels)
        images, count = flawless(found), len(pixels)
        mask, target = scaled(pixels[images]), explained.target[images]
        shown = explained.batch.x[images] * mask.unsqueeze(1).to(explained.batch.x)
        logits = explained.network.classify(shown) if len(images) else explained.logits[:0]
        return {
            "probability": scattered(images, probability(explained.intact[images], target)[:, 0], count),
            "masked_probability": scattered(images, probability(logits, target)[:, 0], count),
            "mask_mean": scattered(images, mask.mean((1, 2)), count),
        } | found

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        impossible = {"probability of zero": lambda rows: (rows["probability"] == 0).to_numpy()}
        return {
            "average_drop": _variant("lower", _drop, impossible),
            "increase": _variant("higher", _increase, {}),
            "mask_mean": _variant("lower", lambda rows: 100 * rows[["mask_mean"]].to_numpy(), {}),
        }


def _drop(rows: DataFrame) -> NDArray[np.float64]:
    """Share (N, 1) of the probability that is lost, in percent."""
    before, after = rows[["probability"]].to_numpy(), rows[["masked_probability"]].to_numpy()
    lost: NDArray[np.float64] = 100 * np.maximum(0, before - after) / before
    return lost


def _increase(rows: DataFrame) -> NDArray[np.float64]:
    """100 (N, 1) where the probability grows, else 0; NaN where one is not a number."""
    gain = rows[["masked_probability"]].to_numpy() - rows[["probability"]].to_numpy()
    return np.where(np.isnan(gain), np.nan, 100.0 * (gain > 0))


def _variant(
    direction: Direction,
    statistics: Callable[[DataFrame], NDArray[np.float64]],
    undefined: Mapping[str, Callable[[DataFrame], NDArray[np.bool_]]],
) -> Variant:
    return Variant(direction=direction, statistics=statistics, undefined=FLAWS | dict(undefined))

"""Energy localisation: which share of the relevance, and of the most relevant pixels, lies on the object?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from rapbench.core.types import Explained, Need, Variant
from rapbench.metrics.regions import NO_REGION, REGIONS, Kind, Regions
from rapbench.metrics.undefined import misclassified, non_finite, num_non_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

    Undefined = dict[str, Callable[[DataFrame], NDArray[np.bool_]]]

POOLINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "positive": lambda relevance: relevance.sum(1).clamp(min=0),
    "l2_squared": lambda relevance: relevance.square().sum(1),
    "max_abs": lambda relevance: relevance.abs().amax(1),
}
"""How relevance (N, C, H, W) becomes a map (N, H, W) without negative values."""


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Percent of an image's relevance, and of its most relevant pixels, inside the object; higher is better.

    Channels are first pooled to a map E ≥ 0. `ebpg`, the energy-based pointing game, is ΣE inside over ΣE where E is
    the positive part of the pixel map; `rma@P`, relevance mass accuracy, is the same of another pooling P:
    `l2_squared`, the channels' sum of squares, or `max_abs`, their greatest magnitude. `rra`, relevance rank accuracy,
    is the share inside of the K pixels of highest positive part, K being the object's size; of pixels that tie for the
    last of these places each has the same part of them. `share` is the object's share of the pixels, which a uniform
    map scores. All are means over images; void pixels enter none of them.

    Attributes:
        region: what draws the object, the union of its `boxes` or its `mask`.

    Source: Wang et al. 2020 (Score-CAM), energy-based pointing game; Arras et al. 2022 (CLEVR-XAI), relevance mass and
        rank accuracy.
    Departs: both explain the class that the object is of; here it is the predicted one, and images are dropped where
        their label is known to be another.
    """

    headline: ClassVar[tuple[str, ...]] = ("ebpg", "rra", "share")
    only_when_asked: ClassVar[bool] = True
    """It tells much of what outside_inside and segmentation tell."""

    region: Kind = "boxes"

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({self.region})

    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        regions = REGIONS[self.region](explained)
        columns = {**regions.areas(), "num_non_finite": num_non_finite(explained.relevance)}
        relevance = explained.relevance.double()
        for name, pooled in POOLINGS.items():
            energy = pooled(relevance)
            columns[f"{name}_inside"] = (energy * regions.inside).sum((1, 2))
            columns[f"{name}_outside"] = (energy * regions.outside).sum((1, 2))
        return columns | {"top_inside": top_inside(POOLINGS["positive"](relevance), regions)}

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        undefined = {"non-finite relevance": non_finite, "misclassified": misclassified, **NO_REGION[self.region]}
        positive = undefined | {"no positive relevance": _nothing("positive")}
        others = [name for name in POOLINGS if name != "positive"]
        return {
            "ebpg": _variant(_mass("positive"), positive),
            **{f"rma@{name}": _variant(_mass(name), undefined | {"zero map": _nothing(name)}) for name in others},
            "rra": _variant(_percent("top_inside", ("area_inside",)), positive),
            "share": _variant(_percent("area_inside", ("area_inside", "area_outside")), undefined),
        }


def top_inside(energy: Tensor, regions: Regions) -> Tensor:
    """Expected number (N,) float64, over orders of equal values, of pixels inside among the K highest of E (N, H, W).

    K is the number of pixels inside; void pixels take no place.
    """
    inside, sizes = regions.inside, regions.inside.sum((1, 2))
    counted = energy.masked_fill(~(inside | regions.outside), -1)
    last = _highest(counted, sizes).view(-1, 1, 1)
    above, tied = counted > last, counted == last
    places = sizes - above.sum((1, 2))
    share = (tied & inside).sum((1, 2)).double() / tied.sum((1, 2))
    return (above & inside).sum((1, 2)) + places * share


def _highest(values: Tensor, places: Tensor) -> Tensor:
    """The value (N,) at a place (N,) of each map (N, H, W), counted from the highest; place 0 stands for 1."""
    from_below = (values[0].numel() + 1 - places.clamp(min=1)).tolist()
    found = [image.kthvalue(k)[0] for image, k in zip(values.flatten(1), from_below, strict=True)]
    return torch.stack(found)


def _variant(statistics: Callable[[DataFrame], NDArray[np.float64]], undefined: Undefined) -> Variant:
    return Variant(direction="higher", statistics=statistics, undefined=undefined)


def _percent(part: str, whole: tuple[str, ...]) -> Callable[[DataFrame], NDArray[np.float64]]:
    return lambda rows: 100 * (rows[part] / rows[list(whole)].sum(axis=1)).to_numpy(dtype=np.float64)[:, np.newaxis]


def _mass(pooling: str) -> Callable[[DataFrame], NDArray[np.float64]]:
    return _percent(f"{pooling}_inside", (f"{pooling}_inside", f"{pooling}_outside"))


def _nothing(pooling: str) -> Callable[[DataFrame], NDArray[np.bool_]]:
    """Which images have no relevance so pooled."""
    return lambda rows: (rows[f"{pooling}_inside"] + rows[f"{pooling}_outside"] == 0).to_numpy()

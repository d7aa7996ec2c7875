"""The pointing game: is the most relevant pixel on the object, or near it?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional

from rapbench.core.named import LATER
from rapbench.core.ranges import Whole
from rapbench.core.rows import vectors
from rapbench.core.types import Explained, Need, Variant
from rapbench.metrics.regions import NO_REGION, REGIONS, Kind, by_class
from rapbench.metrics.undefined import constant, is_constant, misclassified, non_finite, num_non_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

_NUM_LOOKUPS = 2**24
"""Pixels around maxima that are looked at at once: bounds memory."""


@dataclass(frozen=True, kw_only=True)
class PointingGame:
    """Percent of images whose most relevant pixel is on the object, or nearer to it than a tolerance; higher is better.

    The pixel hits where a pixel of the region lies at a distance d < `tolerance` from it, or where it is itself one. Of
    pixels that tie for the maximum, an image counts with the share that hits. `accuracy` is the mean over images,
    `class_mean` the mean over explained classes of each one's accuracy. Void pixels are no region.

    Attributes:
        region: what draws the object, the union of its `boxes` or its `mask`.
        tolerance: in pixels of the network's input; 0 and 1 leave the region itself.
        smooth: standard deviation of a Gaussian that blurs the map beforehand, in shares of its longer side, the rim
            going on as it ends; 0 leaves the map as it is. The benchmark takes 0.02 for gradients, DeconvNet and Guided
            Backpropagation.
        trials: `images`, or with `pairs` each class of objects in an image besides, which its own boxes decide: in
            `accuracy:pairs` and `class_mean:pairs`, whose mean is over classes of objects. `accuracy:difficult` and
            `class_mean:difficult` are over the pairs of an image and a class whose boxes cover less than a quarter of
            the image, in which another class has a box too.

    Source: Zhang et al. 2016 (excitation backprop), pointing game; Fong et al. 2019 (extremal perturbations), for what
        their benchmark code does.
    Departs: the benchmark enlarges maps to the photograph's own pixels, 15 of which are fewer of the network's input,
        explains every class in an image by its own boxes, and takes the first of tied maxima. Here the predicted class
        is explained, all boxes of an image count, and images are dropped where their label is known to be another.
        Pairs are of this one map with the boxes of each class: as in the benchmark where a map knows no class, as
        `center`. Pairs whose objects are all marked as difficult to recognise count; the benchmark leaves them out. Its
        difficult subset is a stored list: here boxes tell it, in pixels of the network's input, and what several of a
        class share counts once, so that single pairs may differ.
    """

    headline: ClassVar[tuple[str, ...]] = ("accuracy",)
    only_when_asked: ClassVar[bool] = True
    """It tells less of a map than what weighs all pixels."""

    region: Kind = "boxes"
    tolerance: Whole = 15
    smooth: Annotated[float, Field(ge=0, le=1)] = 0.0
    trials: Literal["images", "pairs"] = field(default="images", metadata=LATER)

    @property
    def needs(self) -> frozenset[Need]:
        own: frozenset[Need] = frozenset({self.region})
        return own | {"boxes", "box_classes"} if self.trials == "pairs" else own

    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        regions, pixels = REGIONS[self.region](explained), explained.pixels
        uniform = is_constant(pixels)
        highest = maxima(blurred(pixels, self.smooth * max(pixels.shape[1:])))
        highest &= ~uniform.view(-1, 1, 1)  # none of those need be looked at
        hits = near(highest, regions.inside, self.tolerance)
        return {
            "num_hits": hits.sum((1, 2)),
            "num_maxima": highest.sum((1, 2)),
            **regions.areas(),
            "constant": uniform.long(),
            "num_non_finite": num_non_finite(explained.relevance),
            **(self._by_class(explained, highest) if self.trials == "pairs" else {}),
        }

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        undefined = {
            "non-finite relevance": non_finite,
            "misclassified": misclassified,
            **NO_REGION[self.region],
            "constant map": constant,
        }
        return {
            "accuracy": Variant(direction="higher", statistics=_hit, undefined=undefined),
            "class_mean": Variant(
                direction="higher", statistics=_hits_by_class, value=_mean_over_classes, undefined=undefined
            ),
            **(_of_pairs() if self.trials == "pairs" else {}),
        }

    def _by_class(self, explained: Explained, highest: Tensor) -> dict[str, Tensor]:
        """Columns (N, K) of how many maxima hit the boxes of each class and how many pixels these have, of how many."""
        inside = list(by_class(explained))
        hits = [near(highest, one, self.tolerance).sum((1, 2)) for one in inside]
        return {
            "class_hits": torch.stack(hits, 1),
            "class_areas": torch.stack([one.sum((1, 2)) for one in inside], 1),
            "num_pixels": torch.full_like(explained.target, highest[0].numel()),
        }


def maxima(pixels: Tensor) -> Tensor:
    """Which pixels (N, H, W) bool have the highest value of their map (N, H, W)."""
    return pixels == pixels.amax((1, 2), keepdim=True)


def near(points: Tensor, region: Tensor, tolerance: int) -> Tensor:
    """Which of the points (N, H, W) bool are nearer than a tolerance in pixels to the region (N, H, W), or in it.

    Every point looks at all pixels around it: the fewer there are the better.
    """
    reach = min(max(tolerance, 1), sum(region.shape[1:]))
    around = torch.arange(1 - reach, reach, device=region.device)
    down, right = (around.view(-1, 1) ** 2 + around**2 < reach**2).nonzero(as_tuple=True)  # counted from the margin
    framed = functional.pad(region, (reach - 1,) * 4)
    parts = torch.split(points.nonzero(), max(1, _NUM_LOOKUPS // len(down)))
    hits = [framed[image, row + down, col + right].any(1) for image, row, col in (p.T.unsqueeze(2) for p in parts)]
    found = torch.zeros_like(points)
    found[points] = torch.cat(hits)
    return found


def blurred(pixels: Tensor, sigma: float) -> Tensor:
    """Maps (N, H, W) under a Gaussian of a standard deviation in pixels, cut at four of them; unchanged by 0."""
    if sigma == 0:
        return pixels
    down, across = (gaussian(size, sigma).to(pixels.device) for size in pixels.shape[1:])
    return down @ pixels @ across.T


def gaussian(size: int, sigma: float) -> Tensor:
    """Weights (size, size) float64 of each place of a line in the blurred ones; beyond an end, the end goes on."""
    reach = math.ceil(4 * sigma)
    steps = torch.arange(-reach, reach + 1)
    weights = torch.exp(-(steps.double() ** 2) / (2 * sigma**2))
    places = (torch.arange(size).view(-1, 1) + steps).clamp(0, size - 1)
    return torch.zeros(size, size).double().scatter_add_(1, places, (weights / weights.sum()).expand(size, -1))


def _hit(rows: DataFrame) -> NDArray[np.float64]:
    """Percent (N, 1) of an image's maxima that hit."""
    return 100 * (rows["num_hits"] / rows["num_maxima"]).to_numpy(dtype=np.float64)[:, np.newaxis]


def _hits_by_class(rows: DataFrame) -> NDArray[np.float64]:
    """Of each of K explained classes, what `_hit` gives where it is the image's and 0 elsewhere; then whether it is."""
    own = (rows["target"].to_numpy()[:, np.newaxis] == np.unique(rows["target"])).astype(np.float64)
    return np.hstack([_hit(rows) * own, own])


def _of_pairs() -> dict[str, Variant]:
    """The variants over all pairs of an image and a class of objects, and over the difficult ones."""
    undefined: dict[str, Callable[[DataFrame], NDArray[np.bool_]]] = {
        "non-finite relevance": non_finite,
        "misclassified": misclassified,
        "no boxes": partial(_lacks_pairs, difficult=False),
        "constant map": constant,
    }
    found = {}
    easy = undefined | {"no difficult object": partial(_lacks_pairs, difficult=True)}
    for subset, dropped in {"pairs": undefined, "difficult": easy}.items():
        statistics = partial(_pair_hits, difficult=subset == "difficult")
        for name, value in {"accuracy": _mean_over_pairs, "class_mean": _mean_over_classes}.items():
            found[f"{name}:{subset}"] = Variant(
                direction="higher", statistics=statistics, value=value, undefined=dropped
            )
    return found


def _pair_hits(rows: DataFrame, *, difficult: bool) -> NDArray[np.float64]:
    """Of each of K classes, percent of an image's maxima that hit it where the pair counts, else 0; then whether so."""
    counts = _pairs(rows, difficult=difficult)
    maxima = rows["num_maxima"].to_numpy(dtype=np.float64)[:, np.newaxis]
    return np.hstack([100 * vectors(rows, "class_hits") / maxima * counts, counts])


def _pairs(rows: DataFrame, *, difficult: bool) -> NDArray[np.bool_]:
    """Which classes (N, K) have boxes in an image, or such as are difficult to hit."""
    areas = vectors(rows, "class_areas")
    there: NDArray[np.bool_] = areas > 0
    if not difficult:
        return there
    small: NDArray[np.bool_] = 4 * areas < rows["num_pixels"].to_numpy()[:, np.newaxis]
    distracted: NDArray[np.bool_] = there.sum(axis=1)[:, np.newaxis] > 1
    return there & small & distracted


def _lacks_pairs(rows: DataFrame, *, difficult: bool) -> NDArray[np.bool_]:
    any_pair: NDArray[np.bool_] = _pairs(rows, difficult=difficult).max(axis=1)
    return ~any_pair


def _mean_over_pairs(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over pairs, given means (..., 2 K)."""
    hits, pairs = np.split(means, 2, axis=-1)
    mean: NDArray[np.float64] = hits.sum(-1) / pairs.sum(-1)
    return mean


def _mean_over_classes(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over those classes that images were drawn of, given means (..., 2 K)."""
    hits, images = np.split(means, 2, axis=-1)
    accuracies = np.divide(hits, images, out=np.zeros_like(hits), where=images > 0)
    mean: NDArray[np.float64] = accuracies.sum(-1) / (images > 0).sum(-1)
    return mean

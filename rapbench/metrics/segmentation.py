"""Segmentation by relevance: the thresholded map against the object's mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from rapbench.core.rows import vectors
from rapbench.core.types import VOID, Explained, Need, Variant
from rapbench.metrics.undefined import non_finite, num_non_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

    Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]

PERCENTILES = (50, 60, 70, 80, 90)


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Agreement in percent of the pixels above (not at) a threshold with the object's mask; higher is better.

    Thresholds, written after an @: `zero`; `mean` of the image's map; `mean_pos`, the mean of its positive part over
    all pixels; `mean_abs`, the mean of its magnitude; `p50` (the median) to `p90`, percentiles of the map; `paper`,
    zero for a signed method and the mean for an unsigned one. Every pixel of the image enters them.

    Counts are summed over the whole data set before any ratio. Void pixels are never counted, unless an option after
    a colon takes them for one class: `:void=background`, `:void=object`. `:per_image` is the mean of the images' own
    scores; there, as everywhere, the IoU of a class that neither map nor mask contains is 0.

    Source: Nam et al. 2020, section "Objectness of Positive Attributions".
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"mask"})
    headline: ClassVar[tuple[str, ...]] = ("pixel_accuracy@paper", "miou@paper", "fg_iou@paper")

    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        """Columns of each threshold: true and false positives, false and true negatives, void pixels above, below."""
        pixels = explained.pixels
        mask = _stacked(explained.batch.mask, pixels)
        classes = (mask == 1, mask == 0, mask == VOID)
        sizes = _sizes(classes)
        counts = {f"counts_{name}": _counts(pixels > at, classes, sizes) for name, at in thresholds(pixels).items()}
        return counts | {"num_labelled": sizes[:, :2].sum(1), "num_non_finite": num_non_finite(explained.relevance)}

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        counted = {"paper": "zero" if signed else "mean"} | {name: name for name in THRESHOLDS}
        return {
            f"{score}@{threshold}{option}": build(f"counts_{column}", score)
            for option, build in _OPTIONS.items()
            for threshold, column in counted.items()
            for score in _SCORES
        }


def _mean(values: Tensor) -> Tensor:
    """Mean (N, 1, 1), taken from the minimum up so that the mean of equal values is exactly their value."""
    lowest = values.amin((1, 2), keepdim=True)
    return lowest + (values - lowest).mean((1, 2), keepdim=True)


def _percentiles(pixels: Tensor) -> Tensor:
    """Percentiles (5, N, 1, 1) of maps (N, H, W), linear between neighbouring values."""
    shares = torch.tensor(PERCENTILES, dtype=pixels.dtype, device=pixels.device) / 100
    found = [torch.quantile(image, shares) for image in pixels.flatten(1)]  # a whole batch may be above its size limit
    return torch.stack(found, dim=1)[..., None, None]


_MEANS: dict[str, Callable[[Tensor], Tensor]] = {
    "zero": lambda pixels: pixels.new_zeros(len(pixels), 1, 1),
    "mean": _mean,
    "mean_pos": lambda pixels: _mean(pixels.clamp(min=0)),
    "mean_abs": lambda pixels: _mean(pixels.abs()),
}
THRESHOLDS = (*_MEANS, *(f"p{percent}" for percent in PERCENTILES))


def thresholds(pixels: Tensor) -> dict[str, Tensor]:
    """Every threshold (N, 1, 1) of maps (N, H, W), by name."""
    return dict(zip(THRESHOLDS, (*(mean(pixels) for mean in _MEANS.values()), *_percentiles(pixels)), strict=True))


def _stacked(masks: tuple[Tensor | None, ...], pixels: Tensor) -> Tensor:
    """Masks (N, H, W) on the map's device, all void where an image has none."""
    void = torch.full(pixels.shape[1:], VOID, dtype=torch.uint8)
    return torch.stack([(void if mask is None else mask).to(pixels.device) for mask in masks])


def _sizes(sets: tuple[Tensor, ...]) -> Tensor:
    """Number of pixels (N, S) int64 of each set of pixels (N, H, W)."""
    return torch.stack([pixels.sum((1, 2)) for pixels in sets], dim=1)


def _counts(above: Tensor, classes: tuple[Tensor, ...], sizes: Tensor) -> Tensor:
    """True and false positives, false and true negatives, then void pixels above and below (N, 6) int64."""
    found = _sizes(tuple(above & pixels for pixels in classes))
    missed = sizes - found
    return torch.cat([found[:, :2], missed[:, :2], found[:, 2:], missed[:, 2:]], dim=1)


def _safe_ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratio of a part to its whole, 0 where both are 0: a class that neither map nor mask contains."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)


def pixel_accuracy(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percent of pixels labelled alike, from counts (..., 4)."""
    return 100 * _safe_ratio(counts[..., 0] + counts[..., 3], counts.sum(-1))


def fg_iou(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of the foreground in percent, from counts (..., 4)."""
    return 100 * _safe_ratio(counts[..., 0], counts[..., :3].sum(-1))


def miou(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean in percent of the foreground's and the background's intersection over union, from counts (..., 4)."""
    return (fg_iou(counts) + fg_iou(counts[..., ::-1])) / 2


_SCORES: dict[str, Score] = {"pixel_accuracy": pixel_accuracy, "miou": miou, "fg_iou": fg_iou}


def _without_void(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts[..., :4]


def _void_is_background(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Counts (..., 4) where void pixels above are false positives, and below true negatives."""
    tp, fp, fn, tn, above, below = np.moveaxis(counts, -1, 0)
    return np.stack([tp, fp + above, fn, tn + below], axis=-1)


def _void_is_object(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Counts (..., 4) where void pixels above are true positives, and below false negatives."""
    tp, fp, fn, tn, above, below = np.moveaxis(counts, -1, 0)
    return np.stack([tp + above, fp, fn + below, tn], axis=-1)


@cache
def _column(name: str) -> Callable[[DataFrame], NDArray[np.float64]]:
    """Reads a column of counts (N, 6); one function a column, so that what shares it is read and resampled once."""
    return lambda rows: vectors(rows, name)


def _no_mask(rows: DataFrame) -> NDArray[np.bool_]:
    return (rows["num_labelled"] == 0).to_numpy()


_UNDEFINED = {"non-finite relevance": non_finite, "no mask": _no_mask}


def _over_the_data_set(treated: Score) -> Callable[[str, str], Variant]:
    """Variants of counts summed over images, with void pixels treated so."""
    return lambda column, score: Variant(
        direction="higher",
        statistics=_column(column),
        value=lambda means: _SCORES[score](treated(means)),
        undefined=_UNDEFINED,
    )


@cache
def _own_score(column: str, score: str) -> Callable[[DataFrame], NDArray[np.float64]]:
    return lambda rows: _SCORES[score](_without_void(_column(column)(rows)))[:, np.newaxis]


def _per_image(column: str, score: str) -> Variant:
    """The mean of the images' own scores."""
    return Variant(direction="higher", statistics=_own_score(column, score), undefined=_UNDEFINED)


_OPTIONS: dict[str, Callable[[str, str], Variant]] = {
    "": _over_the_data_set(_without_void),
    ":void=background": _over_the_data_set(_void_is_background),
    ":void=object": _over_the_data_set(_void_is_object),
    ":per_image": _per_image,
}

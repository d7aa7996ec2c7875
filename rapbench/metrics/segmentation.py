"""Segmentation by relevance: the thresholded map against the object's mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from rapbench.core.types import VOID, Explained, Need, Variant
from rapbench.metrics.undefined import non_finite, num_non_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Agreement in percent of the pixels above (not at) a threshold with the object's mask; higher is better.

    Thresholds, written after an @: `zero`; `mean` of the image's map; `mean_pos`, the mean of its positive part over
    all pixels; `mean_abs`, the mean of its magnitude; `paper`, zero for a signed method and the mean for an unsigned
    one. Counts are summed over the whole data set before any ratio; void pixels enter the threshold, never a count.

    Source: Nam et al. 2020, section "Objectness of Positive Attributions".
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"mask"})
    headline: ClassVar[tuple[str, ...]] = ("pixel_accuracy@paper", "miou@paper", "fg_iou@paper")

    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        pixels = explained.pixels
        mask = _stacked(explained.mask, pixels)
        counts = {f"counts_{name}": _confusion(pixels > at(pixels), mask) for name, at in _THRESHOLDS.items()}
        labelled = (mask != VOID).sum((1, 2))
        return counts | {"num_labelled": labelled, "num_non_finite": num_non_finite(explained.relevance)}

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        counted = {"paper": "zero" if signed else "mean"} | {name: name for name in _THRESHOLDS}
        return {
            f"{score}@{threshold}": _variant(f"counts_{column}", value)
            for threshold, column in counted.items()
            for score, value in _SCORES.items()
        }


def _mean(values: Tensor) -> Tensor:
    """Mean (N, 1, 1), taken from the minimum up so that the mean of equal values is exactly their value."""
    lowest = values.amin((1, 2), keepdim=True)
    return lowest + (values - lowest).mean((1, 2), keepdim=True)


_THRESHOLDS: dict[str, Callable[[Tensor], Tensor]] = {
    "zero": lambda pixels: pixels.new_zeros(len(pixels), 1, 1),
    "mean": _mean,
    "mean_pos": lambda pixels: _mean(pixels.clamp(min=0)),
    "mean_abs": lambda pixels: _mean(pixels.abs()),
}


def _stacked(masks: tuple[Tensor | None, ...], pixels: Tensor) -> Tensor:
    """Masks (N, H, W) on the map's device, all void where an image has none."""
    void = torch.full(pixels.shape[1:], VOID, dtype=torch.uint8)
    return torch.stack([(void if mask is None else mask).to(pixels.device) for mask in masks])


def _confusion(foreground: Tensor, mask: Tensor) -> Tensor:
    """True positives, false positives, false negatives, true negatives (N, 4) int64 over non-void pixels."""
    cells = [foreground & (mask == 1), foreground & (mask == 0), ~foreground & (mask == 1), ~foreground & (mask == 0)]
    return torch.stack([cell.sum((1, 2)) for cell in cells], dim=1)


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


_SCORES = {"pixel_accuracy": pixel_accuracy, "miou": miou, "fg_iou": fg_iou}


def _variant(column: str, value: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Variant:
    return Variant(
        direction="higher",
        statistics=lambda rows: np.stack(rows[column].to_list()).astype(np.float64),
        value=value,
        undefined={"non-finite relevance": non_finite, "no mask": _no_mask},
    )


def _no_mask(rows: DataFrame) -> NDArray[np.bool_]:
    return (rows["num_labelled"] == 0).to_numpy()

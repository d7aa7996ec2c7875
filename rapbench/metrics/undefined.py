"""Why an image has no value: what is counted while the map is on the device, and how stored rows tell afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor


def num_non_finite(relevance: Tensor) -> Tensor:
    """Number (N,) int64 of elements of relevance (N, C, H, W) that are infinite or not a number."""
    return (~relevance.isfinite()).flatten(1).sum(1)


def is_constant(pixels: Tensor) -> Tensor:
    """Whether (N,) bool all pixels of a map (N, H, W) have the same value."""
    flat = pixels.flatten(1)
    return flat.amin(1) == flat.amax(1)


def non_finite(rows: DataFrame) -> NDArray[np.bool_]:
    """Rows whose relevance held an infinity or a NaN."""
    return (rows["num_non_finite"] > 0).to_numpy()


def constant(rows: DataFrame) -> NDArray[np.bool_]:
    """Rows whose map has a single value."""
    return (rows["constant"] > 0).to_numpy()


def misclassified(rows: DataFrame) -> NDArray[np.bool_]:
    """Rows whose predicted class is not the label; an unknown label is not held against an image.

    Rows tell the predicted class where another one was explained; elsewhere it is the target.
    """
    predicted = rows["predicted"] if "predicted" in rows else rows["target"]
    return ((rows["label"] >= 0) & (rows["label"] != predicted)).to_numpy()

"""Why an image has no value: what is counted while the map is on the device, and how stored rows tell afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from rapbench.core.rows import vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

    from rapbench.core.types import Explained


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


def labels(explained: Explained) -> Tensor:
    """Labels (N,) int64 of the images, -1 where unknown."""
    label = explained.batch.label
    return torch.full_like(explained.target, -1) if label is None else label


def unlabelled(rows: DataFrame) -> NDArray[np.bool_]:
    """Rows of images without a label in the network's terms, as the column `labelled` tells."""
    return (rows["labelled"] == 0).to_numpy()


def flaws(relevance: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    """Columns (N,) int64 of what leaves maps (N, C, H, W) and their pixel maps (N, H, W) without an order."""
    return {"num_non_finite": num_non_finite(relevance), "constant": is_constant(pixels).long()}


def flawless(found: Mapping[str, Tensor]) -> Tensor:
    """Places (M,) in the batch of the images whose maps have no such flaw."""
    return torch.stack(list(found.values())).eq(0).all(0).nonzero().squeeze(1)


def scattered(images: Tensor, values: Tensor, count: int) -> Tensor:
    """Values (count, ...) float64 of all images, given those of some (M, ...); the others have none, which is NaN."""
    return values.new_full((count, *values.shape[1:]), torch.nan, dtype=torch.float64).index_copy(
        0, images, values.double()
    )


def equal(name: str) -> Callable[[DataFrame], NDArray[np.bool_]]:
    """Rows whose vector in a column has a single value."""

    def holds(rows: DataFrame) -> NDArray[np.bool_]:
        values = vectors(rows, name)
        same: NDArray[np.bool_] = values.min(axis=1) == values.max(axis=1)
        return same

    return holds


FLAWS = {"non-finite relevance": non_finite, "constant map": constant}
"""Why a map without an order has no value."""

"""Regions: which pixels of an image are the object and which are not, by its boxes or by its mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from rapbench.core.types import VOID, Explained

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

Kind = Literal["boxes", "mask"]
"""What draws the object."""


class Regions(NamedTuple):
    """Which pixels (N, H, W) bool are inside the object and which outside.

    Void pixels are neither, and so are all of an image without boxes or mask.
    """

    inside: Tensor
    outside: Tensor

    def areas(self) -> dict[str, Tensor]:
        """Number (N,) int64 of pixels inside and outside: the columns `area_inside` and `area_outside`."""
        return {f"area_{side}": pixels.sum((1, 2)) for side, pixels in self._asdict().items()}


def by_boxes(explained: Explained) -> Regions:
    """Inside the union of an image's boxes."""
    one_channel = explained.relevance[:, 0]
    inside = union_of_boxes(explained.batch.boxes, one_channel.shape).to(one_channel.device)
    return Regions(inside, ~inside & inside.any(2, keepdim=True).any(1, keepdim=True))


def by_class(explained: Explained) -> Iterator[Tensor]:
    """For each class of objects, which pixels (N, H, W) bool lie in any box of it."""
    batch, shape = explained.batch, explained.relevance[:, 0].shape
    known = [classes for classes in batch.box_classes if classes is not None]
    for k in range(known[0].shape[1]):
        boxes = (None if all_of is None else all_of[its[:, k]] for all_of, its in zip(batch.boxes, known, strict=True))
        yield union_of_boxes(tuple(boxes), shape).to(explained.relevance.device)


def by_mask(explained: Explained) -> Regions:
    """Inside an image's mask."""
    mask = stacked_masks(explained.batch.mask, explained.relevance[:, 0])
    return Regions(mask == 1, mask == 0)


REGIONS: Mapping[Kind, Callable[[Explained], Regions]] = {"boxes": by_boxes, "mask": by_mask}


def union_of_boxes(boxes: tuple[Tensor | None, ...], shape: torch.Size) -> Tensor:
    """Which pixels (N, H, W) bool lie in any box of their image."""
    inside = torch.zeros(shape, dtype=torch.bool)
    for image, its_boxes in zip(inside, boxes, strict=True):
        for col0, row0, col1, row1 in [] if its_boxes is None else its_boxes.tolist():
            image[row0:row1, col0:col1] = True
    return inside


def stacked_masks(masks: tuple[Tensor | None, ...], pixels: Tensor) -> Tensor:
    """Masks (N, H, W) on the device of maps (N, H, W), all void where an image has none."""
    void = torch.full(pixels.shape[1:], VOID, dtype=torch.uint8)
    return torch.stack([(void if mask is None else mask).to(pixels.device) for mask in masks])


def _unmarked(rows: DataFrame) -> NDArray[np.bool_]:
    return (rows["area_inside"] + rows["area_outside"] == 0).to_numpy()


def _empty(rows: DataFrame) -> NDArray[np.bool_]:
    return (rows["area_inside"] == 0).to_numpy()


NO_REGION: Mapping[Kind, Mapping[str, Callable[[DataFrame], NDArray[np.bool_]]]] = {
    "boxes": {"no boxes": _empty},
    "mask": {"no mask": _unmarked, "empty mask": _empty},
}
"""Reasons to drop an image whose object is not drawn, as `Variant.undefined` has them."""

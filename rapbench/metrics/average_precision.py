"""Average precision of a map against a mask, both classes being one problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rapbench.core.types import VOID

if TYPE_CHECKING:
    from torch import Tensor


def scaled(pixels: Tensor) -> Tensor:
    """Maps (N, H, W), each from 0 at its least to 1 at its greatest value; 0 everywhere where these are the same."""
    low, high = pixels.amin((1, 2), keepdim=True), pixels.amax((1, 2), keepdim=True)
    return ((pixels - low) / (high - low)).nan_to_num(nan=0)


def average_precision(soft: Tensor, mask: Tensor) -> Tensor:
    """Average precision (N,) float64 of 2 HW answers: of each pixel M for the object and 1 - M for the background.

    Half of the answers are right, one a pixel: its own class's. Average precision, the area under steps of precision
    over recall, is the mean over right answers of the precision among the answers that score as high or higher, so that
    equal ones count together. Pixels that are void give no answer; without others it is not a number.

    Args:
        soft: maps M (N, H, W) in [0, 1].
        mask: (N, H, W) uint8.

    Source: Chefer et al. 2021, segmentation on ImageNet.
    """
    of_object, of_background = soft.flatten(1), 1 - soft.flatten(1)
    is_object, void = mask.flatten(1) == 1, mask.flatten(1) == VOID
    right = _ascending(torch.where(is_object, of_object, of_background).masked_fill(void, -1))
    wrong = _ascending(torch.where(is_object, of_background, of_object).masked_fill(void, -1))
    hits, misses = (soft[0].numel() - torch.searchsorted(answers, right) for answers in (right, wrong))
    labelled = right >= 0
    return (labelled * (hits / (hits + misses).double())).sum(1) / labelled.sum(1)


def _ascending(values: Tensor) -> Tensor:
    ordered, _ = values.sort(1)
    return ordered

"""Outside-inside relevance ratio: does relevance fall on the object, and irrelevance off it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from rapbench.core.types import Explained, Need, Variant
from rapbench.metrics.undefined import misclassified, non_finite, num_non_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame, Series
    from torch import Tensor

    Terms = Callable[[DataFrame], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class OutsideInside:
    """Mean relevance on the wrong side of the object's boxes over mean relevance on the right side; lower is better.

    Inside is the union of an image's boxes. `all` weighs both signs, R⁻ being a magnitude; `all_signed` is the same
    with R⁻ ≤ 0; `pos` weighs positive relevance alone, which is the ratio of Lapuschkin et al. 2016. Methods without
    negative evidence are scored by `pos`. A suffix tells how images are combined: no suffix, the mean of their ratios;
    `_median`; `_ratio_of_means`, the ratio of the two means over images once every map is scaled to Σ|R| = 1.

    Source: Nam et al. 2020, Eq. 11.
    Departs: the equation prints R⁻ with its sign, which only `all_signed` follows: there a map whose signs balance on
        each side scores -1 instead of 1, and terms that cancel make the ratio as large as one likes.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"boxes"})
    headline: ClassVar[tuple[str, ...]] = ("all", "all_median", "pos", "pos_median")

    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        """Columns: positive relevance and negative's magnitude summed inside and outside the boxes; pixels there."""
        pixels = explained.pixels
        inside = union_of_boxes(explained.batch.boxes, pixels.shape).to(pixels.device)
        outside = ~inside & inside.any(2, keepdim=True).any(1, keepdim=True)  # without a box there is neither
        positive, negative = pixels.clamp(min=0), (-pixels).clamp(min=0)
        return {
            "positive_inside": (positive * inside).sum((1, 2)),
            "positive_outside": (positive * outside).sum((1, 2)),
            "negative_inside": (negative * inside).sum((1, 2)),
            "negative_outside": (negative * outside).sum((1, 2)),
            "area_inside": inside.sum((1, 2)),
            "area_outside": outside.sum((1, 2)),
            "num_non_finite": num_non_finite(explained.relevance),
        }

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        means = {"pos": _mean_of_ratios(_positive, "no positive relevance inside")}
        ratios = {"pos_ratio_of_means": _ratio_of_means(_positive)}
        if signed:
            nothing_right = "no positive relevance inside, no negative outside"
            printed = {"all_signed": _mean_of_ratios(_both_signed, "zero denominator")}
            means = {"all": _mean_of_ratios(_both, nothing_right)} | means | printed
            ratios = {"all_ratio_of_means": _ratio_of_means(_both)} | ratios
            ratios |= {"all_signed_ratio_of_means": _ratio_of_means(_both_signed)}
        medians = {f"{name}_median": replace(variant, average="median") for name, variant in means.items()}
        return means | medians | ratios


def union_of_boxes(boxes: tuple[Tensor | None, ...], shape: torch.Size) -> Tensor:
    """Which pixels (N, H, W) bool lie in any box of their image."""
    inside = torch.zeros(shape, dtype=torch.bool)
    for image, its_boxes in zip(inside, boxes, strict=True):
        for col0, row0, col1, row1 in [] if its_boxes is None else its_boxes.tolist():
            image[row0:row1, col0:col1] = True
    return inside


def _mean(rows: DataFrame, sign: str, side: str) -> Series[float]:
    return rows[f"{sign}_{side}"] / rows[f"area_{side}"]


def _both(rows: DataFrame) -> NDArray[np.float64]:
    """Numerator and denominator (N, 2) of Eq. 11."""
    wrong = _mean(rows, "positive", "outside") + _mean(rows, "negative", "inside")
    right = _mean(rows, "positive", "inside") + _mean(rows, "negative", "outside")
    return np.stack([wrong, right], axis=1)


def _both_signed(rows: DataFrame) -> NDArray[np.float64]:
    """Numerator and denominator (N, 2) of Eq. 11 as printed, negative relevance keeping its sign."""
    wrong = _mean(rows, "positive", "outside") - _mean(rows, "negative", "inside")
    right = _mean(rows, "positive", "inside") - _mean(rows, "negative", "outside")
    return np.stack([wrong, right], axis=1)


def _positive(rows: DataFrame) -> NDArray[np.float64]:
    """Numerator and denominator (N, 2) of Eq. 11 without negative relevance."""
    return np.stack([_mean(rows, "positive", "outside"), _mean(rows, "positive", "inside")], axis=1)


def _magnitude(rows: DataFrame) -> NDArray[np.float64]:
    """Σ|R| (N,) of each map."""
    parts = rows[["positive_inside", "positive_outside", "negative_inside", "negative_outside"]]
    sums: NDArray[np.float64] = parts.to_numpy(dtype=np.float64).sum(axis=1)
    return sums


_UNDEFINED: dict[str, Callable[[DataFrame], NDArray[np.bool_]]] = {
    "non-finite relevance": non_finite,
    "misclassified": misclassified,
    "no boxes": lambda rows: (rows["area_inside"] == 0).to_numpy(),
    "box fills the image": lambda rows: (rows["area_outside"] == 0).to_numpy(),
    "zero map": lambda rows: _magnitude(rows) == 0,
}


def _mean_of_ratios(terms: Terms, nothing_right: str) -> Variant:
    return Variant(
        direction="lower",
        statistics=lambda rows: np.divide(*terms(rows).T)[:, np.newaxis],
        undefined=_UNDEFINED | {nothing_right: lambda rows: terms(rows)[:, 1] == 0},
    )


def _ratio_of_means(terms: Terms) -> Variant:
    return Variant(
        direction="lower",
        statistics=lambda rows: terms(rows) / _magnitude(rows)[:, np.newaxis],
        value=lambda means: means[..., 0] / means[..., 1],
        undefined=_UNDEFINED,
    )

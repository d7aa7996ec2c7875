"""Positive and negative perturbation: top-1 accuracy while tenths of an image's pixels are erased."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch

from rapbench.core.ranges import Count
from rapbench.core.rows import vectors
from rapbench.core.types import Direction, Explained, Need, Variant
from rapbench.metrics.masked import Ties, colour, masked_scores, outcomes, places, up_to
from rapbench.metrics.undefined import FLAWS, flawless, flaws, labels, scattered, unlabelled

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

FRACTIONS = tuple(tenths / 10 for tenths in range(1, 10))
_SCORES = ("label", "explained", "probability")
_BEHIND = {"label": "", "explained": "_explained", "probability": "_probability"}
_DIRECTION: Mapping[str, Direction] = {"positive": "lower", "negative": "higher"}


@dataclass(frozen=True, kw_only=True)
class FractionPerturbation:
    """Top-1 accuracy while 10 % to 90 % of the pixels are erased in all channels, by relevance of the clean image.

    Positive perturbation erases the most relevant pixels first (the lower the area under the curve the better),
    negative the least relevant first (the higher the better). Images that the network gets wrong count like others.

    `positive_auc` and `negative_auc` are of whether the top class is the image's label, whichever class was explained;
    with `_explained` behind them of whether it is the explained class, with `_probability` of that class's softmax. All
    are in percent, under the ten points 0, 0.1, ..., 0.9, so that a perfect curve has 90. With `:9pt` behind them they
    are without the clean image, under 0.1, ..., 0.9; with `:mean`, the mean of these nine points.

    Attributes:
        fill: what an erased pixel becomes: 'black'; 'mean', zero in network input (mean colour).
        ties: how pixels of equal relevance follow one another: 'row_major'; 'random', in an order drawn from each
            image's own seed, the same for positive and negative.
        orders: 'positive' or 'negative' alone takes half the forward passes.
        images: perturb only the first so many images of a run; all by default.

    Source: Chefer et al. 2021, Section 4 and Table 1; the area as the first author states it for their implementation.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = (
        *("positive_auc", "negative_auc"),
        *("positive_auc_explained", "negative_auc_explained"),
    )
    only_when_asked: ClassVar[bool] = True
    """It takes 18 classifications an image and tells much the same as perturbation."""

    fill: Literal["black", "mean"] = "black"
    ties: Ties = "row_major"
    orders: Literal["both", "positive", "negative"] = "both"
    images: Count | None = field(default=None, metadata={"selection": True})

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        pixels, label = explained.pixels, labels(explained)
        found = flaws(explained.relevance, pixels)
        images, columns = flawless(found), {"labelled": (label >= 0).long()} | found
        seeds = explained.batch.seeds[images.cpu()]
        for order in self._orders:
            rank = places(pixels[images], seeds, descending=order == "positive", ties=self.ties)
            curves = scattered(images, self._curves(explained, images, rank, label[images]), len(pixels))
            columns |= {f"{order}_{name}": curve for name, curve in zip(_SCORES, curves.unbind(2), strict=True)}
        return columns

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        variants: dict[str, Variant] = {}
        for score, behind in _BEHIND.items():
            undefined = FLAWS | ({"unknown label": unlabelled} if score == "label" else {})
            for order in self._orders:
                for suffix, area in _AREAS.items():
                    variants[f"{order}_auc{behind}{suffix}"] = Variant(
                        direction=_DIRECTION[order],
                        statistics=partial(_percent, name=f"{order}_{score}", area=area),
                        undefined=undefined,
                    )
        return variants

    @property
    def _orders(self) -> tuple[str, ...]:
        return ("positive", "negative") if self.orders == "both" else (self.orders,)

    def _curves(self, explained: Explained, images: Tensor, rank: Tensor, label: Tensor) -> Tensor:
        """Scores (M, 10, 3) of the chosen images, erased in the order of rank (M, H, W), of labels (M,) or -1."""
        x, target = explained.batch.x[images], explained.target[images]
        counts = torch.tensor([int(fraction * x.shape[2:].numel()) for fraction in FRACTIONS])
        erased = masked_scores(
            explained.network.classify,
            x,
            rank,
            spans=up_to(counts),
            replacement=colour(explained.network.black if self.fill == "black" else (0.0,), x),
            score=lambda logits, some: _scores(logits, target[some], label[some]),
            num_scores=len(_SCORES),
        )
        return torch.cat([_scores(explained.intact[images], target, label).unsqueeze(1), erased], 1)


def _scores(logits: Tensor, target: Tensor, label: Tensor) -> Tensor:
    """Whether the label (M,) is on top, whether the target (M,) is, and the target's softmax: (M, 3).

    An unknown label, -1, is neither.
    """
    right = outcomes(logits, label.clamp(min=0))[:, :1].where(label.unsqueeze(1) >= 0, torch.nan)
    return torch.cat([right, outcomes(logits, target)[:, :2]], 1)


def _trapezoid(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area (N,) under points (N, L) that are a tenth apart."""
    areas: NDArray[np.float64] = (curve[:, :-1] + curve[:, 1:]).sum(axis=1) / 20
    return areas


def _without_clean(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    return _trapezoid(curve[:, 1:])


def _mean(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = curve[:, 1:].mean(axis=1)
    return means


_AREAS = {"": _trapezoid, ":9pt": _without_clean, ":mean": _mean}


def _percent(
    rows: DataFrame, name: str, area: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """An area (N, 1) of a curve, in percent."""
    return 100 * area(vectors(rows, name))[:, np.newaxis]

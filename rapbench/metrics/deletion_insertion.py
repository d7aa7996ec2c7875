"""Deletion and insertion: how soon the class goes as pixels are taken away, and comes as they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch

from rapbench.core.errors import BadConfig
from rapbench.core.ranges import Count
from rapbench.core.rows import vectors
from rapbench.core.types import Direction, Explained, Need, Variant
from rapbench.metrics.masked import (
    OUTCOMES,
    Ties,
    beyond,
    blurred,
    colour,
    masked_scores,
    outcomes,
    picture,
    places,
    up_to,
)
from rapbench.metrics.undefined import FLAWS, flawless, flaws, scattered

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

    from rapbench.metrics.masked import Replacement

Substrate = Literal["mean", "black", "blur"]
"""What shows where an image does not: the mean colour (zero in network input), black, or the image blurred."""
_NUM_STEPS = 28
"""Steps of the paper's tables: 8 rows of an image of 224 × 224 pixels each."""
_DIRECTION: Mapping[str, Direction] = {"deletion": "lower", "insertion": "higher"}


@dataclass(frozen=True, kw_only=True)
class DeletionInsertion:
    """The explained class's probability while pixels are deleted from the image, and while they are inserted.

    Both take the most relevant pixels of the clean image first, in all channels, until none is left. Deletion starts
    from the clean image, insertion ends there. Of each curve the area under it, over the share of pixels from 0 to 1,
    is `deletion_auc` (the lower the better) and `insertion_auc` (the higher the better); `difference` is insertion
    minus deletion. With `_accuracy` or `_logit` behind them they are of whether the class is the top one, and of its
    logit.

    Attributes:
        step: pixels a step; by default a 28th of the image, at 224 × 224 pixels 1,792. The last step takes what is
            left.
        fill: what a deleted pixel becomes: 'mean', zero in network input (mean colour); 'black'; 'blur', the image
            under an 11 × 11 Gaussian window of σ = 5.
        start: what insertion starts from, likewise.
        ties: how pixels of equal relevance follow one another: 'row_major'; 'random', in an order drawn from each
            image's own seed.
        curves: 'deletion' or 'insertion' alone takes half the forward passes and leaves the difference out.
        images: only the first so many images of a run; all by default.

    Source: Petsiuk et al. 2018, Section 4.1 and Table 1; the area as their implementation has it.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("deletion_auc", "insertion_auc", "difference")
    only_when_asked: ClassVar[bool] = True
    """It takes 56 classifications an image."""

    step: Count | None = None
    fill: Substrate = "mean"
    start: Substrate = "blur"
    ties: Ties = "row_major"
    curves: Literal["both", "deletion", "insertion"] = "both"
    images: Count | None = field(default=None, metadata={"selection": True})

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        pixels = explained.pixels
        self.check(*pixels.shape[1:])
        columns = flaws(explained.relevance, pixels)
        images, counts = flawless(columns), self._counts(pixels[0].numel())
        rank = places(pixels[images], explained.batch.seeds[images.cpu()], descending=True, ties=self.ties)
        for name in self._curves:
            curves = scattered(images, self._curve(name, explained, images, rank, counts), len(pixels))
            columns |= {f"{name}_{outcome}": curve for outcome, curve in zip(OUTCOMES, curves.unbind(2), strict=True)}
        return columns

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        variants: dict[str, Variant] = {}
        for outcome in ("probability", "accuracy", "logit"):
            behind = "" if outcome == "probability" else f"_{outcome}"
            for name in self._curves:
                areas = partial(_areas, name=f"{name}_{outcome}")
                variants[f"{name}_auc{behind}"] = _variant(_DIRECTION[name], areas)
            if self.curves == "both":
                variants[f"difference{behind}"] = _variant("higher", partial(_differences, outcome=outcome))
        return variants

    def check(self, height: int, width: int) -> None:
        if self.step is not None and self.step > height * width:
            raise BadConfig(f"deletion_insertion: a step of {self.step} pixels, but the image has {height * width}")

    @property
    def _curves(self) -> tuple[str, ...]:
        return ("deletion", "insertion") if self.curves == "both" else (self.curves,)

    def _counts(self, size: int) -> Tensor:
        """How many of an image's pixels (L,) are deleted or inserted at each point of a curve: from none to all."""
        step = -(-size // _NUM_STEPS) if self.step is None else self.step
        return torch.arange(-(-size // step) + 1).mul(step).clamp(max=size)

    def _curve(self, name: str, explained: Explained, images: Tensor, rank: Tensor, counts: Tensor) -> Tensor:
        """Outcomes (M, L, 3) of the chosen images, whose pixels go or come in the order of rank (M, H, W)."""
        x, target = explained.batch.x[images], explained.target[images]
        deletion = name == "deletion"
        masked = masked_scores(
            explained.network.classify,
            x,
            rank,
            spans=up_to(counts[1:]) if deletion else beyond(counts[:-1], int(counts[-1])),
            replacement=_shown(self.fill if deletion else self.start, x, explained.network.black),
            score=lambda logits, some: outcomes(logits, target[some]),
            num_scores=len(OUTCOMES),
        )
        clean = outcomes(explained.intact[images], target).unsqueeze(1)
        return torch.cat([clean, masked] if deletion else [masked, clean], 1)


def _shown(substrate: Substrate, x: Tensor, black: tuple[float, ...]) -> Replacement:
    """A substrate of images x (N, C, H, W)."""
    if substrate == "blur":
        return picture(blurred(x))
    return colour(black if substrate == "black" else (0.0,), x)


def _areas(rows: DataFrame, name: str) -> NDArray[np.float64]:
    """Area (N, 1) under a curve of L points, as wide as 1: its steps count alike, also a last one of fewer pixels."""
    curve = vectors(rows, name)
    areas: NDArray[np.float64] = (curve[:, :-1] + curve[:, 1:]).mean(axis=1, keepdims=True) / 2
    return areas


def _differences(rows: DataFrame, outcome: str) -> NDArray[np.float64]:
    """Area (N, 1) under the insertion curve less that under the deletion curve."""
    return _areas(rows, f"insertion_{outcome}") - _areas(rows, f"deletion_{outcome}")


def _variant(direction: Direction, statistics: partial[NDArray[np.float64]]) -> Variant:
    return Variant(direction=direction, statistics=statistics, undefined=FLAWS)

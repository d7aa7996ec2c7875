"""Salience-guided faithfulness coefficient: do differences of relevance say which pixels matter more?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from rapbench.core.errors import BadConfig
from rapbench.core.ranges import Several
from rapbench.core.rows import vectors
from rapbench.core.types import Explained, Need, Variant
from rapbench.metrics.masked import each_alone, masked_scores, picture, probability, ranks
from rapbench.metrics.undefined import FLAWS, equal, flawless, flaws, scattered

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Saco:
    """Agreement of every two groups of pixels on which is more relevant and which matters more, from -1 to 1.

    Pixels fall by their rank into K groups of equal size, the most relevant first. With s_i = Σ R over group i and
    d_i the drop of the explained class's probability when group i alone takes the image's mean colour,
    F = Σ_{i<j} sign_ij (s_i - s_j) / Σ_{i<j} |s_i - s_j|, where sign_ij is 1 if d_i ≥ d_j and else -1. The higher the
    better.

    Attributes:
        groups: number of groups, K.

    Source: Wu et al. 2024, Algorithm 1.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("coefficient",)
    only_when_asked: ClassVar[bool] = True
    """It takes as many classifications an image as there are groups."""

    groups: Several = 10

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        pixels = explained.pixels
        found = flaws(explained.relevance, pixels)
        self.check(*pixels.shape[1:])
        ends = torch.arange(1, self.groups + 1) * pixels[0].numel() // self.groups  # the rank at which each group ends
        order, images = ranks(pixels, descending=True), flawless(found)
        parts = zip(*(edge.tolist() for edge in each_alone(ends)), strict=True)
        sums = [torch.where((order >= first) & (order < last), pixels, 0).sum((1, 2)) for first, last in parts]
        drops = scattered(images, self._drops(explained, images, order[images], ends), len(pixels))
        return {"group_relevance": torch.stack(sums, 1), "group_drop": drops} | found

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        undefined = FLAWS | {"groups of equal relevance": equal("group_relevance")}
        return {"coefficient": Variant(direction="higher", statistics=_coefficient, undefined=undefined)}

    def check(self, height: int, width: int) -> None:
        if height * width < self.groups:
            raise BadConfig(f"saco: {self.groups} groups, but the image has {height * width} pixels")

    def _drops(self, explained: Explained, images: Tensor, order: Tensor, ends: Tensor) -> Tensor:
        """What erasing each group takes from the probability (M, K) of the chosen images."""
        x, target = explained.batch.x[images], explained.target[images]
        left = masked_scores(
            explained.network.classify,
            x,
            rank=order,
            spans=each_alone(ends),
            replacement=picture(x.mean((2, 3), keepdim=True)),
            score=lambda logits, some: probability(logits, target[some]),
            num_scores=1,
        )
        return probability(explained.intact[images], target) - left.squeeze(2)


def _coefficient(rows: DataFrame) -> NDArray[np.float64]:
    """F (N, 1); NaN where a probability was not a number."""
    relevance, drop = vectors(rows, "group_relevance"), vectors(rows, "group_drop")
    i, j = np.triu_indices(relevance.shape[1], k=1)
    gaps = relevance[:, i] - relevance[:, j]
    found: NDArray[np.float64] = (np.where(drop[:, i] >= drop[:, j], gaps, -gaps)).sum(axis=1) / np.abs(gaps).sum(
        axis=1
    )
    return np.where(np.isnan(drop).any(axis=1), np.nan, found)[:, np.newaxis]

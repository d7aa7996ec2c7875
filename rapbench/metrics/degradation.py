"""Image degradation, patch by patch: how fast does the prediction go when what is most relevant loses its content?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional

from rapbench.core.errors import BadConfig
from rapbench.core.ranges import Count
from rapbench.core.rows import vectors
from rapbench.core.types import Direction, Explained, Need, Variant
from rapbench.metrics.masked import masked_scores, picture, probability, ranks, up_to
from rapbench.metrics.undefined import FLAWS, flawless, flaws, scattered

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """The explained class's probability while patches are replaced by their own mean colour, most relevant first.

    Patches do not overlap; their score is the sum of the clean image's relevance in them, and patches of equal score go
    in row-major order. Step 0 is the clean image. `mean_drop` is the mean over the steps of how far the probability has
    fallen, `drop@n` the fall after n patches; the higher the better.

    Attributes:
        patch: side of a patch in pixels.
        steps: number of patches replaced, one a step.
        edge: where the side is no multiple of the patch: 'ragged' leaves the last patches smaller, 'reflect' mirrors
            the image until they are whole.
        images: degrade only the first so many images of a run; all by default.

    Source: Kindermans et al. 2018, Figure 4a.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("mean_drop",)
    only_when_asked: ClassVar[bool] = True
    """It takes as many classifications as perturbation and tells much the same."""

    patch: Count = 9
    steps: Count = 100
    edge: Literal["ragged", "reflect"] = "ragged"
    images: Count | None = field(default=None, metadata={"selection": True})

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        """Columns: probability (N, L + 1) of the explained class, from the clean image on."""
        pixels = explained.pixels
        self.check(*pixels.shape[1:])
        found = flaws(explained.relevance, pixels)
        images = flawless(found)
        scores = self._sums(pixels[images].unsqueeze(1)).squeeze(1)
        curves = self._curves(explained, images, ranks(scores, descending=True))
        return {"probability": scattered(images, curves, len(pixels))} | found

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        after = [n for n in (10, 25, 50) if n < self.steps] + [self.steps]
        drops = {f"drop@{n}": _variant("higher", _drop(n)) for n in after}
        return {"mean_drop": _variant("higher", _mean_drop), **drops}

    def check(self, height: int, width: int) -> None:
        if self.steps > (patches := -(height // -self.patch) * -(width // -self.patch)):
            raise BadConfig(f"degradation: {self.steps} steps, but the image has {patches} patches")

    def _curves(self, explained: Explained, images: Tensor, place: Tensor) -> Tensor:
        """Probabilities (M, L + 1) of the chosen images, whose patches go in the order of place (M, h, w)."""
        x, target = explained.batch.x[images], explained.target[images]
        degraded = masked_scores(
            explained.network.classify,
            x,
            rank=self._spread(place, x),
            spans=up_to(torch.arange(1, self.steps + 1)),
            replacement=picture(self._spread(self._means(x), x)),
            score=lambda logits, some: probability(logits, target[some]),
            num_scores=1,
        )
        return torch.cat([probability(explained.intact[images], target), degraded.squeeze(2)], 1)

    def _sums(self, values: Tensor) -> Tensor:
        """Sum (N, C, h, w) of values (N, C, H, W) in each patch."""
        rows, cols = (-size % self.patch for size in values.shape[2:])
        mode = "constant" if self.edge == "ragged" else "reflect"
        whole = functional.pad(values, (0, cols, 0, rows), mode=mode)
        return whole.unfold(2, self.patch, self.patch).unfold(3, self.patch, self.patch).sum((4, 5))

    def _means(self, x: Tensor) -> Tensor:
        """Mean (N, C, h, w) of each patch and channel."""
        wide = x.double()
        return (self._sums(wide) / self._sums(torch.ones_like(wide[:1, :1]))).to(x.dtype)

    def _spread(self, values: Tensor, x: Tensor) -> Tensor:
        """Each patch's value (..., h, w) at all its pixels (..., H, W)."""
        large = values.repeat_interleave(self.patch, -2).repeat_interleave(self.patch, -1)
        return large[..., : x.shape[2], : x.shape[3]]


def _falls(rows: DataFrame) -> NDArray[np.float64]:
    """How far (N, L + 1) the probability has fallen at each step."""
    curve = vectors(rows, "probability")
    falls: NDArray[np.float64] = curve[:, :1] - curve
    return falls


def _mean_drop(rows: DataFrame) -> NDArray[np.float64]:
    means: NDArray[np.float64] = _falls(rows).mean(axis=1, keepdims=True)
    return means


def _drop(step: int) -> Callable[[DataFrame], NDArray[np.float64]]:
    return lambda rows: _falls(rows)[:, step : step + 1]


def _variant(direction: Direction, statistics: Callable[[DataFrame], NDArray[np.float64]]) -> Variant:
    return Variant(direction=direction, statistics=statistics, undefined=FLAWS)

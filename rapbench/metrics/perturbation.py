"""Region perturbation, pixel by pixel: how long does the prediction survive the erasure of pixels?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch

from rapbench.core.errors import BadConfig
from rapbench.core.ranges import Count
from rapbench.core.rows import vectors
from rapbench.core.types import Direction, Explained, Need, Variant
from rapbench.metrics.masked import OUTCOMES, Ties, colour, masked_scores, outcomes, places, up_to
from rapbench.metrics.undefined import FLAWS, flawless, flaws, misclassified, scattered

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

_USUAL_SIZE = 224
"""Side in pixels of the images that the paper erases 100 pixels of a step."""
_DIRECTION: Mapping[str, Direction] = {"lerf": "lower", "morf": "higher"}
_ERASED_SIGN = {"lerf": "num_negative", "morf": "num_positive"}


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """Curves of the target's survival while pixels are erased in all channels, by relevance of the clean image.

    LeRF erases the least relevant pixels first (the lower its AOPC the better), MoRF the most relevant first (the
    higher the better). Step 0 is the clean image. Accuracy is whether the explained class stays the top one. AOPC is
    the mean drop from step 0 of accuracy, probability or logit, ABPC the mean gap between the two curves. `share_short`
    is the percent of images with fewer negative (LeRF) or positive (MoRF) pixels than all steps erase: those on which
    `fill` has an effect.

    Attributes:
        pixels: pixels erased per step.
        steps: number of steps, L.
        space: what an erased pixel becomes: 'net', zero in network input (mean colour); 'raw', black.
        ties: how pixels of equal relevance follow one another: 'row_major'; 'random', in an order drawn from each
            image's own seed, the same for LeRF and MoRF.
        fill: what LeRF does once no negative pixel is left, and MoRF once no positive one is: 'continue' in the order
            of relevance; 'stop', so that later steps change nothing.
        orders: 'lerf' or 'morf' alone takes half the forward passes and leaves ABPC out.
        images: perturb only the first so many images of a run; all by default.

    Source: Nam et al. 2020, Figure 7; Samek et al. 2017 for AOPC, LeRF and ABPC.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("lerf_aopc_accuracy", "morf_aopc_accuracy", "abpc_accuracy")

    pixels: Count = 100
    steps: Count = 40
    space: Literal["net", "raw"] = "net"
    ties: Ties = "row_major"
    fill: Literal["continue", "stop"] = "continue"
    orders: Literal["both", "lerf", "morf"] = "both"
    images: Count | None = field(default=None, metadata={"selection": True})

    @classmethod
    def suited(cls, *, size: int, usual_limit: int | None) -> dict[str, str]:
        """The same share of smaller images as of usual ones, and a quarter of what is generated: 80 inputs an image."""
        share = {"pixels": str(max(1, round(100 * (size / _USUAL_SIZE) ** 2)))} if size < _USUAL_SIZE else {}
        return share | ({} if usual_limit is None else {"images": str(usual_limit // 4)})

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        """Columns: pixels of each sign; curves (N, L + 1) of each order and outcome, from the clean image on."""
        pixels = explained.pixels
        self.check(*pixels.shape[1:])
        found = flaws(explained.relevance, pixels)
        columns = {
            "num_negative": (pixels < 0).sum((1, 2)),
            "num_positive": (pixels > 0).sum((1, 2)),
            "num_zero": (pixels == 0).sum((1, 2)),
            **found,
        }
        images = flawless(found)
        seeds = explained.batch.seeds[images.cpu()]
        for order in self._orders:
            rank = self._ranks(pixels[images], seeds, order)
            curves = scattered(images, self._curves(explained, images, rank), len(pixels))
            columns |= {f"{order}_{name}": curve for name, curve in zip(OUTCOMES, curves.unbind(2), strict=True)}
        return columns

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        variants: dict[str, Variant] = {}
        for outcome in OUTCOMES:
            for order in self._orders:
                aopc = partial(_aopc, name=f"{order}_{outcome}")
                variants[f"{order}_aopc_{outcome}"] = _variant(_DIRECTION[order], aopc)
            if self.orders == "both":
                variants[f"abpc_{outcome}"] = _variant("higher", partial(_abpc, name=outcome))
        short = {order: partial(self._short, name=_ERASED_SIGN[order]) for order in self._orders}
        return variants | {f"{order}_share_short": _variant("lower", share) for order, share in short.items()}

    def _short(self, rows: DataFrame, name: str) -> NDArray[np.float64]:
        """100 (N, 1) where an image has fewer such pixels than all steps erase, else 0."""
        return 100 * (rows[[name]].to_numpy() < self.pixels * self.steps).astype(np.float64)

    def check(self, height: int, width: int) -> None:
        erased, size = self.pixels * self.steps, height * width
        if erased > size:
            raise BadConfig(
                f"perturbation: {self.steps} steps of {self.pixels} pixels erase {erased}, but the image has {size}"
            )

    @property
    def _orders(self) -> tuple[str, ...]:
        return ("lerf", "morf") if self.orders == "both" else (self.orders,)

    def _ranks(self, pixels: Tensor, seeds: Tensor, order: str) -> Tensor:
        """Place (N, H, W) int32 of every pixel in the order of erasure; what is never erased comes after all steps."""
        descending = order == "morf"
        rank = places(pixels, seeds, descending=descending, ties=self.ties)
        if self.fill == "continue":
            return rank
        return rank.masked_fill(pixels <= 0 if descending else pixels >= 0, self.pixels * self.steps)

    def _curves(self, explained: Explained, images: Tensor, rank: Tensor) -> Tensor:
        """Outcomes (N, L + 1, 3) of the chosen images, erased in the order of rank (N, H, W)."""
        x, target = explained.batch.x[images], explained.target[images]
        step = torch.arange(self.steps + 1, device=x.device)
        num_erased = (rank < self.pixels * self.steps).sum((1, 2))
        last = -(num_erased // -self.pixels).unsqueeze(1)  # steps after it erase nothing more
        erased = masked_scores(
            explained.network.classify,
            x,
            rank,
            spans=up_to(self.pixels * step[1:]),
            replacement=colour(explained.network.black if self.space == "raw" else (0.0,), x),
            score=lambda logits, some: outcomes(logits, target[some]),
            num_scores=len(OUTCOMES),
            wanted=step[1:] <= last if self.fill == "stop" else None,
        )
        clean = outcomes(explained.intact[images], target).unsqueeze(1)
        return torch.cat([clean, erased], 1).take_along_dim(step.minimum(last).unsqueeze(2), 1)


def _aopc(rows: DataFrame, name: str) -> NDArray[np.float64]:
    """Mean drop (N, 1) of a curve from its step 0."""
    curve = vectors(rows, name)
    drops: NDArray[np.float64] = (curve[:, :1] - curve).mean(axis=1, keepdims=True)
    return drops


def _abpc(rows: DataFrame, name: str) -> NDArray[np.float64]:
    """Mean gap (N, 1) of the LeRF curve above the MoRF curve."""
    gap = vectors(rows, f"lerf_{name}") - vectors(rows, f"morf_{name}")
    gaps: NDArray[np.float64] = gap.mean(axis=1, keepdims=True)
    return gaps


def _variant(direction: Direction, statistics: Callable[[DataFrame], NDArray[np.float64]]) -> Variant:
    return Variant(direction=direction, statistics=statistics, undefined=FLAWS | {"misclassified": misclassified})

"""Region perturbation, pixel by pixel: how long does the prediction survive the erasure of pixels?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch

from rapbench.core.errors import BadConfig
from rapbench.core.types import Direction, Explained, Need, Variant
from rapbench.metrics.undefined import constant, is_constant, misclassified, non_finite, num_non_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

NUM_INPUTS = 128
"""Perturbed inputs built and classified at once: bounds memory."""

_OUTCOMES = ("accuracy", "probability", "logit")


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
        images: perturb only the first so many images of a run; all by default.

    Source: Nam et al. 2020, Figure 7; Samek et al. 2017 for AOPC, LeRF and ABPC.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("lerf_aopc_accuracy", "morf_aopc_accuracy", "abpc_accuracy")

    pixels: int = 100
    steps: int = 40
    space: Literal["net", "raw"] = "net"
    ties: Literal["row_major", "random"] = "row_major"
    fill: Literal["continue", "stop"] = "continue"
    images: int | None = field(default=None, metadata={"selection": True})

    def __post_init__(self) -> None:
        for name in ("pixels", "steps", "images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        pixels = explained.pixels
        self._check_size(pixels[0].numel())
        non_finites, uniform = num_non_finite(explained.relevance), is_constant(pixels)
        images = ((non_finites == 0) & ~uniform).nonzero().squeeze(1)
        columns = {
            "num_negative": (pixels < 0).sum((1, 2)),
            "num_positive": (pixels > 0).sum((1, 2)),
            "num_zero": (pixels == 0).sum((1, 2)),
            "num_non_finite": non_finites,
            "constant": uniform.long(),
        }
        for order, descending in (("lerf", False), ("morf", True)):
            curves = pixels.new_full((len(pixels), self.steps + 1, len(_OUTCOMES)), torch.nan)
            rank = self._ranks(pixels[images], explained.seeds[images.cpu()], descending=descending)
            curves[images] = self._curves(explained, images, rank)
            columns |= {f"{order}_{name}": curve for name, curve in zip(_OUTCOMES, curves.unbind(2), strict=True)}
        return columns

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        variants: dict[str, Variant] = {}
        for outcome in _OUTCOMES:
            variants |= {
                f"lerf_aopc_{outcome}": _variant("lower", partial(_aopc, name=f"lerf_{outcome}")),
                f"morf_aopc_{outcome}": _variant("higher", partial(_aopc, name=f"morf_{outcome}")),
                f"abpc_{outcome}": _variant("higher", partial(_abpc, name=outcome)),
            }
        return variants | {
            "lerf_share_short": _variant("lower", partial(self._short, name="num_negative")),
            "morf_share_short": _variant("lower", partial(self._short, name="num_positive")),
        }

    def _short(self, rows: DataFrame, name: str) -> NDArray[np.float64]:
        """100 (N, 1) where an image has fewer such pixels than all steps erase, else 0."""
        return 100 * (rows[[name]].to_numpy() < self.pixels * self.steps).astype(np.float64)

    def _check_size(self, size: int) -> None:
        erased = self.pixels * self.steps
        if erased > size:
            raise BadConfig(
                f"perturbation: {self.steps} steps of {self.pixels} pixels erase {erased}, but the image has {size}"
            )

    def _ranks(self, pixels: Tensor, seeds: Tensor, *, descending: bool) -> Tensor:
        """Place (N, H, W) int32 of every pixel in the order of erasure; what is never erased comes after all steps."""
        ties = shuffles(seeds, pixels[0].numel()) if self.ties == "random" and len(seeds) else None
        rank = ranks(pixels, descending=descending, ties=ties)
        if self.fill == "continue":
            return rank
        return rank.masked_fill(pixels <= 0 if descending else pixels >= 0, self.pixels * self.steps)

    def _curves(self, explained: Explained, images: Tensor, rank: Tensor) -> Tensor:
        """Outcomes (N, L + 1, 3) of the chosen images, erased in the order of rank (N, H, W)."""
        curves = rank.new_empty((len(images), self.steps + 1, len(_OUTCOMES)), dtype=torch.float64)
        curves[:, :1] = outcomes(explained.logits[images].unsqueeze(1), explained.target[images].unsqueeze(1))
        num_erased = (rank < self.pixels * self.steps).sum((1, 2))
        num_steps = -(num_erased // -self.pixels)  # later ones erase nothing more
        for steps in sorted(set(num_steps.tolist())):
            alike = (num_steps == steps).nonzero().squeeze(1)
            curves[alike, 1 : steps + 1] = self._steps(explained, images[alike], rank[alike], steps)
            curves[alike, steps + 1 :] = curves[alike, steps : steps + 1]
        return curves

    def _steps(self, explained: Explained, images: Tensor, rank: Tensor, steps: int) -> Tensor:
        """Outcomes (N, L, 3) of the chosen images after each of the first steps."""
        target = explained.target[images].unsqueeze(1)
        erased = torch.tensor(explained.black if self.space == "raw" else (0.0,)).to(explained.x).view(-1, 1, 1)
        counts = self.pixels * torch.arange(1, steps + 1, device=rank.device).view(-1, 1, 1)
        curves = rank.new_empty((len(images), steps, len(_OUTCOMES)), dtype=torch.float64)
        num_images = max(1, NUM_INPUTS // max(1, steps))
        for i in range(0, len(images), num_images):
            some = slice(i, i + num_images)
            x = explained.x[images[some]].unsqueeze(1)
            for k in range(0, steps, NUM_INPUTS):
                gone = rank[some].unsqueeze(1) < counts[k : k + NUM_INPUTS]  # (N, L, H, W)
                inputs = torch.where(gone.unsqueeze(2), erased, x)  # (N, L, C, H, W) in the memory format of x
                logits = explained.classify(inputs.flatten(0, 1)).reshape(*gone.shape[:2], -1)
                curves[some, k : k + NUM_INPUTS] = outcomes(logits, target[some])
        return curves


def shuffles(seeds: Tensor, size: int) -> Tensor:
    """A permutation (N, size) of pixels for each seed (N,), drawn on the CPU."""
    drawn = [torch.randperm(size, generator=torch.Generator().manual_seed(seed)) for seed in seeds.tolist()]
    return torch.stack(drawn)


def ranks(pixels: Tensor, *, descending: bool, ties: Tensor | None = None) -> Tensor:
    """Place (N, H, W) int32 of every pixel in the order of its map's values.

    Pixels of equal value follow one another as in `ties` (N, H · W), row by row without it.
    """
    values = pixels.flatten(1)
    if ties is None:
        order = torch.argsort(values, dim=1, descending=descending, stable=True)
    else:
        first = ties.to(values.device)
        order = first.gather(1, torch.argsort(values.gather(1, first), dim=1, descending=descending, stable=True))
    places = torch.arange(order.shape[1], dtype=torch.int32, device=order.device)
    return torch.empty_like(order, dtype=torch.int32).scatter_(1, order, places.expand_as(order)).view(pixels.shape)


def outcomes(logits: Tensor, target: Tensor) -> Tensor:
    """Accuracy, probability and logit (N, L, 3) float64 of the targets (N, 1) given logits (N, L, K)."""
    wide = logits.double()
    index = target.unsqueeze(2).expand(*wide.shape[:2], 1)
    logit = wide.gather(2, index)
    accuracy = wide.argmax(2, keepdim=True) == index
    return torch.cat([accuracy.double(), (logit - wide.logsumexp(2, keepdim=True)).exp(), logit], dim=2)


def _curve(rows: DataFrame, name: str) -> NDArray[np.float64]:
    return np.concatenate(rows[name].to_list()).reshape(len(rows), -1).astype(np.float64)


def _aopc(rows: DataFrame, name: str) -> NDArray[np.float64]:
    """Mean drop (N, 1) of a curve from its step 0."""
    curve = _curve(rows, name)
    drops: NDArray[np.float64] = (curve[:, :1] - curve).mean(axis=1, keepdims=True)
    return drops


def _abpc(rows: DataFrame, name: str) -> NDArray[np.float64]:
    """Mean gap (N, 1) of the LeRF curve above the MoRF curve."""
    gap = _curve(rows, f"lerf_{name}") - _curve(rows, f"morf_{name}")
    gaps: NDArray[np.float64] = gap.mean(axis=1, keepdims=True)
    return gaps


_UNDEFINED = {"non-finite relevance": non_finite, "constant map": constant, "misclassified": misclassified}


def _variant(direction: Direction, statistics: Callable[[DataFrame], NDArray[np.float64]]) -> Variant:
    return Variant(direction=direction, statistics=statistics, undefined=_UNDEFINED)

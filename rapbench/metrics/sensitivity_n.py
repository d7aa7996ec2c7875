"""Sensitivity-n: does the relevance of n pixels sum to what the logit loses without them?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from rapbench.core.errors import BadConfig
from rapbench.core.ranges import Count, Several
from rapbench.core.rows import vectors
from rapbench.core.types import Explained, Need, Variant
from rapbench.metrics.draws import generators
from rapbench.metrics.masked import colour, masked_scores, up_to
from rapbench.metrics.undefined import FLAWS, flawless, flaws, scattered

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SensitivityN:
    """Correlation of the relevance of random sets of n pixels with what erasing them takes from the logit.

    `pearson@n` is the correlation, over random sets S of n pixels, of Σ R over S with f(x) - f(x without S): f is the
    explained class's logit, and a pixel without which is the mean colour. `pearson` is an image's mean over all n. 1
    is best; a linear network's gradient × input has it at every n. The sets are drawn by the image's seed: of each
    order that is drawn, the first n pixels.

    Attributes:
        sizes: each n, separated by spaces.
        subsets: random sets of each size.
        images: score only the first so many images of a run; all by default.

    Source: Ancona et al. 2018, Definition 1 and Section 4.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("pearson",)
    only_when_asked: ClassVar[bool] = True
    """It takes hundreds of classifications an image."""

    sizes: str = "1 4 16 64 256 1024 4096 16384"
    subsets: Several = 100
    images: Count | None = field(default=None, metadata={"selection": True})

    def __post_init__(self) -> None:
        if not self.counts or not all(self.counts):
            raise ValueError(f"sizes must be numbers of pixels, separated by spaces, not {self.sizes!r}")

    @property
    def counts(self) -> tuple[int, ...]:
        """Each n once; 0 for what is no number."""
        return tuple(dict.fromkeys(int(text) if text.isdecimal() else 0 for text in self.sizes.split()))

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        pixels = explained.pixels
        self.check(*pixels.shape[1:])
        found = flaws(explained.relevance, pixels)
        images = flawless(found)
        draws = generators(explained.batch.seeds[images.cpu()], "sensitivity-n")
        values = [self._correlations(explained, pixels, *one) for one in zip(images.tolist(), draws, strict=True)]
        rows = torch.stack(values) if values else pixels.new_empty(0, len(self.counts))
        return {"pearson": scattered(images, rows, len(pixels))} | found

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        places = {"": slice(None)} | {f"@{n}": slice(k, k + 1) for k, n in enumerate(self.counts)}
        return {
            f"pearson{suffix}": Variant(
                direction="higher",
                statistics=partial(_mean, places=some),
                undefined=FLAWS | {"sets of equal relevance or effect": _undefined(some)},
            )
            for suffix, some in places.items()
        }

    def check(self, height: int, width: int) -> None:
        if height * width <= (most := max(self.counts)):
            raise BadConfig(f"sensitivity_n: sets of {most} pixels, but the image has {height * width}: choose sizes")

    def _correlations(self, explained: Explained, pixels: Tensor, image: int, draw: torch.Generator) -> Tensor:
        """Correlation (L,) at each n of an image of pixel maps (N, H, W)."""
        x, own, target = explained.batch.x[image], pixels[image], explained.target[image]
        orders = [torch.randperm(own.numel(), generator=draw) for _ in range(self.subsets)]
        order = torch.stack(orders).to(x.device).view(-1, *own.shape)
        left = masked_scores(
            explained.network.classify,
            x.expand(self.subsets, *x.shape),
            order,
            spans=up_to(torch.tensor(self.counts)),
            replacement=colour((0.0,), x),
            score=lambda logits, _: logits[:, target].double().unsqueeze(1),
            num_scores=1,
        ).squeeze(2)
        sums = torch.stack([((order < n) * own).sum((1, 2)) for n in self.counts])
        return pearson(sums, explained.intact[image, target].double() - left.t())


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlation (L,) of the rows of a and b (L, S); NaN where the values of one are all equal."""
    u, v = (values - values.mean(1, keepdim=True) for values in (a, b))
    varied = (a.amin(1) < a.amax(1)) & (b.amin(1) < b.amax(1))
    return torch.where(varied, (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1)), torch.nan)


def _mean(rows: DataFrame, places: slice) -> NDArray[np.float64]:
    means: NDArray[np.float64] = vectors(rows, "pearson")[:, places].mean(axis=1, keepdims=True)
    return means


def _undefined(places: slice) -> Callable[[DataFrame], NDArray[np.bool_]]:
    return lambda rows: np.isnan(_mean(rows, places)[:, 0])

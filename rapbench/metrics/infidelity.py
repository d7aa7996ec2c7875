"""Infidelity: how far is the relevance of a perturbation from what it takes from the logit?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch

from rapbench.core.ranges import Count, Positive, Several
from rapbench.core.types import Explained, Need, Variant
from rapbench.metrics.draws import generators
from rapbench.metrics.masked import NUM_INPUTS
from rapbench.metrics.undefined import FLAWS, flawless, flaws, scattered

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

_LARGEST = 10 / 28
"""Side of the largest square, as a share of the image's."""


@dataclass(frozen=True, kw_only=True)
class Infidelity:
    """Mean squared error of what the relevance says that random perturbations take from the logit; lower is better.

    With s = Σ I · R and d = f(x) - f(x - I), where f is the explained class's logit, `infidelity` is the mean over
    perturbations I of (s - d)². `rescaled` is the same of β R with the best factor, β = Σ s d / Σ s², so that the unit
    of a map plays no part.

    Attributes:
        perturbation: 'square' erases a random square, whose side is at most 10/28 of the image's, to the mean colour:
            R is taken for shares of the logit as of gradient × input, and s is its sum in the square. 'gaussian'
            subtracts noise from every input: R is taken for slopes as of a gradient.
        sigma: standard deviation of that noise, in units of network input.
        samples: perturbations of an image, drawn by its seed.
        images: score only the first so many images of a run; all by default.

    Source: Yeh et al. 2019, Definition 2.1 and Section 4.
    Departs: squares are drawn, where the published code takes all those of sides up to 10 of 28 pixels; noise is not
    clipped at the image's range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("infidelity", "rescaled")
    only_when_asked: ClassVar[bool] = True
    """It takes hundreds of classifications an image."""

    perturbation: Literal["square", "gaussian"] = "square"
    sigma: Positive = 0.2
    samples: Several = 200
    images: Count | None = field(default=None, metadata={"selection": True})

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        """Columns: means (N,) over an image's perturbations of s², s d and d²."""
        found = flaws(explained.relevance, explained.pixels)
        images = flawless(found)
        draws = generators(explained.batch.seeds[images.cpu()], "infidelity")
        moments = [self._moments(explained, *one) for one in zip(images.tolist(), draws, strict=True)]
        rows = torch.stack(moments) if moments else explained.pixels.new_empty(0, 3)
        columns = scattered(images, rows, len(explained.relevance)).unbind(1)
        return dict(zip(("said_squared", "product", "drop_squared"), columns, strict=True)) | found

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        unsaid = {"no relevance where perturbed": lambda rows: (rows["said_squared"] == 0).to_numpy()}
        return {
            "infidelity": Variant(direction="lower", statistics=_infidelity, undefined=FLAWS),
            "rescaled": Variant(direction="lower", statistics=_rescaled, undefined=FLAWS | unsaid),
        }

    def _moments(self, explained: Explained, image: int, draw: torch.Generator) -> Tensor:
        """Means (3,) of s², s d and d² of an image."""
        x, relevance, target = explained.batch.x[image], explained.relevance[image].double(), explained.target[image]
        said, left = [], []
        for some in torch.split(torch.arange(self.samples), NUM_INPUTS[x.device.type]):
            pairs = [self._perturbed(x, relevance, draw) for _ in some]
            said.append(torch.stack([s for s, _ in pairs]))
            left.append(explained.network.classify(torch.stack([shown for _, shown in pairs]))[:, target].double())
        s, d = torch.cat(said), explained.intact[image, target].double() - torch.cat(left)
        return torch.stack([(s * s).mean(), (s * d).mean(), (d * d).mean()])

    def _perturbed(self, x: Tensor, relevance: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the relevance says of a perturbation, s, and the perturbed image (C, H, W)."""
        if self.perturbation == "square":
            inside = _square(x.shape[1], x.shape[2], draw).to(x.device)
            return (relevance * inside).sum(), x.masked_fill(inside, 0)
        noise = self.sigma * torch.randn(x.shape, generator=draw).to(x)
        return (noise * relevance).sum(), x - noise


def _square(height: int, width: int, draw: torch.Generator) -> Tensor:
    """A square (H, W) bool of a random side and place, whole inside the image."""

    def drawn(high: int) -> int:
        return int(torch.randint(high, (), generator=draw))

    side = 1 + drawn(max(1, round(_LARGEST * min(height, width))))
    top, left = drawn(height - side + 1), drawn(width - side + 1)
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[top : top + side, left : left + side] = True
    return inside


def _moment(rows: DataFrame, name: str) -> NDArray[np.float64]:
    return rows[[name]].to_numpy(dtype=np.float64)


def _infidelity(rows: DataFrame) -> NDArray[np.float64]:
    """Mean (N, 1) of (s - d)²."""
    return _moment(rows, "said_squared") - 2 * _moment(rows, "product") + _moment(rows, "drop_squared")


def _rescaled(rows: DataFrame) -> NDArray[np.float64]:
    """Mean (N, 1) of (β s - d)²."""
    return _moment(rows, "drop_squared") - _moment(rows, "product") ** 2 / _moment(rows, "said_squared")

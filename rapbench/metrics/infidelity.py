"""Infidelity: how far is the relevance of a perturbation from what it takes from the logit?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch

from rapbench.core.ranges import Count, Positive, Several
from rapbench.core.types import Explained, Need, Variant
from rapbench.metrics.draws import generators
from rapbench.metrics.masked import NUM_INPUTS, logit
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
        said, drop = self._said_and_drop(explained, images) if len(images) else explained.pixels.new_empty(2, 0, 1)
        moments = {"said_squared": said * said, "product": said * drop, "drop_squared": drop * drop}
        means = {name: values.mean(1) for name, values in moments.items()}
        return {name: scattered(images, rows, len(explained.relevance)) for name, rows in means.items()} | found

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        unsaid = {"no relevance where perturbed": lambda rows: (rows["said_squared"] == 0).to_numpy()}
        return {
            "infidelity": Variant(direction="lower", statistics=_infidelity, undefined=FLAWS),
            "rescaled": Variant(direction="lower", statistics=_rescaled, undefined=FLAWS | unsaid),
        }

    def _said_and_drop(self, explained: Explained, images: Tensor) -> Tensor:
        """What relevance says and what the logit loses, s and d (2, M, S) float64, of S perturbations of M images."""
        draws = generators(explained.batch.seeds[images.cpu()], "infidelity")
        perturbed = self._without_squares if self.perturbation == "square" else self._under_noise
        of = images.repeat_interleave(self.samples)
        said, left = [], []
        for some, (s, shown) in zip(_some(of), perturbed(explained, of, draws), strict=True):
            said.append(s)
            left.append(logit(explained.network.classify(shown), explained.target[some]).squeeze(1))
        intact = logit(explained.intact, explained.target)[images]
        return torch.stack([torch.cat(said).view(len(images), -1), intact - torch.cat(left).view(len(images), -1)])

    def _without_squares(
        self, explained: Explained, of: Tensor, draws: Sequence[torch.Generator]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Of some pictures at a time, s (M,) and the pictures (M, C, H, W) without a square each."""
        x, pixels = explained.batch.x, explained.relevance.double().sum(1)
        drawn = [_square(x.shape[2], x.shape[3], draw) for draw in draws for _ in range(self.samples)]
        for some, edges in zip(_some(of), _some(torch.tensor(drawn).to(x.device)), strict=True):
            inside = _within(edges, x.shape[2], x.shape[3])
            yield (pixels[some] * inside).sum((1, 2)), x[some].masked_fill(inside.unsqueeze(1), 0)

    def _under_noise(
        self, explained: Explained, of: Tensor, draws: Sequence[torch.Generator]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Of some pictures at a time, s (M,) and the pictures (M, C, H, W) less noise."""
        x, relevance = explained.batch.x, explained.relevance.double()
        each = iter(draw for draw in draws for _ in range(self.samples))
        for some in _some(of):
            drawn = [torch.randn(x.shape[1:], generator=draw) for draw in islice(each, len(some))]
            noise = self.sigma * torch.stack(drawn).to(x)
            yield (noise * relevance[some]).sum((1, 2, 3)), x[some] - noise


def _some(pictures: Tensor) -> tuple[Tensor, ...]:
    """What belongs to pictures, for as many at a time as are built and classified at once."""
    return torch.split(pictures, NUM_INPUTS[pictures.device.type])


def _square(height: int, width: int, draw: torch.Generator) -> tuple[int, int, int]:
    """First row, first column and side of a random square, whole inside the image."""

    def drawn(high: int) -> int:
        return int(torch.randint(high, (), generator=draw))

    side = 1 + drawn(max(1, round(_LARGEST * min(height, width))))
    return drawn(height - side + 1), drawn(width - side + 1), side


def _within(squares: Tensor, height: int, width: int) -> Tensor:
    """Which pixels (M, H, W) bool lie in squares (M, 3)."""
    top, left, side = (edge.unsqueeze(1) for edge in squares.unbind(1))
    rows, columns = (torch.arange(size, device=squares.device) for size in (height, width))
    down, across = (rows >= top) & (rows < top + side), (columns >= left) & (columns < left + side)
    return down.unsqueeze(2) & across.unsqueeze(1)


def _moment(rows: DataFrame, name: str) -> NDArray[np.float64]:
    return rows[[name]].to_numpy(dtype=np.float64)


def _infidelity(rows: DataFrame) -> NDArray[np.float64]:
    """Mean (N, 1) of (s - d)²."""
    return _moment(rows, "said_squared") - 2 * _moment(rows, "product") + _moment(rows, "drop_squared")


def _rescaled(rows: DataFrame) -> NDArray[np.float64]:
    """Mean (N, 1) of (β s - d)²."""
    return _moment(rows, "drop_squared") - _moment(rows, "product") ** 2 / _moment(rows, "said_squared")

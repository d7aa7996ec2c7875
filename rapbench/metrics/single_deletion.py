"""Single deletion: do the cells of an image matter to the logit in the order of their relevance?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from scipy.stats import rankdata
from torchvision.transforms.functional import gaussian_blur

from rapbench.core.errors import BadConfig
from rapbench.core.rows import vectors
from rapbench.core.types import Explained, Need, Variant
from rapbench.metrics.draws import generators
from rapbench.metrics.masked import colour, each_alone, logit, masked_scores, picture
from rapbench.metrics.undefined import FLAWS, equal, flawless, flaws, scattered

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

    from rapbench.metrics.masked import Replacement

_GRID = 4
_CELLS = _GRID * _GRID
_KERNEL, _SIGMA = 51, 41.0


@dataclass(frozen=True, kw_only=True)
class SingleDeletion:
    """Rank correlation of the relevance of 4 × 4 cells with what deleting each alone takes from the logit.

    `spearman` is ρ(a, d) of an image's 16 cells, with a_k = Σ R over cell k, all channels and signs, and d_k = f(x) -
    f(x without cell k), f being the explained class's logit; equal values share their average rank. 1 is best, a random
    map's mean is 0. With 16 points its standard error is 0.26 an image: only many images tell methods apart.

    Attributes:
        baseline: what a deleted cell shows: 'zeros', the mean colour; 'uniform', noise in [-1, 1] of network input by
            the image's seed; 'blur', the image blurred by a Gaussian of 51 × 51 pixels and standard deviation 41.

    Source: Hesse et al. 2024, Section 3, on a network that is not fine-tuned to deletions.
    Departs: images whose correlation is undefined are left out, where the published code's mean becomes NaN; noise is
    one picture an image, not one a cell; where 4 divides no side, cells differ by a pixel.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("spearman",)
    only_when_asked: ClassVar[bool] = True
    """It takes 16 classifications an image."""

    baseline: Literal["zeros", "uniform", "blur"] = "zeros"

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        pixels = explained.pixels
        self.check(*pixels.shape[1:])
        cells = _cells(*pixels.shape[1:])
        found = flaws(explained.relevance, pixels)
        images = flawless(found)
        relevance = torch.stack([pixels[:, cells == k].sum(1) for k in range(_CELLS)], 1)
        drops = scattered(images, self._drops(explained, images, cells), len(pixels))
        return {"cell_relevance": relevance, "cell_drop": drops} | found

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        undefined = FLAWS | {"cells of equal relevance": equal("cell_relevance"), "no cell matters": equal("cell_drop")}
        return {"spearman": Variant(direction="higher", statistics=_spearman, undefined=undefined)}

    def check(self, height: int, width: int) -> None:
        least, side = _KERNEL // 2 + 1 if self.baseline == "blur" else _GRID, min(height, width)
        if side < least:
            raise BadConfig(
                f"single_deletion: baseline {self.baseline} needs images of {least} pixels a side, not {side}"
            )

    def _drops(self, explained: Explained, images: Tensor, cells: Tensor) -> Tensor:
        """What deleting each cell takes from the logit (M, 16) of the chosen images."""
        x, target = explained.batch.x[images], explained.target[images]
        left = masked_scores(
            explained.network.classify,
            x,
            rank=cells.to(x.device).expand(len(x), *cells.shape),
            spans=each_alone(torch.arange(1, _CELLS + 1)),
            replacement=self._shown(x, explained.batch.seeds[images.cpu()]),
            score=lambda logits, some: logit(logits, target[some]),
            num_scores=1,
        )
        return logit(explained.intact[images], target) - left.squeeze(2)

    def _shown(self, x: Tensor, seeds: Tensor) -> Replacement:
        if self.baseline == "zeros":
            return colour((0.0,), x)
        if self.baseline == "blur":
            return picture(gaussian_blur(x, [_KERNEL, _KERNEL], [_SIGMA, _SIGMA]))
        drawn = torch.empty(x.shape)
        for shown, draw in zip(drawn, generators(seeds, "single deletion"), strict=True):
            shown.uniform_(-1, 1, generator=draw)
        return picture(drawn.to(x))


def _cells(height: int, width: int) -> Tensor:
    """Which cell (H, W) each pixel is of, in row-major order."""
    rows, cols = (torch.arange(size) * _GRID // size for size in (height, width))
    return rows.unsqueeze(1) * _GRID + cols


def _spearman(rows: DataFrame) -> NDArray[np.float64]:
    """Rank correlation (N, 1), average ranks for ties; NaN where a logit was not a number, as its ranks are."""
    a, d = (rankdata(vectors(rows, f"cell_{name}"), axis=1) - (_CELLS + 1) / 2 for name in ("relevance", "drop"))
    found: NDArray[np.float64] = (a * d).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (d**2).sum(axis=1))
    return found[:, np.newaxis]

"""The grid pointing game: of a grid of pictures, does relevance for a class fall on the picture of that class?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from rapbench.core.errors import BadConfig
from rapbench.core.named import LATER
from rapbench.core.rows import vectors
from rapbench.core.types import Disconnection, Explain, Explained, Need, Variant
from rapbench.metrics.undefined import non_finite, num_non_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class GridPointing:
    """Percent of the positive relevance for a class that lies on its own cell of a grid of pictures; higher is better.

    The network sees a grid of n x n pictures of different classes at once, and is explained for the class of each cell
    whose picture it classifies correctly by itself, with a probability of at least `threshold`. L is the sum of the
    positive part of the pixel map inside the cell over that of the whole grid: 100 / n² of a uniform map.
    `localization` is the mean of L over all such cells, `localization_median` the median over grids of their cells'
    mean, `cells` the percent of cells that count.

    Of a class that the network sees elsewhere in the grid, relevance elsewhere need not be wrong. In two more settings
    each cell has a head of its own, behind the feature maps that Grad-CAM takes, and the first and the last cell alone
    are explained.

    Attributes:
        threshold: probability of its class from which on a picture counts.
        setting: `gridpg`, the network as it is; `difull`, a cell's head sees the maps of a pass of that picture alone,
            so that all relevance outside the cell is wrong, and gradients and propagated relevance score 100;
            `dipart`, it sees the cell's part of the maps of the grid, which know other cells by receptive fields alone.

    Source: Rao et al. 2022, GridPG, DiFull and DiPart, Eq. 1.
    Departs: grids are made of pictures that all pass, by two networks; here a picture that does not stays in its grid,
        and its class is not explained. A map without positive relevance has no L, where theirs is 0. Networks that pool
        to a fixed size before dense layers, as VGG, do so over the grid in `gridpg`; there these layers slide over it.
        Where the maps of a grid are larger than those of n x n pictures, as SqueezeNet's, a head of `dipart` sees as
        many rows and columns as those of one picture have, from its corner on.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"cells"})
    headline: ClassVar[tuple[str, ...]] = ("localization", "localization_median", "cells")
    explains: ClassVar[bool] = True
    only_when_asked: ClassVar[bool] = True
    """It explains n² classes of images n² times as large."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.99
    setting: Literal["gridpg", Disconnection] = field(default="gridpg", metadata=LATER)

    @property
    def disconnection(self) -> Disconnection | None:
        """What it asks of `Network.disconnected`."""
        return None if self.setting == "gridpg" else self.setting

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        known = [cells for cells in explained.batch.cells if cells is not None]
        if len(known) < len(explained.batch.cells):
            raise BadConfig("grid_pointing: the pictures' classes are not known to be classes of the network")
        classes = torch.stack(known).flatten(1)
        cells = self._explained(classes.shape[1])
        counts = self._recognised(explained, classes)[:, cells]
        inside, total = (torch.full_like(counts, torch.nan, dtype=torch.float64) for _ in range(2))
        non_finites = num_non_finite(explained.relevance)
        for k, cell in enumerate(cells):
            images = counts[:, k].nonzero().squeeze(1)
            if not len(images):
                continue
            given = (explained.batch.x, classes[:, cell], explained.batch.seeds)
            explain = self._explain(explained, classes.shape[1], cell)
            relevance = explain(*(values[images.to(values.device)] for values in given)).double()
            by_cell = cells_of(relevance.sum(1, keepdim=True).clamp(min=0), classes.shape[1]).sum((2, 3, 4))
            inside[images, k], total[images, k] = by_cell[:, cell], by_cell.sum(1)
            non_finites[images] += num_non_finite(relevance)
        return {"inside": inside, "total": total, "recognised": counts.long(), "num_non_finite": non_finites}

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        undefined = {"non-finite relevance": non_finite}
        defined = {"no picture recognised": _unrecognised, "no positive relevance": _nothing}
        return {
            "localization": Variant(
                direction="higher",
                statistics=_sums,
                value=lambda means: means[..., 0] / means[..., 1],
                undefined=undefined | defined,
            ),
            "localization_median": Variant(
                direction="higher", statistics=_mean_of_cells, average="median", undefined=undefined | defined
            ),
            "cells": Variant(direction="higher", statistics=_percent_of_cells, undefined=undefined),
        }

    def _explained(self, count: int) -> list[int]:
        """Which of so many cells are explained."""
        return [0, count - 1] if self.disconnection else [*range(count)]

    def _explain(self, explained: Explained, count: int, cell: int) -> Explain:
        """Explains grids of so many cells for the class of one."""
        network, n = explained.network, round(count**0.5)
        return network.disconnected(self.disconnection, n, cell) if self.disconnection else network.explain

    def _recognised(self, explained: Explained, classes: Tensor) -> Tensor:
        """Which cells (N, K) bool the network classifies correctly, given their classes (N, K), and surely enough."""
        pictures = cells_of(explained.batch.x, classes.shape[1]).flatten(0, 1)
        probability, found = explained.network.classify(pictures).double().softmax(1).max(1)
        right = (found == classes.flatten()) & (probability >= self.threshold)
        return right.view(classes.shape)


def cells_of(images: Tensor, count: int) -> Tensor:
    """The cells (N, K, C, H / n, W / n), row by row, of images (N, C, H, W) that are grids of K = n x n."""
    n = round(count**0.5)
    (num, channels), (height, width) = images.shape[:2], (side // n for side in images.shape[2:])
    parts = images.reshape(num, channels, n, height, n, width)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(num, count, channels, height, width)


def _shares(rows: DataFrame) -> NDArray[np.float64]:
    """L (N, K) in percent; not a number where a cell does not count."""
    shares: NDArray[np.float64] = 100 * vectors(rows, "inside") / vectors(rows, "total")
    return shares


def _sums(rows: DataFrame) -> NDArray[np.float64]:
    """The sum of L over the cells of each grid, and their number (N, 2)."""
    shares = _shares(rows)
    return np.stack([np.nansum(shares, axis=1), np.isfinite(shares).sum(axis=1)], axis=1)


def _mean_of_cells(rows: DataFrame) -> NDArray[np.float64]:
    sums, numbers = np.split(_sums(rows), 2, axis=1)
    return sums / numbers


def _percent_of_cells(rows: DataFrame) -> NDArray[np.float64]:
    """Percent (N, 1) of the cells that have an L."""
    percents: NDArray[np.float64] = 100 * np.isfinite(_shares(rows)).mean(axis=1, keepdims=True)
    return percents


def _unrecognised(rows: DataFrame) -> NDArray[np.bool_]:
    none: NDArray[np.bool_] = vectors(rows, "recognised").max(axis=1) == 0
    return none


def _nothing(rows: DataFrame) -> NDArray[np.bool_]:
    none: NDArray[np.bool_] = _sums(rows)[:, 1] == 0
    return none

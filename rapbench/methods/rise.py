"""Randomized Input Sampling for Explanation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.ranges import Count

_AT_ONCE = 32
"""Masked copies of an image in one forward pass."""


@dataclass(frozen=True, kw_only=True)
class Rise:
    """RISE, 1 / (n p) Σ_i p_c(x · M_i) M_i: the mean of random masks M_i by the target's probability p_c under each.

    A mask is a grid of s x s cells, each 1 with probability p and 0 else, enlarged bilinearly to s + 1 times the size
    of a cell, ⌈H / s⌉ x ⌈W / s⌉, of which a part as large as the image is cut out at random. It multiplies the
    normalised input, as in the published code: what it hides has the mean colour. Each image draws masks of its own, on
    the CPU from its own seed. The map is shared evenly by the input's channels.

    Attributes:
        masks: how many n an image, each one forward pass: as the paper takes them for VGG-16; it takes 8000 for
            ResNet-50.
        cells: in a row and in a column of the grid, s.
        keep: probability p that a cell is kept.

    Source: Petsiuk et al. 2018, Eq. 6 and Section 3.2.
    Departs: beyond the centres of the outermost cells a mask keeps their values, where the published code mirrors.
    """

    title: ClassVar[str] = "RISE"
    signed: ClassVar[bool] = False

    masks: Count = 4000
    cells: Count = 7
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        maps = [self._map(model, *image) for image in zip(x, target, seeds.tolist(), strict=True)]
        return (torch.stack(maps) / x.shape[1]).unsqueeze(1).expand_as(x).clone()

    def _map(self, model: nn.Module, x: Tensor, target: Tensor, seed: int) -> Tensor:
        """The map (H, W) of one image (C, H, W)."""
        total = x.new_zeros(x.shape[1:])
        grids, corners = self._drawn(x, seed)
        for some, where in zip(torch.split(grids, _AT_ONCE), torch.split(corners, _AT_ONCE), strict=True):
            masks = self._enlarged(some, where, x)
            probability = model(masks.unsqueeze(1) * x).softmax(1)[:, target]
            total += torch.einsum("n,nhw->hw", probability, masks)
        return total / (self.masks * self.keep)

    def _drawn(self, x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Grids (n, 1, s, s) of zeros and ones, and (n, 2) the upper left corners of what is cut out of them."""
        generator = torch.Generator().manual_seed(seed)
        grids = torch.rand(self.masks, 1, self.cells, self.cells, generator=generator) < self.keep
        corners = [torch.randint(side, (self.masks,), generator=generator) for side in self._cell(x)]
        return grids, torch.stack(corners, 1)

    def _cell(self, x: Tensor) -> list[int]:
        """Height and width of a cell in pixels."""
        return [math.ceil(side / self.cells) for side in x.shape[1:]]

    def _enlarged(self, grids: Tensor, corners: Tensor, x: Tensor) -> Tensor:
        """The masks (n, H, W)."""
        size, (height, width) = [(self.cells + 1) * side for side in self._cell(x)], x.shape[1:]
        large = functional.interpolate(grids.to(x), size, mode="bilinear", align_corners=False).squeeze(1)
        cut = zip(large, corners.tolist(), strict=True)
        return torch.stack([mask[row : row + height, column : column + width] for mask, (row, column) in cut])

"""What a metric draws at random for an image: from the image's own seed, and shared with nothing else that draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rapbench.core.seeds import image_seed

if TYPE_CHECKING:
    from torch import Tensor


def generators(seeds: Tensor, purpose: str) -> list[torch.Generator]:
    """A generator on the CPU for each image's seed (N,); a map that is noise of that seed does not know its numbers."""
    return [torch.Generator().manual_seed(image_seed(seed, purpose)) for seed in seeds.tolist()]


def noise(like: Tensor, seeds: Tensor, purpose: str) -> Tensor:
    """A picture of N(0, 1) noise for each of some pictures (N, C, H, W)."""
    drawn = torch.empty(like.shape)
    for picture, draw in zip(drawn, generators(seeds, purpose), strict=True):
        picture.normal_(generator=draw)
    return drawn.to(like)

"""From a photograph of any shape to a square: image, boxes and mask move together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Preprocess = Literal["squash", "crop"]
"""`squash` resizes to the square, ignoring the aspect ratio; `crop` resizes the shorter side, then cuts the centre."""

Box = tuple[float, float, float, float]
"""Edges (left, top, right, bottom) of a rectangle, pixel k reaching from k to k + 1."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A resize to `width` x `height`, then a cut of `size` x `size` at (`left`, `top`), all in pixels."""

    size: int
    width: int
    height: int
    left: int = 0
    top: int = 0

    def image(self, photo: Image.Image) -> Tensor:
        """RGB (3, size, size) in [0, 1], bilinear with antialiasing."""
        pixels = self._cut(photo, Image.Resampling.BILINEAR)
        return pixels.permute(2, 0, 1).contiguous().float() / 255

    def mask(self, mask: Image.Image) -> Tensor:
        """Mask (size, size) uint8, nearest neighbour."""
        return self._cut(mask, Image.Resampling.NEAREST)

    def boxes(self, boxes: Sequence[Box], frame: tuple[int, int]) -> Tensor | None:
        """Pixels (B, 4) int64, half open, that boxes in a frame of (width, height) touch; None where none is left."""
        scale = np.array((self.width, self.height, self.width, self.height))
        edges = np.array(boxes, float).reshape(-1, 4) * scale / np.array(frame * 2)
        low, high = np.floor(edges[:, :2]), np.ceil(edges[:, 2:])
        pixels = np.concatenate((low, high), 1) - np.array((self.left, self.top) * 2)
        pixels = pixels.clip(0, self.size).astype(np.int64)
        kept = pixels[(pixels[:, :2] < pixels[:, 2:]).all(1)]
        return torch.from_numpy(kept) if len(kept) else None

    def classes(
        self, boxes: Sequence[Box], frame: tuple[int, int], names: Sequence[Hashable], known: Sequence[Hashable]
    ) -> Tensor:
        """Which of the known classes, (B, K) bool, each of the boxes that are left shows, given the name of each."""
        left = [name for name, box in zip(names, boxes, strict=True) if self.boxes([box], frame) is not None]
        return torch.tensor([[name == one for one in known] for name in left]).bool().view(len(left), len(known))

    def _cut(self, picture: Image.Image, filtering: Image.Resampling) -> Tensor:
        resized = picture.resize((self.width, self.height), filtering)
        square = resized.crop((self.left, self.top, self.left + self.size, self.top + self.size))
        return torch.from_numpy(np.array(square))


def view(preprocess: Preprocess, photo: tuple[int, int], size: int) -> View:
    """The view of a photograph of (width, height) that a preprocessing takes."""
    if preprocess == "squash":
        return View(size=size, width=size, height=size)
    return _centre_crop(photo, size)


def _centre_crop(photo: tuple[int, int], size: int) -> View:
    """Shorter side to 256/224 of the size, the longer in proportion; rounded as torchvision rounds."""
    shorter = round(size * 256 / 224)
    width, height = (int(shorter * side / min(photo)) for side in photo)
    return View(size=size, width=width, height=height, left=round((width - size) / 2), top=round((height - size) / 2))

"""Controls: maps that know nothing of the network. A method that does not beat them explains nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Random:
    """Independent standard normal values, drawn on the CPU from each image's own seed."""

    title: ClassVar[str] = "Random"
    signed: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        maps = [torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds.tolist()]
        return torch.stack(maps).to(x)


@dataclass(frozen=True, kw_only=True)
class Center:
    """√½ - max(|u|, |v|) with u, v from -1 to 1 across the image: positive in the central square of half the area."""

    title: ClassVar[str] = "Centre"
    signed: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        u, v = (((torch.arange(n) + 0.5) / n * 2 - 1).abs() for n in x.shape[2:])
        square: Tensor = 0.5**0.5 - torch.maximum(u.unsqueeze(1), v.unsqueeze(0))
        return square.to(x).expand_as(x).clone()


@dataclass(frozen=True, kw_only=True)
class AllBackground:
    """No pixel is relevant: what a segmentation score is worth when nothing is found."""

    title: ClassVar[str] = "All background"
    signed: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        return torch.zeros_like(x)


@dataclass(frozen=True, kw_only=True)
class AllForeground:
    """Every pixel is equally relevant: what a segmentation score is worth when everything is the object."""

    title: ClassVar[str] = "All foreground"
    signed: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        return torch.ones_like(x)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """Magnitude of the Sobel gradient of the channels' mean, shared evenly by the channels: where contrast is."""

    title: ClassVar[str] = "Edge"
    signed: ClassVar[bool] = False

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        sobel = x.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
        grey = functional.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        slopes: Tensor = functional.conv2d(grey, torch.stack([sobel, sobel.t()]).unsqueeze(1))
        magnitude = slopes.square().sum(1, keepdim=True).sqrt()
        return (magnitude / x.shape[1]).expand_as(x).clone()

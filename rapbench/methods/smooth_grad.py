"""Gradients averaged over noisy copies of the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from rapbench.core.ranges import Count, NonNegative
from rapbench.methods.gradient import input_gradients


@dataclass(frozen=True, kw_only=True)
class SmoothGrad:
    """|mean of ∂f_c/∂x at x + e|, e normal with a standard deviation that is a share of the image's range.

    Attributes:
        samples: noisy copies.
        noise: standard deviation over (max x - min x), per image.

    Source: Smilkov et al. 2017, Section 3.
    """

    title: ClassVar[str] = "SmoothGrad"
    signed: ClassVar[bool] = False

    samples: Count = 50
    noise: NonNegative = 0.15

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        return self._mean(model, x, target, seeds, power=1).abs()

    def _mean(self, model: nn.Module, x: Tensor, target: Tensor, seeds: Tensor, power: int) -> Tensor:
        scale = self.noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
        generators = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
        total = torch.zeros_like(x)
        for _ in range(self.samples):
            noise = torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators]).to(x)
            total += input_gradients(model, x + scale * noise, target) ** power
        return total / self.samples


@dataclass(frozen=True, kw_only=True)
class SmoothGradSquared(SmoothGrad):
    """Mean of (∂f_c/∂x)² at noisy inputs.

    Source: Hooker et al. 2019, Section 3.1.
    """

    title: ClassVar[str] = "SmoothGrad²"

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        return self._mean(model, x, target, seeds, power=2)

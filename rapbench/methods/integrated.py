"""Integrated gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from rapbench.methods.gradient import input_gradients


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients:
    """x · mean of ∂f_c/∂x at (k + ½)/m · x, k = 0..m-1: the path from a zero reference by the midpoint rule.

    Attributes:
        steps: points m on the path.

    Source: Sundararajan et al. 2017, Eq. 3.
    """

    title: ClassVar[str] = "Integrated Gradients"
    signed: ClassVar[bool] = True

    steps: int = 50

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be at least 1")

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for k in range(self.steps):
            total += input_gradients(model, x * ((k + 0.5) / self.steps), target)
        return x * total / self.steps

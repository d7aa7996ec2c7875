"""Integrated gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from rapbench.core.ranges import Count
from rapbench.methods.gradient import input_gradients


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients:
    """(x - x0) · mean of ∂f_c/∂x at m points on the straight path from a reference x0 to x.

    Attributes:
        steps: points m on the path.
        points: 'midpoint' takes (k + ½)/m of the way, 'left' k/m, for k = 0..m-1.
        reference: value of every element of x0, in network-input units.
        path: 'inn108' goes from x to 2x - x0 instead, as iNNvestigate did up to version 1.0.8; it is not complete.

    Source: Sundararajan et al. 2017, Eq. 3.
    """

    title: ClassVar[str] = "Integrated Gradients"
    signed: ClassVar[bool] = True

    steps: Count = 50
    points: Literal["midpoint", "left"] = "midpoint"
    reference: float = 0.0
    path: Literal["correct", "inn108"] = "correct"

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        change, total = x - self.reference, torch.zeros_like(x)
        start = x if self.path == "inn108" else torch.full_like(x, self.reference)
        first = 0.5 if self.points == "midpoint" else 0.0
        for k in range(self.steps):
            total += input_gradients(model, start + (k + first) / self.steps * change, target)
        return change * total / self.steps

    def total(self, logits: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor | None:
        """What the relevance sums to with many points: the change of the logit. Source: Proposition 1."""
        if self.path == "inn108":
            return None
        change = logits(x) - logits(torch.full_like(x[:1], self.reference))
        return change.gather(1, target.unsqueeze(1)).squeeze(1)

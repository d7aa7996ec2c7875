"""DeepLIFT: differences from a reference instead of derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rapbench.methods.gradient import input_gradients
from rapbench.relprop.layers import MaxPool, Rectifier
from rapbench.relprop.trace import trace

_NEAR_ZERO = 1e-7
"""A smaller difference of inputs is taken for none: the derivative stands for the quotient."""


class _Rescaled(torch.autograd.Function):
    """A rectifier on images and, behind them in the batch, their references, with multiplier Δy / Δx."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[..., Tensor]) -> Tensor:
        y = function(x)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, *multipliers: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        dx, dy = _difference(x), _difference(y)
        slope = torch.where(dx.abs() < _NEAR_ZERO, (x[: len(dx)] > 0).to(x.dtype), dy / dx)
        m = multipliers[0][: len(dx)] * slope
        return torch.cat([m, torch.zeros_like(m)]), None


class _RescaledMaximum(torch.autograd.Function):
    """A max-pool likewise: what the image adds goes to its own winner, what the reference loses to the reference's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[..., Tensor]) -> Tensor:
        y = function(x)
        ctx.save_for_backward(x, y)
        ctx.function = function
        return y

    @staticmethod
    def backward(ctx: Any, *multipliers: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        image, reference = y.chunk(2)
        m, greater = multipliers[0].chunk(2)[0], torch.maximum(image, reference)
        with torch.enable_grad():
            inputs = x.detach().requires_grad_()
            routed = torch.cat([m * (greater - reference), m * (image - greater)])
            (contribution,) = torch.autograd.grad(ctx.function(inputs), inputs, routed)
            (derivative,) = torch.autograd.grad(ctx.function(inputs), inputs, torch.cat([m, torch.zeros_like(m)]))
        dx = _difference(x)
        quotient = contribution.chunk(2)[0].add(contribution.chunk(2)[1]) / dx
        m = torch.where(dx.abs() < _NEAR_ZERO, derivative.chunk(2)[0], quotient)
        return torch.cat([m, torch.zeros_like(m)]), None


def _difference(values: Tensor) -> Tensor:
    image, reference = values.chunk(2)
    return image - reference


def _with(kind: type[torch.autograd.Function]) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    return lambda function: lambda x: kind.apply(x, function)


@dataclass(frozen=True, kw_only=True)
class DeepLiftRescale:
    """(x - x0) · m, where multipliers m chain like gradients and a nonlinearity's is Δy / Δx.

    Attributes:
        reference: value of every element of x0, in network-input units.

    Source: Shrikumar et al. 2017, Sections 3.3 and 3.5.2.
    """

    title: ClassVar[str] = "DeepLIFT (Rescale)"
    signed: ClassVar[bool] = True

    reference: float = 0.0

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        graph = trace(model).replacing(Rectifier, _with(_Rescaled)).replacing(MaxPool, _with(_RescaledMaximum))
        reference = torch.full_like(x, self.reference)
        both = input_gradients(graph, torch.cat([x, reference]), torch.cat([target, target]))
        return (x - reference) * both[: len(x)]

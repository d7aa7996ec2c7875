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
    """A rectifier on images and, in the last row of the batch, their reference, with multiplier Δy / Δx."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[..., Tensor]) -> Tensor:
        y = function(x)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, *multipliers: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        dx, dy = (values[:-1] - values[-1:] for values in (x, y))
        slope = torch.where(dx.abs() < _NEAR_ZERO, (x[:-1] > 0).to(x.dtype), dy / dx)
        return _above_reference(multipliers[0][:-1] * slope), None


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
        m, image, reference = multipliers[0][:-1], y[:-1], y[-1:]
        greater = torch.maximum(image, reference)
        contribution = _routed(ctx.function, x[:-1], m * (greater - reference))
        contribution += _routed(ctx.function, x[-1:].expand_as(x[:-1]), m * (image - greater))
        dx = x[:-1] - x[-1:]
        slope = torch.where(dx.abs() < _NEAR_ZERO, _routed(ctx.function, x[:-1], m), contribution / dx)
        return _above_reference(slope), None


def _routed(function: Callable[..., Tensor], x: Tensor, r: Tensor) -> Tensor:
    """`r` sent back to the winners of a max-pool of `x`."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(function(x), x, r)[0]


def _above_reference(rows: Tensor) -> Tensor:
    """Multipliers of the images, and a row of zeros for their reference."""
    return torch.cat([rows, torch.zeros_like(rows[:1])])


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
        reference = torch.full_like(x[:1], self.reference)
        multipliers = input_gradients(graph, torch.cat([x, reference]), torch.cat([target, target[:1]]))
        return (x - reference) * multipliers[:-1]

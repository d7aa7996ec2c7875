"""Gradients whose backward pass through ReLUs keeps only what is positive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rapbench.core.errors import UnsupportedLayer
from rapbench.methods.gradient import input_gradients
from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import Rectifier
from rapbench.relprop.tracing.trace import trace

Function = Callable[..., Tensor]


class _ClampedGradient(torch.autograd.Function):
    """The identity, whose backward pass keeps the positive part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - autograd's signature
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004 - autograd's signature
        return gradients[0].clamp(min=0)


def with_rectifiers(model: nn.Module, x: Tensor, function: Callable[[Function], Function], method: str) -> Graph:
    """The network in which each rectifier runs `function(its own function)`.

    Raises:
        UnsupportedLayer: it has none: what the method is known for would be the plain gradient.
    """
    graph = trace(model, x)
    if not graph.has(Rectifier):
        raise UnsupportedLayer(f"{method} changes how ReLUs pass gradients back, and the network has no ReLU")
    return graph.replacing(Rectifier, function)


def guided(function: Function) -> Function:
    """A rectifier through which only positive gradients pass back."""
    return lambda x: _ClampedGradient.apply(function(x))


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop:
    """The gradient where every ReLU passes G_in = max(G_out, 0) · [pre-activation > 0].

    Other activations pass the gradient as it is: the rule is about ReLUs.

    Attributes:
        times_input: multiply by x, as Figure 4 of Shrikumar et al. 2017 does.

    Source: Springenberg et al. 2015, Section 3.4.
    """

    title: ClassVar[str] = "Guided Backprop"
    signed: ClassVar[bool] = True

    times_input: bool = False

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        gradient = input_gradients(with_rectifiers(model, x, guided, self.title), x, target)
        return x * gradient if self.times_input else gradient


class _Deconvolved(torch.autograd.Function):
    """A rectifier whose backward pass is the rectifier itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Function) -> Tensor:  # noqa: ARG004 - autograd's signature
        return function(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004 - autograd's signature
        return gradients[0].clamp(min=0), None


def deconvolved(function: Function) -> Function:
    """A rectifier through which every positive gradient passes back, whatever its input was."""
    return lambda x: _Deconvolved.apply(x, function)


@dataclass(frozen=True, kw_only=True)
class DeconvNet:
    """The gradient where every ReLU passes G_in = max(G_out, 0), and other activations as it is.

    Source: Zeiler and Fergus 2014, Section 2.1.
    """

    title: ClassVar[str] = "DeconvNet"
    signed: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        return input_gradients(with_rectifiers(model, x, deconvolved, self.title), x, target)

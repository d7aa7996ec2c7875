"""The gradient and its product with the input."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from rapbench.relprop.batch_norm import ScaleAndShift


def input_gradients(function: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
    """∂f_target/∂x, of the shape of `x`; no gradient reaches any parameter."""
    with torch.enable_grad(), right_gradients(x):
        x = x.detach().requires_grad_()
        score = function(x).gather(1, target.unsqueeze(1)).sum()
        return torch.autograd.grad(score, x)[0]


def right_gradients(x: Tensor) -> AbstractContextManager[object]:
    """Within it, batch norm has the gradient that it should have, for a single image too."""
    return ScaleAndShift() if len(x) == 1 else nullcontext()


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """Sensitivity |∂f_c/∂x|.

    Source: Simonyan et al. 2014, Section 3.
    """

    title: ClassVar[str] = "Gradient"
    signed: ClassVar[bool] = False

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        return input_gradients(model, x, target).abs()


@dataclass(frozen=True, kw_only=True)
class InputGradient:
    """x · ∂f_c/∂x, in units of the normalised input.

    Source: Shrikumar et al. 2016, Section 2.
    """

    title: ClassVar[str] = "Input*Gradient"
    signed: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        return x * input_gradients(model, x, target)

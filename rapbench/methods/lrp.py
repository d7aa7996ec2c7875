"""Layer-wise relevance propagation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from rapbench.relprop.composites import Composite
from rapbench.relprop.graph import Rule, propagate
from rapbench.relprop.layers import (
    Add,
    AveragePool,
    BatchNorm,
    Concatenate,
    Identity,
    MaxPool,
    Rearrange,
    Rectifier,
    Weighted,
)
from rapbench.relprop.rules import AlphaBeta, Bias, Pass, Proportional, Route, ZBeta
from rapbench.relprop.trace import trace


def lrp_composite(weighted: Rule, *, batch_norm: Rule, first: Rule | None = None) -> Composite:
    """The table of an LRP method in which every weighted layer follows one rule."""
    return Composite(
        table=(
            (Weighted, weighted),
            (Rectifier, Pass()),
            (Identity, Pass()),
            (BatchNorm, batch_norm),
            (MaxPool, Route()),
            (Rearrange, Route()),
            (Concatenate, Route()),
            (AveragePool, Proportional()),
            (Add, Proportional()),
        ),
        first=first,
    )


@dataclass(frozen=True, kw_only=True)
class _AlphaBeta:
    """LRP with the α-β rule at every convolution and dense layer.

    Max-pooling passes relevance to the winner; average pooling and additions divide it in proportion.

    Attributes:
        bias: what the denominators hold of the bias, see `AlphaBeta`; 'none' conserves relevance.
        batch_norm: 'fold' merges it into the layer that feeds it where that is possible, and passes relevance
            unchanged elsewhere; 'identity' always passes it unchanged.
        pixels: rule of the layers that read pixels; 'same' as elsewhere, or 'z_beta' with each image's own bounds.
    """

    alpha: ClassVar[float]
    beta: ClassVar[float]

    bias: Bias = "none"
    batch_norm: Literal["fold", "identity"] = "fold"
    pixels: Literal["same", "z_beta"] = "same"

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        graph = trace(model)
        if self.batch_norm == "fold":
            graph = graph.folded()
        first = ZBeta() if self.pixels == "z_beta" else None
        composite = lrp_composite(AlphaBeta(self.alpha, self.beta, self.bias), batch_norm=Pass(), first=first)
        return propagate(graph, composite.rules(graph, type(self).__name__), x, target)


@dataclass(frozen=True, kw_only=True)
class LRPAlpha1Beta0(_AlphaBeta):
    """LRP with α = 1, β = 0: only positive contributions receive relevance."""

    title: ClassVar[str] = "LRP α1β0"
    signed: ClassVar[bool] = False
    alpha: ClassVar[float] = 1
    beta: ClassVar[float] = 0


@dataclass(frozen=True, kw_only=True)
class LRPAlpha2Beta1(_AlphaBeta):
    """LRP with α = 2, β = 1."""

    title: ClassVar[str] = "LRP α2β1"
    signed: ClassVar[bool] = True
    alpha: ClassVar[float] = 2
    beta: ClassVar[float] = 1

"""Relative Attributing Propagation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from rapbench.relprop.composites import Composite
from rapbench.relprop.graph import propagate
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
from rapbench.relprop.rules import (
    Pass,
    PassNonzero,
    Proportional,
    RAPFirst,
    RAPHidden,
    Route,
    Routing,
    ZBeta,
)
from rapbench.relprop.trace import trace


@dataclass(frozen=True, kw_only=True)
class RAP:
    """Relative Attributing Propagation: relevance by influence first, re-centred so that it sums to the logit.

    Attributes:
        routing: where negative relevance goes in convolutions, see `RAPHidden`.
        pointwise: how 1x1 convolutions propagate, see `RAPHidden`.
        batch_norm: 'identity' passes relevance unchanged, as the published code comes to; 'fold' merges each into the
            layer that alone feeds it first, which is another method.

    Source: Nam et al. 2020, Eq. 5-10.
    """

    title: ClassVar[str] = "RAP"
    signed: ClassVar[bool] = True

    routing: Routing = "official"
    pointwise: Literal["rap", "proportional"] = "rap"
    batch_norm: Literal["identity", "fold"] = "identity"

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        graph = trace(model, x).folded() if self.batch_norm == "fold" else trace(model, x)
        return propagate(graph, self.composite().rules(graph, self.title), x, target)

    def total(self, logits: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
        """The logit. Source: Nam et al. 2020, Section 3.3."""
        return logits(x).gather(1, target.unsqueeze(1)).squeeze(1)

    def composite(self) -> Composite:
        """The whole method as a table."""
        return Composite(
            last=RAPFirst(),
            first=ZBeta(),
            table=(
                (Weighted, RAPHidden(self.routing, self.pointwise)),
                (Rectifier, Pass()),
                (Identity, Pass()),
                (BatchNorm, PassNonzero()),
                (MaxPool, Proportional()),
                (AveragePool, Proportional()),
                (Add, Proportional()),
                (Concatenate, Route()),
                (Rearrange, Route()),
            ),
        )

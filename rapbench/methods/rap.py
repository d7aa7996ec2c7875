"""Relative Attributing Propagation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from rapbench.methods.arithmetic import Arithmetic
from rapbench.relprop.composites import Composite
from rapbench.relprop.graph import Graph
from rapbench.relprop.idle import prepared
from rapbench.relprop.layers import (
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    Concatenate,
    Gated,
    Identity,
    MaxPool,
    Rearrange,
    Rectifier,
    Weighted,
)
from rapbench.relprop.propagation import propagate
from rapbench.relprop.rap_rules import PassNonzero, RAPFirst, RAPHidden, Routing
from rapbench.relprop.rules import Pass, Proportional, Route, ZBeta


@dataclass(frozen=True, kw_only=True)
class RAP:
    """Relative Attributing Propagation: relevance by influence first, re-centred so that it sums to the logit.

    Attributes:
        routing: where negative relevance goes in convolutions, see `RAPHidden`.
        pointwise: how 1x1 convolutions propagate, see `RAPHidden`; 'proportional' loses what reaches a unit without
            contributions.
        batch_norm: 'identity' passes relevance unchanged; 'official' is the published code, which loses what reaches a
            batch norm, pool or addition where the value it came from is exactly 0; 'fold' merges each batch norm into
            the layer that alone feeds it first, which is another method.

    Source: Nam et al. 2020, Eq. 5-10.
    Departs: what reaches a value of exactly 0 is handed on, so that the sum is kept as Eq. 2 wants; the published code
        loses it (`batch_norm` 'official'), by up to the whole logit in networks with depthwise convolutions. Other
        activations than ReLU and constant scales and shifts, of which the paper says nothing, pass relevance unchanged;
        at a gate the signal takes all, as in LRP. Normalisation by an image's own values is refused.
    """

    title: ClassVar[str] = "RAP"
    signed: ClassVar[bool] = True

    routing: Routing = "official"
    pointwise: Literal["rap", "proportional"] = "rap"
    batch_norm: Literal["identity", "official", "fold"] = "identity"

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        graph = prepared(model, x, fold=self.batch_norm == "fold", hold=True)
        return propagate(graph, self.composite().rules(graph, self.title), x, target)

    def total(self, logits: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor | None:
        """The logit; none where what reaches a silent unit is lost. Source: Nam et al. 2020, Eq. 2."""
        if self.batch_norm == "official" or self.pointwise == "proportional":
            return None
        return logits(x).gather(1, target.unsqueeze(1)).squeeze(1)

    def arithmetic(self, graph: Graph) -> Arithmetic:
        """A forward pass in float64 where branches are added: what is shifted does not vanish where they cancel."""
        return "fp64-forward" if graph.has(Add) else "fp32"

    def composite(self) -> Composite:
        """The whole method as a table."""
        official = self.batch_norm == "official"
        shares = Proportional("drop" if official else "share")
        return Composite(
            last=RAPFirst(),
            first=ZBeta(),
            table=(
                (Weighted, RAPHidden(self.routing, self.pointwise)),
                (Rectifier, Pass()),
                (Activation, Pass()),
                (Affine, Pass()),
                (Gated, Pass()),
                (Identity, Pass()),
                (BatchNorm, PassNonzero() if official else Pass()),
                (MaxPool, shares),
                (AveragePool, shares),
                (Add, shares),
                (Concatenate, Route()),
                (Rearrange, Route()),
            ),
        )

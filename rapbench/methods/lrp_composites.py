"""Layer-wise relevance propagation by another rule for each kind of layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from rapbench.core.ranges import NonNegative
from rapbench.methods.lrp import LRP, LRPZBeta
from rapbench.relprop.graph import Rule
from rapbench.relprop.rules import AlphaBeta, Epsilon, Flat, Gamma, ZBeta


@dataclass(frozen=True, kw_only=True)
class LRPEpsilonPlus(LRP):
    """The ε rule in dense layers, z+ in convolutions.

    Attributes:
        epsilon: stabiliser of the denominators of dense layers.

    Source: Kohlbrenner et al. 2020, Section III.
    """

    title: ClassVar[str] = "LRP ε z+"

    epsilon: NonNegative = 1e-6

    def convolution_rule(self) -> Rule:
        return AlphaBeta(1, 0)

    def dense_rule(self) -> Rule:
        return Epsilon(self.epsilon)


@dataclass(frozen=True, kw_only=True)
class LRPEpsilonPlusFlat(LRPEpsilonPlus):
    """The ε rule in dense layers, z+ in convolutions, the flat rule at pixels.

    Source: Kohlbrenner et al. 2020, Section III.
    """

    title: ClassVar[str] = "LRP ε z+ flat"

    def pixel_rule(self) -> Rule | None:
        return Flat()


@dataclass(frozen=True, kw_only=True)
class LRPEpsilonGammaBox(LRP):
    """The ε rule in dense layers, γ in convolutions, z^β at pixels.

    Attributes:
        epsilon: stabiliser of the denominators of dense layers.
        gamma: how much more positive weights count in convolutions.
        low: least value a pixel can have, in network-input units; each image's own minimum by default.
        high: greatest value a pixel can have; each image's own maximum by default.

    Source: Montavon et al. 2019, Section 10.3.
    """

    title: ClassVar[str] = "LRP ε γ box"

    epsilon: NonNegative = 1e-6
    gamma: NonNegative = 0.25
    low: float | None = None
    high: float | None = None

    def convolution_rule(self) -> Rule:
        return Gamma(self.gamma)

    def dense_rule(self) -> Rule:
        return Epsilon(self.epsilon)

    def pixel_rule(self) -> Rule | None:
        return ZBeta(self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class DeepTaylor(LRPZBeta):
    """Deep Taylor decomposition: z+ in hidden layers, z^β at pixels, from max(logit, 0).

    Source: Montavon et al. 2017, Sections 4 and 5.
    """

    title: ClassVar[str] = "Deep Taylor"

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        return super().__call__(model, x, target, seeds=seeds).clamp(min=0)

    def total(self, logits: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> None:
        """None: negative shares, as additions give them, are cut off."""

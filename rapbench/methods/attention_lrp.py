"""Layer-wise relevance propagation as transformers have it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from rapbench.core.named import LATER
from rapbench.core.ranges import NonNegative
from rapbench.methods.lrp import LRP
from rapbench.relprop.graph import Rule
from rapbench.relprop.rules import Gamma


@dataclass(frozen=True, kw_only=True)
class _Transformer(LRP):
    """LRP-γ in convolutions and dense layers; deviations of normalisations are constants.

    Attributes:
        gamma: how much more contributions of the output's sign count in dense layers; 0 is LRP-0.
        conv_gamma: the same in convolutions.
    """

    gamma: NonNegative = 0.05
    conv_gamma: NonNegative = 0.25

    def convolution_rule(self) -> Rule:
        return Gamma(self.conv_gamma)

    def dense_rule(self) -> Rule:
        return Gamma(self.gamma)


@dataclass(frozen=True, kw_only=True)
class AttnLRP(_Transformer):
    """AttnLRP: products halve relevance, softmax follows its Taylor expansion.

    With γ = 0 it is x · ∂f_c/∂x with a modified gradient: an activation's is out / in, deviations are constants, what
    goes back through a product of two tensors is halved.

    Source: Achtibat et al. 2024, Propositions 3.1 to 3.4.
    Departs: the paper searches both γ for each network and prints none for all: these are values of its grid.
    """

    title: ClassVar[str] = "AttnLRP"

    gate: Literal["signal", "half"] = field(default="half", metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class CPLRP(_Transformer):
    """CP-LRP: attention is a constant, so that values take all relevance, and queries and keys none.

    Source: Ali et al. 2022, Section 3; with γ as Achtibat et al. 2024 compare it.
    """

    title: ClassVar[str] = "CP-LRP"

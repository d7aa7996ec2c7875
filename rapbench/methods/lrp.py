"""Layer-wise relevance propagation: every method is a table of rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor, nn

from rapbench.core.named import LATER
from rapbench.core.ranges import NonNegative
from rapbench.methods.arithmetic import Arithmetic
from rapbench.relprop.composites import Composite
from rapbench.relprop.graph import Graph, Rule
from rapbench.relprop.idle import prepared
from rapbench.relprop.layers import (
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    Concatenate,
    Contraction,
    Convolution,
    Dense,
    Gated,
    Identity,
    MatrixProduct,
    MaxPool,
    Norm,
    Product,
    Rearrange,
    Rectifier,
    Softmax,
)
from rapbench.relprop.propagation import propagate
from rapbench.relprop.rules import (
    AlphaBeta,
    Bias,
    Epsilon,
    Flat,
    Gamma,
    Halve,
    OneSided,
    Pass,
    Proportional,
    Route,
    Taylor,
    Uniform,
    WSquare,
    ZBeta,
    Zeros,
)


@dataclass(frozen=True, kw_only=True)
class LRP:
    """A method that propagates the logit layer by layer; its subclasses say by which rules.

    Max-pooling passes relevance to the winner; average pooling and additions divide it in proportion to what each input
    gave; activations and dropout pass it on. Constant scales and shifts, and normalisations by an image's own values,
    whose deviation is held constant, follow LRP-0 where the dense rule counts the bias and pass it on elsewhere.

    Attributes:
        batch_norm: 'fold' merges each into the layer that alone feeds it and treats the others by 'rule' where the
            dense rule counts the bias and by 'identity' elsewhere; 'identity' passes relevance unchanged; 'rule' is
            LRP-0 on its affine map. Folding is the default because only it leaves the method what it is on the same
            function written without batch norm.
        gate: what the factors of a product get of which one is a gate, as in squeeze-and-excitation, or attention: the
            'signal', or the values, takes all, or each takes 'half'. Other products always halve.

    Source: Arras et al. 2017, gates that take nothing; Ali et al. 2022, attention and deviations held constant;
        Achtibat et al. 2024, halves, and normalisations that pass relevance on.
    """

    title: ClassVar[str]
    signed: ClassVar[bool] = True

    batch_norm: Literal["fold", "identity", "rule"] = "fold"
    gate: Literal["signal", "half"] = field(default="signal", metadata=LATER)

    def __post_init__(self) -> None:
        self.composite()  # its rules refuse parameters that do not fit together

    def convolution_rule(self) -> Rule:
        """The rule of convolutions."""
        raise AssertionError

    def dense_rule(self) -> Rule:
        """The rule of dense layers; that of convolutions unless a method says otherwise."""
        return self.convolution_rule()

    def pixel_rule(self) -> Rule | None:
        """The rule of the layers that read pixels, where they have one of their own."""
        return None

    @property
    def conserves(self) -> bool:
        """Whether no relevance is lost or gained on the way."""
        rules = (self.convolution_rule(), self.dense_rule())
        whole = (isinstance(r, AlphaBeta) and r.bias == "none" and r.one_sided == "whole" for r in rules)
        return self.batch_norm != "rule" and all(whole)

    def composite(self) -> Composite:
        """The whole method as a table."""
        affine = self.batch_norm == "rule" or (
            self.batch_norm == "fold" and isinstance(self.dense_rule(), Epsilon | Gamma)
        )
        scaled: Rule = Epsilon() if affine else Pass()
        zeros: Zeros = "share" if self.conserves else "drop"
        return Composite(
            first=self.pixel_rule(),
            table=(
                (Convolution, self.convolution_rule()),
                *((kind, self.dense_rule()) for kind in (Dense, Contraction)),
                *((kind, scaled) for kind in (BatchNorm, Affine, Norm)),
                (Gated, Halve() if self.gate == "half" else Pass()),
                (Product, Halve()),
                (MatrixProduct, Uniform(zeros)),
                (Softmax, Pass() if self.conserves else Taylor()),
                *((kind, Pass()) for kind in (Rectifier, Activation)),
                (Identity, Pass()),
                (MaxPool, Route()),
                (Rearrange, Route()),
                (Concatenate, Route()),
                (AveragePool, Proportional(zeros)),
                (Add, Proportional(zeros)),
            ),
        )

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        graph = prepared(model, x, fold=self.batch_norm == "fold", hold=self.gate == "signal")
        return propagate(graph, self.composite().rules(graph, self.title), x, target)

    def arithmetic(self, graph: Graph) -> Arithmetic:
        """More than float32 where sums that may cancel divide relevance that does not vanish with them.

        Sums of the forward pass are batch norms by their rule and additions: for w² and flat all, for α-β those that
        normalisations follow, which pass on relevance that is no smaller where a sum is. Those of the backward pass are
        the denominators of α-β with the whole bias, and what β leaves behind batch norms by their rule.
        """
        rule, scaled = self.convolution_rule(), self.batch_norm == "rule" and graph.has(BatchNorm)
        if isinstance(rule, AlphaBeta):
            whole_bias = rule.bias == "innvestigate" and (rule.beta or graph.has(BatchNorm) or graph.has(Add))
            if whole_bias or (scaled and rule.beta):
                return "fp64"
            return "fp64-forward" if graph.has(Norm) and graph.has(Add) else "fp32"
        return "fp64-forward" if isinstance(rule, Flat | WSquare) and (scaled or graph.has(Add)) else "fp32"

    def total(self, logits: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor | None:
        """The logit where the rules conserve; none where a bias or a missing sign takes a share."""
        return logits(x).gather(1, target.unsqueeze(1)).squeeze(1) if self.conserves else None


@dataclass(frozen=True, kw_only=True)
class LRPZero(LRP):
    """LRP-0: the bias counts in the denominators; equals input times gradient on networks of ReLUs and max-pools.

    Source: Bach et al. 2015, Eq. 56.
    """

    title: ClassVar[str] = "LRP-0"

    def convolution_rule(self) -> Rule:
        return Epsilon()


@dataclass(frozen=True, kw_only=True)
class LRPEpsilon(LRP):
    """LRP-ε.

    Attributes:
        epsilon: stabiliser of the denominators.

    Source: Bach et al. 2015, Eq. 58.
    """

    title: ClassVar[str] = "LRP ε"

    epsilon: NonNegative = 1e-6

    def convolution_rule(self) -> Rule:
        return Epsilon(self.epsilon)


@dataclass(frozen=True, kw_only=True)
class LRPGamma(LRP):
    """LRP-γ.

    Attributes:
        gamma: how much more positive weights count.

    Source: Montavon et al. 2019, Section 10.2.1.
    """

    title: ClassVar[str] = "LRP γ"

    gamma: NonNegative = 0.25

    def convolution_rule(self) -> Rule:
        return Gamma(self.gamma)


@dataclass(frozen=True, kw_only=True)
class _Split(LRP):
    """A method whose rule splits contributions by their sign.

    Attributes:
        one_sided: what a unit whose contributions have one sign hands on, see `AlphaBeta`: 'equation' follows Bach et
            al. 2015 to the letter, and sums may miss the logit by a factor of 5; 'whole' conserves relevance, but for
            what reaches constants beside an image's values, such as a class token.
    """

    one_sided: OneSided = "equation"


@dataclass(frozen=True, kw_only=True)
class _Pixels(_Split):
    """A method whose pixel layer may follow the z^β rule.

    Attributes:
        bias: what the denominators hold of the bias, see `AlphaBeta`; only 'none' can conserve relevance.
        pixels: rule of the layers that read pixels; 'same' as elsewhere, or 'z_beta' with each image's own bounds.
    """

    bias: Bias = "none"
    pixels: Literal["same", "z_beta"] = "same"

    def pixel_rule(self) -> Rule | None:
        return ZBeta() if self.pixels == "z_beta" else None


@dataclass(frozen=True, kw_only=True)
class LRPAlphaBeta(_Pixels):
    """LRP with the α-β rule at every convolution and dense layer.

    Attributes:
        alpha: weight of the positive contributions.
        beta: weight of the negative contributions, one less.

    Source: Bach et al. 2015, Eq. 60.
    """

    title: ClassVar[str] = "LRP αβ"

    alpha: float = 2.0
    beta: float = 1.0

    def convolution_rule(self) -> Rule:
        return AlphaBeta(self.alpha, self.beta, self.bias, self.one_sided)


@dataclass(frozen=True, kw_only=True)
class LRPAlpha1Beta0(_Pixels):
    """LRP with α = 1, β = 0: only positive contributions receive relevance."""

    title: ClassVar[str] = "LRP α1β0"
    signed: ClassVar[bool] = False

    def convolution_rule(self) -> Rule:
        return AlphaBeta(1, 0, self.bias, self.one_sided)


@dataclass(frozen=True, kw_only=True)
class LRPAlpha2Beta1(_Pixels):
    """LRP with α = 2, β = 1."""

    title: ClassVar[str] = "LRP α2β1"

    def convolution_rule(self) -> Rule:
        return AlphaBeta(2, 1, self.bias, self.one_sided)


@dataclass(frozen=True, kw_only=True)
class LRPZPlus(_Split):
    """The z+ rule everywhere.

    Source: Montavon et al. 2017, Eq. 11.
    """

    title: ClassVar[str] = "LRP z+"
    signed: ClassVar[bool] = False

    def convolution_rule(self) -> Rule:
        return AlphaBeta(1, 0, one_sided=self.one_sided)


@dataclass(frozen=True, kw_only=True)
class LRPZBeta(LRPZPlus):
    """The z+ rule in hidden layers and the z^β rule at pixels, with bounds in network-input units.

    Attributes:
        low: least value a pixel can have; each image's own minimum by default.
        high: greatest value a pixel can have; each image's own maximum by default.

    Source: Montavon et al. 2017, Eq. 13.
    """

    title: ClassVar[str] = "LRP zβ"

    low: float | None = None
    high: float | None = None

    def pixel_rule(self) -> Rule | None:
        return ZBeta(self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class LRPWSquare(LRP):
    """The w² rule everywhere.

    Source: Montavon et al. 2017, Eq. 12.
    """

    title: ClassVar[str] = "LRP w²"
    signed: ClassVar[bool] = False

    def convolution_rule(self) -> Rule:
        return WSquare()


@dataclass(frozen=True, kw_only=True)
class LRPFlat(LRP):
    """The flat rule everywhere: relevance spreads over each receptive field.

    Source: Lapuschkin et al. 2017, Section 3.2.
    """

    title: ClassVar[str] = "LRP flat"
    signed: ClassVar[bool] = False

    def convolution_rule(self) -> Rule:
        return Flat()

"""Methods of zennit: its rules, laid on the layers as the native methods lay theirs.

Definitions are made to coincide with the native ones as far as zennit's rules allow: biases stand in denominators only
where ours do, the stabiliser is negligible, batch norm is merged into the layer that alone feeds it, additions divide
relevance in proportion. zennit's own presets keep every bias (`bias=signed`), add 1e-6 to every denominator
(`stabilizer=1e-6`) and pass relevance unchanged through a batch norm that is not merged. Refused is what zennit cannot
see: functions, and additions outside torchvision's residual blocks, where each summand would get all relevance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rapbench.backends.modules import Hookable
from rapbench.backends.zennit_limits import additions_are_residual, hooked, mergeable
from rapbench.core.errors import BadConfig
from rapbench.core.ranges import NonNegative, Positive
from rapbench.relprop.idle import prepared
from rapbench.relprop.layers import AveragePool, BatchNorm, Convolution, Dense, Layer, Rectifier
from rapbench.relprop.rules import ZBeta

try:
    from zennit import rules
    from zennit.canonizers import MergeBatchNorm
    from zennit.core import Composite, Hook
    from zennit.layer import Sum
    from zennit.torchvision import ResNetBasicBlockCanonizer, ResNetBottleneckCanonizer
except ImportError as error:
    raise BadConfig('backend zennit needs zennit: pip install "rapbench[zennit]"') from error

_BIAS = ["bias"]  # what zennit's rules are to take for zero where biases stay out of the denominators


@dataclass(frozen=True, kw_only=True)
class _ReluGradient:
    """The gradient with another backward pass through ReLUs.

    Attributes:
        differs: why its maps differ from those of the same name in other backends; empty where they agree.
    """

    title: ClassVar[str]
    signed: ClassVar[bool] = True
    differs: ClassVar[str] = ""
    rule: ClassVar[Callable[[], Hook]]

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        network, hooks = Hookable(model, x, f"zennit's {self.title}"), {}
        for layer in network.graph.layers:
            if isinstance(layer, Rectifier):
                module = network.module(layer)
                if not isinstance(module, nn.ReLU):
                    network.refuse(layer, "zennit changes the gradient of nn.ReLU modules only")
                hooks[module] = type(self).rule()
        composite = Composite(lambda _, __, module: hooks.get(module))
        return _propagated(composite, model, x, target, torch.ones_like)


def _propagated(
    composite: Composite, model: nn.Module, x: Tensor, target: Tensor, start: Callable[[Tensor], Tensor]
) -> Tensor:
    """What arrives at the input when `start` of the score is sent back through a composite's hooks."""
    with torch.enable_grad(), composite.context(model):
        inputs = x.detach().clone().requires_grad_()
        score = model(inputs).gather(1, target.unsqueeze(1))
        return torch.autograd.grad(score, inputs, start(score))[0].detach()


@dataclass(frozen=True, kw_only=True)
class DeconvNet(_ReluGradient):
    """The gradient where every ReLU passes G_in = max(G_out, 0).

    Source: Zeiler and Fergus 2014, Section 2.1.
    """

    title: ClassVar[str] = "DeconvNet"
    rule: ClassVar[Callable[[], Hook]] = rules.ReLUDeconvNet


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(_ReluGradient):
    """The gradient where every ReLU passes G_in = max(G_out, 0) · [pre-activation > 0].

    Source: Springenberg et al. 2015, Section 3.4.
    """

    title: ClassVar[str] = "Guided Backprop"
    rule: ClassVar[Callable[[], Hook]] = rules.ReLUGuidedBackprop


class _Merge(MergeBatchNorm):  # type: ignore[misc]
    """zennit's merge of batch norms into weighted layers, for given pairs; takes ε out of the norms as well.

    zennit leaves it there, and each merged norm would scale by (1 + ε)^-½.
    """

    def __init__(self, pairs: Sequence[tuple[nn.Module, nn.Module]] = ()) -> None:
        super().__init__()
        self.pairs = pairs

    def apply(self, root_module: nn.Module) -> list[_Merge]:
        merges = [_Merge() for _ in self.pairs]
        for merge, (weighted, norm) in zip(merges, self.pairs, strict=True):
            merge.register((weighted,), norm)
        return merges

    def register(self, linears: tuple[nn.Module], batch_norm: Any) -> None:
        super().register(linears, batch_norm)
        self.epsilon, batch_norm.eps = batch_norm.eps, 0.0

    def remove(self) -> None:
        super().remove()
        self.batch_norm.eps = self.epsilon


@dataclass(frozen=True, kw_only=True)
class _LRP:
    """LRP by zennit's rules: max-pools pass relevance to the winner, average pools and sums divide it in proportion.

    Attributes:
        differs: why its maps differ from those of the same name in other backends; empty where they agree.
        stabilizer: added to every denominator with its sign, except where a rule has an ε of its own.
    """

    title: ClassVar[str]
    signed: ClassVar[bool] = True
    differs: ClassVar[str] = ""

    stabilizer: Positive = 1e-20

    def __post_init__(self) -> None:
        self.convolution_rule()  # refuses an alpha and a beta that do not fit

    def epsilon_rule(self, epsilon: float) -> Hook:
        """LRP-ε, LRP-0 for ε = 0."""
        return rules.Epsilon(epsilon or self.stabilizer)

    def convolution_rule(self) -> Hook:
        """The rule of convolutions."""
        raise AssertionError

    def dense_rule(self) -> Hook:
        """The rule of dense layers; that of convolutions unless a method says otherwise."""
        return self.convolution_rule()

    def pixel_rule(self, x: Tensor) -> Hook | None:
        """The rule of the layers that read pixels, where they have one of their own."""
        return None

    def table(self) -> tuple[tuple[type[Layer], Hook], ...]:
        """Layer kinds and their rules; a batch norm left by itself follows LRP-0 where dense layers count biases."""
        counted = isinstance(self.dense_rule(), (rules.Epsilon, rules.Gamma))
        return (
            (Convolution, self.convolution_rule()),
            (Dense, self.dense_rule()),
            (AveragePool, rules.Norm(self.stabilizer)),
            (BatchNorm, self.epsilon_rule(0) if counted else rules.Pass()),
            (Rectifier, rules.Pass()),
        )

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        network = Hookable(model, x, f"zennit's {self.title}")
        hooks, sums = self.hooks(network, x), rules.Norm(self.stabilizer)
        blocks = [ResNetBasicBlockCanonizer(), ResNetBottleneckCanonizer()]
        canonizers = [_Merge(mergeable(network)), *(blocks if additions_are_residual(network, model) else ())]
        composite = Composite(lambda _, __, module: sums if isinstance(module, Sum) else hooks.get(module), canonizers)
        return _propagated(composite, model, x, target, torch.Tensor.detach)

    def hooks(self, network: Hookable, x: Tensor) -> dict[nn.Module, Hook]:
        """The rule of every module that is not left to its gradient."""
        table, pixels = self.table(), self.pixel_rule(x)
        first, hooks = network.graph.first() if pixels else set(), {}
        settled = prepared(network.graph, x).layers
        for n in network.graph.carrying():
            layer = network.graph.layers[n]
            network.check_known(layer)
            rule = pixels if n in first else next((rule for kind, rule in table if isinstance(settled[n], kind)), None)
            if rule is not None:
                hooks[hooked(network, layer)] = rule
        return hooks


@dataclass(frozen=True, kw_only=True)
class LRPZero(_LRP):
    """LRP-0: the bias counts in the denominators.

    Source: Bach et al. 2015, Eq. 56.
    """

    title: ClassVar[str] = "LRP-0"

    def convolution_rule(self) -> Hook:
        return self.epsilon_rule(0)


@dataclass(frozen=True, kw_only=True)
class LRPEpsilon(_LRP):
    """LRP-ε.

    Source: Bach et al. 2015, Eq. 58.
    """

    title: ClassVar[str] = "LRP ε"

    epsilon: NonNegative = 1e-6

    def convolution_rule(self) -> Hook:
        return self.epsilon_rule(self.epsilon)


@dataclass(frozen=True, kw_only=True)
class LRPGamma(_LRP):
    """LRP-γ, the generalised rule: for outputs below 0 it boosts negative contributions instead.

    Source: Andéol et al. 2021; Montavon et al. 2019, Section 10.2.1, for inputs and outputs above 0.
    """

    title: ClassVar[str] = "LRP γ"

    gamma: NonNegative = 0.25

    def convolution_rule(self) -> Hook:
        return rules.Gamma(self.gamma, self.stabilizer)


@dataclass(frozen=True, kw_only=True)
class _AlphaBeta(_LRP):
    """The α-β rule in every weighted layer.

    Attributes:
        bias: 'none' leaves it out of the denominators; 'signed' adds its positive or negative part.
    """

    bias: Literal["none", "signed"] = "none"

    def rule(self, alpha: float, beta: float) -> Hook:
        """Zennit's rule."""
        return rules.AlphaBeta(alpha, beta, self.stabilizer, zero_params=_BIAS if self.bias == "none" else None)


@dataclass(frozen=True, kw_only=True)
class LRPAlphaBeta(_AlphaBeta):
    """LRP with the α-β rule at every convolution and dense layer.

    Source: Bach et al. 2015, Eq. 60.
    """

    title: ClassVar[str] = "LRP αβ"

    alpha: float = 2.0
    beta: float = 1.0

    def convolution_rule(self) -> Hook:
        return self.rule(self.alpha, self.beta)


@dataclass(frozen=True, kw_only=True)
class LRPAlpha1Beta0(_AlphaBeta):
    """LRP with α = 1, β = 0: only positive contributions receive relevance."""

    title: ClassVar[str] = "LRP α1β0"
    signed: ClassVar[bool] = False

    def convolution_rule(self) -> Hook:
        return self.rule(1, 0)


@dataclass(frozen=True, kw_only=True)
class LRPAlpha2Beta1(_AlphaBeta):
    """LRP with α = 2, β = 1."""

    title: ClassVar[str] = "LRP α2β1"

    def convolution_rule(self) -> Hook:
        return self.rule(2, 1)


@dataclass(frozen=True, kw_only=True)
class LRPZPlus(_LRP):
    """The z+ rule everywhere.

    Source: Montavon et al. 2017, Eq. 11.
    """

    title: ClassVar[str] = "LRP z+"
    signed: ClassVar[bool] = False

    def convolution_rule(self) -> Hook:
        return rules.ZPlus(self.stabilizer, zero_params=_BIAS)


@dataclass(frozen=True, kw_only=True)
class _Box(_LRP):
    """The z^β rule at pixels, with bounds in network-input units.

    Attributes:
        low: least value a pixel can have; each image's own minimum by default.
        high: greatest value a pixel can have; each image's own maximum by default.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        ZBeta(self.low, self.high)  # refuses bounds that do not fit

    def pixel_rule(self, x: Tensor) -> Hook | None:
        low = x.amin((1, 2, 3), keepdim=True).expand_as(x) if self.low is None else self.low
        high = x.amax((1, 2, 3), keepdim=True).expand_as(x) if self.high is None else self.high
        return rules.ZBox(low, high, self.stabilizer, zero_params=_BIAS)


@dataclass(frozen=True, kw_only=True)
class LRPZBeta(_Box, LRPZPlus):
    """The z+ rule in hidden layers and the z^β rule at pixels.

    Source: Montavon et al. 2017, Eq. 13.
    """

    title: ClassVar[str] = "LRP zβ"


@dataclass(frozen=True, kw_only=True)
class LRPWSquare(_LRP):
    """The w² rule everywhere.

    Source: Montavon et al. 2017, Eq. 12.
    """

    title: ClassVar[str] = "LRP w²"
    signed: ClassVar[bool] = False

    def convolution_rule(self) -> Hook:
        return rules.WSquare(self.stabilizer, zero_params=_BIAS)


@dataclass(frozen=True, kw_only=True)
class LRPFlat(_LRP):
    """The flat rule everywhere: relevance spreads over each receptive field.

    Source: Lapuschkin et al. 2017, Section 3.2.
    """

    title: ClassVar[str] = "LRP flat"
    signed: ClassVar[bool] = False

    def convolution_rule(self) -> Hook:
        return rules.Flat(self.stabilizer)


@dataclass(frozen=True, kw_only=True)
class LRPEpsilonPlus(_LRP):
    """The ε rule in dense layers, z+ in convolutions.

    Source: Kohlbrenner et al. 2020, Section III.
    """

    title: ClassVar[str] = "LRP ε z+"

    epsilon: NonNegative = 1e-6

    def convolution_rule(self) -> Hook:
        return rules.ZPlus(self.stabilizer, zero_params=_BIAS)

    def dense_rule(self) -> Hook:
        return self.epsilon_rule(self.epsilon)


@dataclass(frozen=True, kw_only=True)
class LRPEpsilonPlusFlat(LRPEpsilonPlus):
    """The ε rule in dense layers, z+ in convolutions, the flat rule at pixels.

    Source: Kohlbrenner et al. 2020, Section III.
    """

    title: ClassVar[str] = "LRP ε z+ flat"

    def pixel_rule(self, x: Tensor) -> Hook | None:
        return rules.Flat(self.stabilizer)


@dataclass(frozen=True, kw_only=True)
class LRPEpsilonGammaBox(_Box, LRPGamma):
    """The ε rule in dense layers, γ in convolutions, z^β at pixels.

    Source: Montavon et al. 2019, Section 10.3.
    """

    title: ClassVar[str] = "LRP ε γ box"

    epsilon: NonNegative = 1e-6

    def dense_rule(self) -> Hook:
        return self.epsilon_rule(self.epsilon)

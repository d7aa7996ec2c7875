"""One class a rule, one equation each.

z_ij = x_i w_ij is the contribution of input i to output j; z+ and z- are its positive and negative parts, whatever the
sign of x. A quotient with denominator 0 is 0 by definition.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from rapbench.relprop.graph import Node
from rapbench.relprop.layers import Contraction, Convolution, Weighted

Bias = Literal["none", "signed", "innvestigate"]
OneSided = Literal["equation", "whole"]
Zeros = Literal["drop", "share"]


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """The quotient a / b, and 0 where b is exactly 0."""
    return (a / b).masked_fill_(b == 0, 0)


class Parts:
    """The contributions of one sign, z+ or z-, of a weighted layer: pairs (x, W) whose products have that sign."""

    def __init__(self, node: Node, sign: Literal[1, -1]) -> None:
        assert isinstance(node.layer, Weighted)
        self.layer = node.layer
        x, weight = node.inputs[0], node.layer.weight
        alike = weight.clamp(min=0) if sign > 0 else weight.clamp(max=0)
        self.pairs = [(x, alike)] if node.nonnegative else [(x.clamp(min=0), alike), (x.clamp(max=0), weight - alike)]

    def total(self) -> Tensor:
        """Σ_i z_ij, of the shape of the output."""
        result, *rest = (self.layer.product(x, weight) for x, weight in self.pairs)
        for term in rest:
            result += term
        return result

    def spread(self, s: Tensor) -> Tensor:
        """Σ_j z_ij s_j, of the shape of the input."""
        result, *rest = (self.layer.adjoint(s, weight, x).mul_(x) for x, weight in self.pairs)
        for term in rest:
            result += term
        return result


def negative_total(node: Node, positive_total: Tensor) -> Tensor:
    """Σ_i z-_ij as what is left of the output without bias and positive contributions: one convolution less."""
    assert isinstance(node.layer, Weighted)
    rest = node.output - positive_total
    rest -= node.layer.bias_like(rest)
    return rest.clamp_(max=0)


@dataclass(frozen=True)
class Pass:
    """R_i = R_j: layers that act on each value alone; what has become several values gets the sum of theirs."""

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        return (relevance.sum_to_size(node.inputs[0].shape),)


@dataclass(frozen=True)
class Halve:
    """R_i = R_j / 2 for either factor of a product.

    Source: Achtibat et al. 2024, the uniform rule.
    """

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        return tuple((relevance / 2).sum_to_size(x.shape) for x in node.inputs)


@dataclass(frozen=True)
class Route:
    """Relevance goes where the value came from: the winner of a max-pool, the source of a rearranged value."""

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        return node.backward(relevance)


@dataclass(frozen=True)
class Proportional:
    """R_i = Σ_j x_i J_ij R_j / y_j with y = Jx: in proportion to what each input gave, with its sign.

    Where y_j is exactly 0, `zeros` 'drop' loses R_j, and 'share' hands it on as if all inputs were equal.
    """

    zeros: Zeros = "drop"

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        back = node.backward(ratio(relevance, node.output))
        given = tuple(x * b for x, b in zip(node.inputs, back, strict=True))
        left = relevance * (node.output == 0)
        if self.zeros == "drop" or not left.any():
            return given
        equal = node.layer.function(*(torch.ones_like(x) for x in node.inputs), *node.sizes)
        return tuple(some + more for some, more in zip(given, node.backward(ratio(left, equal)), strict=True))


@dataclass(frozen=True)
class Uniform:
    """R_i = Σ_j x_i J_ij R_j / y_j / n, the proportional rule for each of a product's n factors with the others held.

    Attention held constant leaves n = 1.

    Source: Achtibat et al. 2024, Proposition 3.3, without its ε.
    """

    zeros: Zeros = "drop"

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        return tuple(part / len(node.inputs) for part in Proportional(self.zeros)(node, relevance))


@dataclass(frozen=True)
class Balanced:
    """R_i = r_i · sign S_i · ΣR / Σ_k |S_k| with r_i = x_i R / y and S_i = Σ r_i per image: sums that cannot explode.

    Source: Chefer et al. 2021 (CVPR), the normalisation of Section 3.2, which their code applies to additions.
    Departs: sums are per image; that code takes them over a batch, and is used with batches of one.
    """

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        parts = Proportional()(node, relevance)
        sums = [part.flatten(1).sum(1).view(-1, *[1] * (part.dim() - 1)) for part in parts]
        total = relevance.flatten(1).sum(1).view(sums[0].shape)
        scale = ratio(total, torch.stack(sums).abs().sum(0))
        return tuple(part * s.sign() * scale for part, s in zip(parts, sums, strict=True))


@dataclass(frozen=True)
class Taylor:
    """R_i = x_i (R_i - s_i Σ_j R_j): softmax s of x, its bias taking what is left.

    Masked scores, whose share is 0, get nothing.

    Source: Achtibat et al. 2024, Proposition 3.1.
    """

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        back = node.backward(ratio(relevance, node.output))[0]
        return (torch.where(node.output == 0, 0, node.inputs[0] * back),)


@dataclass(frozen=True)
class Epsilon:
    """R_i = Σ_j z_ij / (z_j + ε sign z_j) R_j with z_j = Σ_i z_ij + b_j and sign 0 = 1; ε = 0 is LRP-0.

    Source: Bach et al. 2015, Eq. 56 and 58.
    """

    epsilon: float = 0.0

    def __post_init__(self) -> None:
        if self.epsilon < 0:
            raise ValueError("epsilon must not be negative")

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        return (node.inputs[0] * node.backward(ratio(relevance, self.stabilised(node.output)))[0],)

    def stabilised(self, z: Tensor) -> Tensor:
        """Z moved away from 0 by ε."""
        return torch.where(z >= 0, z + self.epsilon, z - self.epsilon) if self.epsilon else z


@dataclass(frozen=True)
class Gamma:
    """R_i = Σ_j (z_ij + γ z*_ij) / Σ_i (z_ij + γ z*_ij) R_j, where z* are the contributions of the output's own sign.

    The bias is one more contribution to the denominator, which therefore never cancels.

    Source: Montavon et al. 2019, Section 10.2.1, for outputs above 0; Andéol et al. 2021 for the others.
    """

    gamma: float = 0.25

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise ValueError("gamma must not be negative")

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(node.layer, Weighted)
        layer, x, y = node.layer, node.inputs[0], node.output
        if not self.gamma:
            return Epsilon()(node, relevance)
        size, magnitude, sign = layer.weight.abs(), x.abs(), torch.where(y >= 0, 1, -1).to(y.dtype)
        bias = torch.as_tensor(layer.bias_like(y)).to(y)
        own = (y + sign * (layer.product(magnitude, size) + bias.abs())) / 2  # Σ z* = Σ (z + sign y · |z|) / 2
        s = ratio(relevance, y + self.gamma * own)
        through = layer.adjoint(s, layer.weight, x).mul_(x).mul_(1 + self.gamma / 2)
        return (through.add_(layer.adjoint(sign.mul_(s), size, x).mul_(magnitude), alpha=self.gamma / 2),)


@dataclass(frozen=True)
class WSquare:
    """R_i = Σ_j w²_ij / Σ_i w²_ij R_j: the input takes no part, and padding gets nothing.

    Source: Montavon et al. 2017, Eq. 12.
    """

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(node.layer, Weighted)
        return (_by_weight(node, relevance, node.layer.weight**2),)


@dataclass(frozen=True)
class Flat:
    """R_i = Σ_j R_j / (number of inputs that j reads): every input counts alike, and padding gets nothing.

    Source: Lapuschkin et al. 2017, Section 3.2.
    """

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        layer, x = node.layer, node.inputs[0]
        if isinstance(layer, Contraction):
            return (_by_weight(node, relevance, torch.ones_like(layer.weight)),)
        if not isinstance(layer, Convolution):
            return ((relevance.sum(-1, keepdim=True) / x.shape[-1]).expand_as(x),)
        # the inputs of a group get the same: one stands for all of them
        one = replace(layer, weight=layer.weight.new_ones(layer.groups, 1, *layer.weight.shape[2:]))
        summed = relevance.reshape(len(x), layer.groups, -1, *relevance.shape[2:]).sum(2)
        spread = _by_weight(replace(node, layer=one, inputs=(x[:, : layer.groups],)), summed, one.weight)
        each = x.shape[1] // layer.groups
        return ((spread / each).repeat_interleave(each, 1),)


def _by_weight(node: Node, relevance: Tensor, weight: Tensor) -> Tensor:
    assert isinstance(node.layer, Weighted)
    x = node.inputs[0]
    total = node.layer.product(torch.ones_like(x[:1]), weight)
    return node.layer.adjoint(ratio(relevance, total.expand_as(relevance)), weight, x)


@dataclass(frozen=True)
class AlphaBeta:
    """R_i = Σ_j (α z+_ij / (Σ z+ + b+) - β z-_ij / (Σ z- + b-)) R_j.

    `bias`: 'none' leaves it out of the denominators, which conserves relevance; 'signed' adds its positive or negative
    part; 'innvestigate' adds the whole bias to both denominators, as that library does.

    Where all contributions to a unit have one sign, the `one_sided` 'equation' hands on α or -β of its relevance, and
    nothing where there are none. 'whole' hands on all of it: along the one sign, or evenly to what the unit reads.

    Source: Bach et al. 2015, Eq. 60.
    Departs: under 'whole', from the equation's literal reading, under which the sum is not kept as their Eq. 2 wants.
    """

    alpha: float
    beta: float
    bias: Bias = "none"
    one_sided: OneSided = "equation"

    def __post_init__(self) -> None:
        if self.alpha < 1 or self.beta < 0 or self.alpha - self.beta != 1:
            raise ValueError("alpha must be at least 1 and alpha - beta must be 1")

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        if self.one_sided == "whole":
            return (self._whole(node, relevance),)
        positive = Parts(node, 1)
        p = positive.total()
        result = positive.spread(ratio(relevance, self._denominator(p, node, 1)).mul_(self.alpha))
        if self.beta:
            n = negative_total(node, p)
            del positive, p  # the weights of one sign at a time
            result -= Parts(node, -1).spread(ratio(relevance, self._denominator(n, node, -1)).mul_(self.beta))
        return (result,)

    def _whole(self, node: Node, relevance: Tensor) -> Tensor:
        positive, negative = Parts(node, 1), Parts(node, -1)
        p, n = positive.total(), negative.total()
        up = torch.where(n == 0, relevance, self.alpha * relevance)
        down = torch.where(p == 0, -relevance, self.beta * relevance)
        result = positive.spread(ratio(up, self._denominator(p, node, 1)))
        result -= negative.spread(ratio(down, self._denominator(n, node, -1)))
        silent = (p == 0) & (n == 0)
        return result + Flat()(node, relevance * silent)[0] if silent.any() else result

    def _denominator(self, total: Tensor, node: Node, sign: int) -> Tensor:
        assert isinstance(node.layer, Weighted)
        bias = node.layer.bias_like(total)
        if self.bias == "none" or isinstance(bias, float):
            return total
        if self.bias == "signed":
            bias = bias.clamp(min=0) if sign > 0 else bias.clamp(max=0)
        return total + bias


@dataclass(frozen=True)
class ZBeta:
    """R_i = Σ_j (x_i w_ij - l w+_ij - h w-_ij) / (Σ_i ...) R_j for inputs in [l, h].

    `low` and `high` are in network-input units; None takes each image's own minimum and maximum. Zero padding enters as
    zeros of x, l and h alike.

    Source: Montavon et al. 2017, Eq. 13.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must be less than high")

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        layer, x = node.layer, node.inputs[0]
        assert isinstance(layer, Weighted)
        dims = tuple(range(1, x.dim()))
        low = x.amin(dims, keepdim=True) if self.low is None else x.new_full((), self.low)
        high = x.amax(dims, keepdim=True) if self.high is None else x.new_full((), self.high)
        # x w - l w⁺ - h w⁻ = (x - l) w⁺ + (x - h) w⁻, and padding is 0 in both differences
        (above, positive), (below, negative) = (
            (x - low, layer.weight.clamp(min=0)),
            (x - high, layer.weight.clamp(max=0)),
        )
        s = ratio(relevance, layer.product(above, positive).add_(layer.product(below, negative)))
        return (above.mul_(layer.adjoint(s, positive, x)).add_(below.mul_(layer.adjoint(s, negative, x))),)

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
from rapbench.relprop.layers import Convolution, Layer, Weighted

Bias = Literal["none", "signed", "innvestigate"]
OneSided = Literal["equation", "whole"]
Routing = Literal["official", "paper"]


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

    zeros: Literal["drop", "share"] = "drop"

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        back = node.backward(ratio(relevance, node.output))
        given = tuple(x * b for x, b in zip(node.inputs, back, strict=True))
        left = relevance * (node.output == 0)
        if self.zeros == "drop" or not left.any():
            return given
        equal = node.layer.function(*(torch.ones_like(x) for x in node.inputs), *node.sizes)
        return tuple(some + more for some, more in zip(given, node.backward(ratio(left, equal)), strict=True))


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
        y, above = node.output, node.output >= 0
        positive = Parts(node, 1)
        p = positive.total()
        own = torch.where(above, p, negative_total(node, p))
        bias = torch.as_tensor(node.layer.bias_like(y)).to(y)
        own += torch.where(above, bias.clamp(min=0), bias.clamp(max=0))
        s = ratio(relevance, y + self.gamma * own)
        boosted = positive.spread(s * above)
        if not above.all():
            boosted += Parts(node, -1).spread(s * ~above)
        return (node.inputs[0] * node.backward(s)[0] + self.gamma * boosted,)


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


@dataclass(frozen=True)
class RAPFirst:
    """r_i = Σ_j z_ij R_j / Σ_i z_ij, then R_i = |r_i| · Σr / Σ|r| per image: all units start with the logit's sign.

    Source: Nam et al. 2020, Eq. 5 and 6.
    """

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        layer, x = node.layer, node.inputs[0]
        assert isinstance(layer, Weighted)
        r = x * node.backward(ratio(relevance, layer.product(x, layer.weight)))[0]
        magnitude = r.abs()
        scale = ratio(_per_image(r), _per_image(magnitude))
        return (magnitude * scale.view(-1, *[1] * (r.dim() - 1)).to(r.dtype),)


@dataclass(frozen=True)
class RAPHidden:
    """Positive relevance follows z+, each unit's influence also follows z- as a negative share, uniformly re-centred.

    With P = Σ z+, N = Σ |z-|, T = P + N:
    C = Σ_j z+_ij A_j + |z-_ij| B_j, and R_in = C - (ΣC - ΣR) / n over the n entries with C != 0 of the image.
    Routing 'paper' sends relevance of either sign along z+: A = R/P, B = R/T. Routing 'official', that of the published
    code's convolutions, sends the negative part along z-: A = max(R, 0)/P, B = min(R, 0)/N + R/T.
    Pointwise 'proportional' divides the relevance of 1x1 convolutions by |z_ij| instead, as a later code of two of the
    authors does.

    Source: Nam et al. 2020, Eq. 7-9.
    Departs: contributions are split by their own sign, so that signed inputs keep the total; the published code
        doubles it. Γ of Eq. 8 counts C != 0, units that are active and reached by relevance, as the published code
        does; taken literally, m != 0, and with the sum of the negative part for what is shifted, Eq. 8 does not keep
        the sum on residual networks, where P or N of a unit that holds relevance can be 0.
    """

    routing: Routing = "official"
    pointwise: Literal["rap", "proportional"] = "rap"

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        positive = Parts(node, 1)
        p = positive.total()
        n = negative_total(node, p)
        a, b = relevance, ratio(relevance, p - n)
        if self.pointwise == "proportional" and _is_pointwise(node.layer):
            return (positive.spread(b).sub_(Parts(node, -1).spread(b)),)
        if self.routing == "official" and isinstance(node.layer, Convolution):
            a = relevance.clamp(min=0)
            b -= ratio(relevance.clamp(max=0), n)
        c = positive.spread(ratio(a, p))
        del positive, p, n  # the weights of one sign at a time
        return (_recentred(c.sub_(Parts(node, -1).spread(b)), relevance),)


def _is_pointwise(layer: Layer) -> bool:
    return isinstance(layer, Convolution) and all(size == 1 for size in layer.weight.shape[2:])


def _recentred(c: Tensor, relevance: Tensor) -> Tensor:
    """`c` shifted uniformly, per image and where it is not 0, so that it sums to the sum of `relevance`."""
    reached = (c != 0).to(c.dtype)
    excess = _per_image(c) - _per_image(relevance)
    shift = ratio(excess, _per_image(reached))
    return c.sub_(reached.mul_(shift.view(-1, *[1] * (c.dim() - 1)).to(c.dtype)))


def _per_image(values: Tensor) -> Tensor:
    """Sum over everything but the images, (N,) float64; over channels in the values' own type, for speed."""
    return values.sum(1).double().flatten(1).sum(1) if values.dim() > 2 else values.sum(1, dtype=torch.float64)


@dataclass(frozen=True)
class PassNonzero:
    """R_i = R_j where x_i is not exactly 0: what the published RAP code's batch norm comes to.

    Source: the published code of Nam et al. 2020; the paper does not treat batch norm.
    """

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        return (torch.where(node.inputs[0] == 0, 0, relevance),)

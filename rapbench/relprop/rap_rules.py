"""The rules of Relative Attributing Propagation, one equation each; notation as in `rules`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rapbench.relprop.graph import Node
from rapbench.relprop.layers import Convolution, Layer, Weighted
from rapbench.relprop.rules import Parts, negative_total, ratio

Routing = Literal["official", "paper"]


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

"""DeepLIFT: differences from a reference instead of derivatives.

A multiplier m of a value tells how much the explained logit changes per unit of the value's difference Δ from the
reference. Under RevealCancel the positive part Δ⁺ and the negative part Δ⁻ of Δ have multipliers of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rapbench.core.errors import BadConfig
from rapbench.core.files import File
from rapbench.methods.reference import Reference
from rapbench.relprop.composites import refusal
from rapbench.relprop.graph import Graph, Node
from rapbench.relprop.idle import prepared
from rapbench.relprop.layers import (
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    Concatenate,
    Convolution,
    Dense,
    Identity,
    Input,
    Layer,
    MaxPool,
    Product,
    Rearrange,
    Rectifier,
    Weighted,
)

_NEAR_ZERO = 1e-7
"""A smaller difference of inputs is taken for none: the derivative stands for the quotient."""
_ROUNDING = 16
"""A part of a sum below this many units in the last place of the sum of magnitudes is rounding, and raised to it."""
_ADDITIVE = (Identity, Rearrange, AveragePool, Add, Concatenate)
"""Layers through which positive and negative parts pass by the layer's own function."""


class Pair(NamedTuple):
    """One tensor for the positive and one for the negative part of a difference; the same one where they are equal."""

    positive: Tensor
    negative: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> Pair:
        """The function of both."""
        positive = function(self.positive)
        return Pair(positive, positive if self.negative is self.positive else function(self.negative))

    def plus(self, other: Pair) -> Pair:
        """The sum, part by part."""
        positive = self.positive + other.positive
        same = self.negative is self.positive and other.negative is other.positive
        return Pair(positive, positive if same else self.negative + other.negative)


class _Differences:
    """Values of a batch whose last row is the reference, and the rules that follow from their differences.

    Every tensor keeps the row of the reference, whose differences are 0, so that layers that depend on the number of
    rows run as they did.

    Args:
        graph: the network.
        x: (N + 1, C, H, W).
        revealed: kinds of weighted layer behind which rectifiers follow RevealCancel, not Rescale.
    """

    def __init__(self, graph: Graph, x: Tensor, revealed: tuple[type[Weighted], ...]) -> None:
        self.graph = graph
        self.values = graph.values(x, drop=Rectifier)
        self.revealing = _behind(graph, revealed)
        self._parts: dict[int, Pair] = {}
        self._halves: dict[int, Tensor] = {}

    def multipliers(self, start: Callable[[Tensor], Tensor]) -> Pair:
        """Multipliers of the input for those of the logits that `start` makes of them. Source: Eq. 3."""
        seed = start(self.values[self.graph.output])
        found = {self.graph.output: Pair(seed, seed)}
        for n in reversed(self.graph.carrying()):
            layer, m = self.graph.layers[n], found.pop(n)
            for i, part in zip(layer.inputs, self._backward(n, layer, m), strict=True):
                found[i] = found[i].plus(part) if i in found else part
            self.values[n] = None
            self._parts.pop(n, None)
            self._halves.pop(n, None)
        return found[0]

    def value(self, n: int) -> Tensor:
        """A value, computed again where it was dropped."""
        if self.values[n] is None:
            layer = self.graph.layers[n]
            self.values[n] = layer.function(self.value(layer.inputs[0]))
        return self.values[n]  # type: ignore[no-any-return]

    def half(self, n: int, layer: Weighted) -> Tensor:
        """|W| / 2 of a layer, remembered until the walk has passed it."""
        if n not in self._halves:
            self._halves[n] = layer.weight.abs() / 2
        return self._halves[n]

    def change(self, n: int) -> Tensor:
        """Δ of a value."""
        value = self.value(n)
        return value - value[-1:]

    def parts(self, n: int) -> Pair:
        """Δ⁺ and Δ⁻ of a value, remembered until the walk has passed it."""
        if n not in self._parts:
            self._parts[n] = self._forward(n, self.graph.layers[n])
        return self._parts[n]

    def _forward(self, n: int, layer: Layer) -> Pair:
        if isinstance(layer, Input):
            change = self.change(n)
            return Pair(change.clamp(min=0), change.clamp(max=0))
        if isinstance(layer, Weighted):
            half = layer.product(self.change(layer.inputs[0]).abs_(), self.half(n, layer))
            return _linear_parts(self.change(n), half)
        if isinstance(layer, Rectifier):
            return self._rectified_parts(n, layer)
        if isinstance(layer, MaxPool):
            return self._pooled(layer, self._function(layer), self.value(n))
        sources = [self.parts(i) for i in layer.inputs]
        if isinstance(layer, BatchNorm | Affine):
            return self._scaled(n, layer, sources[0])
        sizes = [self.values[i] for i in layer.sizes]
        return Pair(*(layer.function(*some, *sizes) for some in zip(*sources, strict=True)))

    def _backward(self, n: int, layer: Layer, m: Pair) -> list[Pair]:
        if isinstance(layer, Weighted):
            return [self._linear_multipliers(n, layer, m)]
        if isinstance(layer, Rectifier | Activation):
            return [self._rectified(n, layer, m)]
        if isinstance(layer, BatchNorm | Affine):
            return [self._scaled(n, layer, m)]
        if isinstance(layer, Product):
            return self._shared(layer, m)
        if isinstance(layer, MaxPool):
            x, y = self.value(layer.inputs[0]), self.value(n)
            return [m.map(lambda part: _unpooled(self._function(layer), x, y, part))]
        assert isinstance(layer, _ADDITIVE)
        node = self._node(n, layer)
        positive = node.backward(m.positive)
        negative = positive if m.negative is m.positive else node.backward(m.negative)
        return [Pair(*both) for both in zip(positive, negative, strict=True)]

    def _linear_multipliers(self, n: int, layer: Weighted, m: Pair) -> Pair:
        """Linear rule: w m⁺ where w Δx > 0, w m⁻ where w Δx < 0, half of each where Δx = 0.

        Of w = (w + |w|) / 2 + (w - |w|) / 2 follows that two products with the transposed weight are enough.

        Source: Section 3.5.1.
        """
        x = self.value(layer.inputs[0])
        if m.negative is m.positive:
            total = layer.adjoint(m.positive, layer.weight, x)
        else:
            total = layer.adjoint((m.positive + m.negative).mul_(0.5), layer.weight, x)
            half = layer.adjoint(m.positive - m.negative, self.half(n, layer), x)
            total.addcmul_(self.change(layer.inputs[0]).sign_(), half)
        return Pair(total, total)

    def _node(self, n: int, layer: Layer) -> Node:
        inputs, sizes = tuple(self.value(i) for i in layer.inputs), tuple(self.values[i] for i in layer.sizes)
        return Node(layer, inputs, self.value(n), sizes, nonnegative=False)

    def _scaled(self, n: int, layer: BatchNorm | Affine, pair: Pair) -> Pair:
        """Parts or multipliers through y = scale · x + shift: a negative scale swaps the signs."""
        (scale,) = self._node(n, layer).backward(torch.ones_like(self.value(n)))
        scaled = pair.map(scale.mul)
        if pair.negative is pair.positive:
            return scaled
        return Pair(*(torch.where(scale > 0, *both) for both in (scaled, scaled[::-1])))

    def _shared(self, layer: Product, m: Pair) -> list[Pair]:
        """Of Δ(ab) = Δa · (b + b0) / 2 + Δb · (a + a0) / 2. Source: Shrikumar et al. 2016, element-wise products."""
        a, b = (self.value(i) for i in layer.inputs)
        return [m.map(_times((v + v[-1:]) / 2, x.shape)) for x, v in ((a, b), (b, a))]

    def _slope(self, n: int, layer: Layer) -> Tensor:
        """Rescale: Δy / Δx, or the derivative where Δx is near 0. Source: Section 3.5.2."""
        x, y, dx = self.value(layer.inputs[0]), self.value(n), self.change(layer.inputs[0])
        slope = self.change(n).div_(dx)
        if isinstance(layer, Rectifier):
            derivative = (y == x).logical_and_(y).to(slope.dtype)
        else:
            (derivative,) = self._node(n, layer).backward(torch.ones_like(y))
        return torch.where(dx.abs_() < _NEAR_ZERO, derivative, slope)

    def _rectified_parts(self, n: int, layer: Layer) -> Pair:
        """Rescale scales both parts alike. RevealCancel: the mean of what a part adds alone and after the other.

        Source: Section 3.5.3.
        """
        p, q = self.parts(layer.inputs[0])
        if n not in self.revealing:
            return Pair(p, q).map(self._slope(n, layer).mul)
        x0, dy = self.value(layer.inputs[0])[-1:], self.change(n)
        alone = layer.function(x0 + p).sub_(layer.function(x0 + q))
        return Pair((dy + alone).mul_(0.5), dy.sub_(alone).mul_(0.5))

    def _rectified(self, n: int, layer: Layer, m: Pair) -> Pair:
        if n not in self.revealing:
            return m.map(self._slope(n, layer).mul)
        slopes = zip(self.parts(n), self.parts(layer.inputs[0]), strict=True)
        return Pair(*(_share(dy, dx).mul_(part) for part, (dy, dx) in zip(m, slopes, strict=True)))

    def _function(self, layer: Layer) -> Callable[[Tensor], Tensor]:
        """A layer's function of its one tensor, the shapes it needs besides put in."""
        sizes = [self.values[i] for i in layer.sizes]
        return lambda x: layer.function(x, *sizes)

    def _pooled(self, layer: Layer, function: Callable[[Tensor], Tensor], y: Tensor) -> Pair:
        """Parts of a maximum: those of the winners, scaled like the winners' own differences in `_unpooled`."""
        x = self.value(layer.inputs[0])
        x0, y0, ranked = x[-1:].expand_as(x), y[-1:], _ranked(x[-1:]).expand_as(x)
        greater = torch.maximum(y, y0)
        gained, lost = y - _picked(function, x, x0), _picked(function, ranked, x - x0)
        gain = torch.where(gained.abs() < _NEAR_ZERO, 1, (greater - y0) / gained)
        loss = torch.where(lost.abs() < _NEAR_ZERO, 0, (y - greater) / lost)
        return self.parts(layer.inputs[0]).map(
            lambda part: gain * _picked(function, x, part) + loss * _picked(function, ranked, part)
        )


def _behind(graph: Graph, kinds: tuple[type[Weighted], ...]) -> set[int]:
    """Rectifiers whose nearest weighted layers, back along every path, are all of these kinds."""
    nearest: list[frozenset[type[Layer]]] = []
    for layer in graph.layers:
        before = frozenset[type[Layer]]().union(*(nearest[i] for i in layer.inputs))
        nearest.append(frozenset({type(layer)}) if isinstance(layer, Weighted) else before)
    rectifiers = (n for n, layer in enumerate(graph.layers) if isinstance(layer, Rectifier))
    return {n for n in rectifiers if nearest[n] and nearest[n] <= frozenset(kinds)}


def _linear_parts(dy: Tensor, half: Tensor) -> Pair:
    """Linear rule: Δy⁺ = Σ [w Δx > 0] w Δx and Δy⁻ alike, from Δy and Σ |w Δx| / 2. Source: Section 3.5.1."""
    positive = torch.add(half, dy, alpha=0.5)
    negative = torch.sub(positive, half, alpha=2)
    rounding = half.mul_(_ROUNDING * torch.finfo(dy.dtype).eps)
    return Pair(torch.maximum(positive, rounding, out=positive), torch.minimum(negative, rounding.neg_(), out=negative))


def _times(factor: Tensor, shape: torch.Size) -> Callable[[Tensor], Tensor]:
    """The product with a factor, summed to the shape of what was broadcast."""
    return lambda m: (m * factor).sum_to_size(shape)


def _share(dy: Tensor, dx: Tensor) -> Tensor:
    """Δy / Δx of parts of a sign; a rectifier's slopes lie in [0, 1]. It is 0 where Δy is 0; writes into Δy."""
    tiny = torch.finfo(dx.dtype).tiny
    return dy.abs_().div_(dx.abs().clamp_(min=tiny)).clamp_(max=1)


def _unpooled(function: Callable[..., Tensor], x: Tensor, y: Tensor, m: Tensor) -> Tensor:
    """Multipliers through a maximum: what images add goes to their winner, what the reference loses to its own."""
    x0, y0 = x[-1:].expand_as(x), y[-1:]
    greater = torch.maximum(y, y0)
    passed, contribution = _routed(function, x, m, m * (greater - y0))
    contribution += _routed(function, _ranked(x[-1:]).expand_as(x), m * (y - greater))[0]
    dx = x - x0
    return torch.where(dx.abs() < _NEAR_ZERO, passed, contribution.div_(dx))


def _ranked(x0: Tensor) -> Tensor:
    """Values (1, C, ...) of the reference by which it has winners: differences from a channel's median in 2^14 steps.

    A reference of one colour gives maps that are constant but for rounding. By that, any value of a window could be its
    winner, and another on another device; so the first is.
    """
    flat = x0.flatten(2)
    middle, greatest = flat.median(2, keepdim=True)[0], flat.abs().amax(2, keepdim=True)
    steps = ((flat - middle) / greatest.clamp(min=torch.finfo(x0.dtype).tiny) * 2**14).round()
    return steps.view_as(x0)


def _routed(function: Callable[..., Tensor], x: Tensor, *rows: Tensor) -> list[Tensor]:
    """Each of `rows` sent back to the winners of a max-pool of `x`."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
    return [torch.autograd.grad(y, x, r, retain_graph=True)[0] for r in rows]


def _picked(function: Callable[..., Tensor], x: Tensor, values: Tensor) -> Tensor:
    """`values` at the winners of a max-pool of `x`: the transpose of `_routed`."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
        r = torch.zeros_like(y, requires_grad=True)
        (routed,) = torch.autograd.grad(y, x, r, create_graph=True)
        return torch.autograd.grad(routed, r, values)[0]


def _check(graph: Graph, method: str, *, revealing: bool) -> None:
    """RevealCancel tells positive parts from negative ones, which its formulas here do for these very kinds alone."""
    kinds = (*_ADDITIVE, Convolution, Dense, Rectifier, BatchNorm, Affine, MaxPool)
    for n in graph.carrying():
        layer = graph.layers[n]
        if not (type(layer) in kinds if revealing else isinstance(layer, (*kinds, Activation, Product))):
            raise refusal(layer, method)


@dataclass(frozen=True, kw_only=True)
class _DeepLift:
    """(x - x0) · m, where multipliers m chain like gradients.

    Any network of convolutions, dense layers, rectifiers, batch norms, constant scales and shifts, pools, additions and
    concatenations is covered; Rescale alone covers other activations, differences and products too. Of a maximum, what
    the image adds goes to its own winner and what the reference loses to the reference's.

    Attributes:
        reference: value of every element of x0, in network-input units, or a .npy or .npz file of an array (C, H, W).
        softmax_adjustment: subtract the mean of the contributions to all classes (Eq. 5).
        reference_digest: always empty; keys of stored rows count it in, and stay what they are.
    """

    title: ClassVar[str]
    signed: ClassVar[bool] = True
    revealed: ClassVar[tuple[type[Weighted], ...]]

    reference: float | File[Reference] = 0.0
    softmax_adjustment: bool = False
    reference_digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        if not isinstance(self.reference, File):
            object.__setattr__(self, "reference", float(self.reference))

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        graph = prepared(model, x)
        _check(graph, self.title, revealing=bool(self.revealed))
        rows = torch.cat([x, self._reference(x)])
        m = _Differences(graph, rows, self.revealed).multipliers(lambda logits: self._start(logits, target))
        change = (rows - rows[-1:])[:-1]
        return change.clamp(min=0) * m.positive[:-1] + change.clamp(max=0) * m.negative[:-1]

    def total(self, logits: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
        """What the contributions sum to, (N,): the change of the logit from the reference. Source: Eq. 1."""
        change = logits(x) - logits(self._reference(x))
        if self.softmax_adjustment:
            change = change - change.mean(1, keepdim=True)
        return change.gather(1, target.unsqueeze(1)).squeeze(1)

    def _start(self, logits: Tensor, target: Tensor) -> Tensor:
        """Multipliers of the logits: 1 at the target, less the mean over classes if wanted; 0 for the reference."""
        start = torch.zeros_like(logits)
        if self.softmax_adjustment:
            start[:-1] -= 1 / logits.shape[1]
        start[torch.arange(len(target)), target] += 1
        return start

    def _reference(self, x: Tensor) -> Tensor:
        """x0 as one row (1, C, H, W)."""
        if not isinstance(self.reference, File):
            return torch.full_like(x[:1], self.reference)
        array = self.reference.read().array
        if array.shape != x.shape[1:]:
            raise BadConfig(f"reference {self.reference} has shape {array.shape}, the input {tuple(x.shape[1:])}")
        return torch.from_numpy(array).to(x).unsqueeze(0)


@dataclass(frozen=True, kw_only=True)
class DeepLiftRescale(_DeepLift):
    """(x - x0) · m, where a rectifier's multiplier is Δy / Δx.

    Source: Shrikumar et al. 2017, Sections 3.3 and 3.5.2.
    """

    title: ClassVar[str] = "DeepLIFT (Rescale)"
    revealed: ClassVar[tuple[type[Weighted], ...]] = ()


@dataclass(frozen=True, kw_only=True)
class DeepLiftRevealCancel(_DeepLift):
    """(x - x0) · m, where a rectifier's multipliers are Δy⁺ / Δx⁺ and Δy⁻ / Δx⁻.

    Source: Shrikumar et al. 2017, Section 3.5.3.
    Departs: a part is never smaller than the rounding of the sum it belongs to, so that no quotient is noise; the
        published code adds 1e-7 to parts below 5e-8.
    """

    title: ClassVar[str] = "DeepLIFT (RevealCancel)"
    revealed: ClassVar[tuple[type[Weighted], ...]] = (Convolution, Dense)


@dataclass(frozen=True, kw_only=True)
class DeepLift(_DeepLift):
    """Rescale behind convolutions, RevealCancel behind dense layers: the default of the authors' library.

    Source: Shrikumar et al. 2017, Section 3.5, and its published code.
    Departs: of a maximum, both the image's winner and the reference's get a share, as everywhere in this file. That
        library's default sends a max-pool's whole multiplier to the image's winner: contributions of networks with
        max-pools are others there, and do not sum to the change of the logit.
    """

    title: ClassVar[str] = "DeepLIFT"
    revealed: ClassVar[tuple[type[Weighted], ...]] = (Dense,)

"""The traced network, and what a rule sees of a layer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rapbench.relprop.layers import (
    Add,
    Attended,
    AveragePool,
    BatchNorm,
    Concatenate,
    Convolution,
    Dense,
    Gated,
    Identity,
    Input,
    Layer,
    MaxPool,
    Rearrange,
    Rectifier,
    Size,
    Weighted,
)
from rapbench.relprop.tracing.replay import Replay

_TENSORS = ("weight", "bias", "running_mean", "running_var")
"""Attributes of weighted layers and batch norms that decide what they compute."""
_KEEPS_SIGN = (Identity, Rearrange, MaxPool, AveragePool, Add, Concatenate)


@dataclass(frozen=True, eq=False)
class Node:
    """A layer together with the values it saw in the forward pass: what a rule looks at.

    Attributes:
        layer: the layer.
        inputs: its tensors, each (N, ...).
        output: what it returned, (N, ...).
        sizes: the shapes and constants it needed besides.
        nonnegative: whether every input is known to hold no negative value.
    """

    layer: Layer
    inputs: tuple[Tensor, ...]
    output: Tensor
    sizes: tuple[Any, ...]
    nonnegative: bool

    def backward(self, r: Tensor) -> tuple[Tensor, ...]:
        """Jacobian transposed times `r`: one tensor per input."""
        if isinstance(self.layer, Weighted):
            return (self.layer.adjoint(r, self.layer.weight, self.inputs[0]),)
        if isinstance(self.layer, BatchNorm):  # PyTorch's own gradient is wrong for some layouts of a single image
            return (r * self.layer.affine()[0].to(r.dtype).view(-1, *[1] * (r.dim() - 2)),)
        with torch.enable_grad():
            inputs = tuple(x.detach().requires_grad_() for x in self.inputs)
            output = self.layer.function(*inputs, *self.sizes)
        return torch.autograd.grad(output, inputs, r, materialize_grads=True)  # zeros where nothing is left of one


class Rule(Protocol):
    """Redistributes the relevance of a layer's output over its inputs."""

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        """One tensor per input, from `relevance` of the shape of the output."""
        ...


class Graph(nn.Module):
    """A network as layers in order of execution; the n-th layer's value has position n.

    Calling it gives the same logits as the network, with gradients, without writing into any tensor.
    """

    def __init__(self, layers: Sequence[Layer], output: int, unfolded: Graph | None = None) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.output = output
        self.nonnegative = self._nonnegative()
        self._last_use = {i: n for n, layer in enumerate(self.layers) for i in (*layer.inputs, *layer.sizes)}
        self._unfolded = unfolded
        self._derived: dict[Hashable, tuple[Hashable, Graph]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of inputs (N, C, H, W)."""
        return self._run(x, drop=Layer)[self.output]  # type: ignore[no-any-return]

    def values(self, x: Tensor, *, drop: type[Layer] | tuple[()] = (), kept: torch.dtype | None = None) -> list[Any]:
        """Every layer's value, in order.

        Args:
            x: (N, C, H, W).
            drop: kind of layer whose value becomes None once it has been used.
            kept: type to which the other values are rounded once they have been used; their own by default.
        """
        return self._run(x, drop=drop, kept=kept)

    def _run(self, x: Tensor, *, drop: type[Layer] | tuple[()], kept: torch.dtype | None = None) -> list[Any]:
        values: list[Any] = []
        for n, layer in enumerate(self.layers):
            sources = (*layer.inputs, *layer.sizes)
            arguments = (values[i] for i in sources)
            values.append(layer.function(x) if isinstance(layer, Input) else layer.function(*arguments))
            for i in sources:
                if self._last_use[i] == n and i != self.output:
                    values[i] = None if isinstance(self.layers[i], drop) else _rounded(values[i], kept)
        values[self.output] = _rounded(values[self.output], kept)
        return values

    def continued(self, values: Sequence[Any], position: int, value: Tensor) -> Tensor:
        """The logits for another value of one layer, what does not depend on it being as it was.

        Args:
            values: of every layer in a forward pass.
            position: the layer's.
            value: what it shall be instead.
        """
        changed: dict[int, Any] = {position: value}
        for n in range(position + 1, len(self.layers)):
            sources = (*self.layers[n].inputs, *self.layers[n].sizes)
            if changed.keys() & {*sources}:
                changed[n] = self.layers[n].function(*(changed.get(i, values[i]) for i in sources))
        logits: Tensor = changed.get(self.output, values[self.output])
        return logits

    def _nonnegative(self) -> tuple[bool, ...]:
        """Which values are known to be >= 0, from the kinds of layer alone."""
        known: list[bool] = []
        for layer in self.layers:
            kept = type(layer) in _KEEPS_SIGN and all(known[i] for i in layer.inputs)
            known.append(isinstance(layer, Rectifier) or kept)
        return tuple(known)

    def has(self, kind: type[Layer]) -> bool:
        """Whether relevance passes a layer of a kind."""
        return any(isinstance(self.layers[n], kind) for n in self.carrying())

    def sample(self, x: Tensor) -> Tensor:
        """The first image; all of them where the network takes no other number."""
        bound = any(isinstance(layer, Input) and layer.images is not None for layer in self.layers)
        return x if bound else x[:1]

    def consumers(self, position: int) -> list[int]:
        """Positions of the layers that read a value."""
        return [n for n, layer in enumerate(self.layers) if position in (*layer.inputs, *layer.sizes)]

    def carrying(self) -> list[int]:
        """Positions of the layers on a path from input to output, in order: those that relevance passes."""
        reached = {n for n, layer in enumerate(self.layers) if isinstance(layer, Input)}
        for n, layer in enumerate(self.layers):
            if not isinstance(layer, Size) and reached.intersection(layer.inputs):
                reached.add(n)
        needed = {self.output}
        for n in reversed(range(len(self.layers))):
            if n in needed:
                needed.update(self.layers[n].inputs)
        return [n for n, layer in enumerate(self.layers) if n in reached & needed and not isinstance(layer, Input)]

    def waists(self) -> list[int]:
        """Positions that every path from input to output passes, in order: relevance is there as a whole."""
        found, earliest = [], self.output
        for n in reversed(self.carrying()):
            if n <= earliest:
                found.append(n)
            earliest = min(earliest, *self.layers[n].inputs)
        return [0, *reversed(found)]

    def first(self) -> set[int]:
        """Weighted layers that no weighted layer precedes: they read pixels."""
        behind: set[int] = set()
        for n, layer in enumerate(self.layers):
            if isinstance(layer, Weighted) or behind.intersection(layer.inputs):
                behind.add(n)
        return {n for n in behind if not behind.intersection(self.layers[n].inputs)}

    def last(self) -> set[int]:
        """Weighted layers that no weighted layer follows: their output becomes the logits."""
        ahead: set[int] = set()
        for n in reversed(self.carrying()):
            if isinstance(self.layers[n], Weighted) or ahead.intersection(self.consumers(n)):
                ahead.add(n)
        return {n for n in ahead if not ahead.intersection(self.consumers(n))}

    def replacing(self, kind: type[Layer], function: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]) -> Graph:
        """The same graph in which layers of a kind run `function(their own function)`."""
        layers = [
            replace(layer, function=function(layer.function)) if isinstance(layer, kind) else layer
            for layer in self.layers
        ]
        return Graph(layers, self.output)

    def held(self) -> Graph:
        """The same network whose gates and attention are held constant: relevance goes to signals and values alone."""
        layers = [
            replace(layer, inputs=layer.inputs[:1], sizes=(*layer.inputs[1:], *layer.sizes))
            if isinstance(layer, Gated | Attended)
            else layer
            for layer in self.layers
        ]
        return Graph(layers, self.output)

    def folded(self) -> Graph:
        """The same network with each batch norm merged into the convolution or dense layer that alone feeds it.

        w' = w · scale, b' = b · scale + shift; the batch norm's place is taken by an identity. Identities between the
        two do not matter.
        """
        layers = list(self.layers)
        for n, norm in enumerate(self.layers):
            source = self._feeder(n) if isinstance(norm, BatchNorm) else None
            weighted = None if source is None else layers[source]
            if source is not None and isinstance(norm, BatchNorm) and isinstance(weighted, Convolution | Dense):
                layers[source] = _merged(weighted, norm)
                layers[n] = identity(norm)
        return Graph(layers, self.output, unfolded=self)

    def _feeder(self, position: int) -> int | None:
        """The layer whose output only this one reads, seen through identities; None where others read it too."""
        source = self.layers[position].inputs[0]
        if self.consumers(source) != [position] or source == self.output:
            return None
        return self._feeder(source) if isinstance(self.layers[source], Identity) else source

    @property
    def dtype(self) -> torch.dtype | None:
        """Type of the weights, None where there are none."""
        return next((layer.weight.dtype for layer in self.layers if isinstance(layer, Weighted)), None)

    def derived(self, kind: Hashable, made: Callable[[], Graph]) -> Graph:
        """The graph that `made` makes of this one: kept under its kind until a weight changes."""
        state = self.state()
        if self._derived.get(kind, (None,))[0] != state:
            self._derived[kind] = state, made()
        return self._derived[kind][1]

    def widened(self, dtype: torch.dtype) -> Graph:
        """The same network with its parameters in another type; batch norms are folded in that type."""
        if self._unfolded is not None:
            return self.derived(dtype, self._unfolded.widened(dtype).folded)
        return self.derived(dtype, lambda: Graph([_converted(layer, dtype) for layer in self.layers], self.output))

    def state(self) -> tuple[Any, ...]:
        """What changes when weights are replaced, moved or written to."""
        tensors = (t for layer in self.layers for t in _constants(layer))
        return tuple((t.data_ptr(), 0 if t.is_inference() else t._version, t.dtype) for t in tensors)


def identity(layer: Layer) -> Identity:
    """An identity in a layer's place."""
    return Identity(name=layer.name, operation=layer.operation, inputs=layer.inputs, function=_same)


def _same(x: Tensor) -> Tensor:
    return x


def _converted(layer: Layer, dtype: torch.dtype) -> Layer:
    if not isinstance(layer, Weighted | BatchNorm):
        return replace(layer, function=layer.function.to(dtype)) if isinstance(layer.function, Replay) else layer
    tensors = {key: t.detach().to(dtype) for key in _TENSORS if (t := getattr(layer, key, None)) is not None}
    other = replace(layer, **tensors)
    return replace(other, function=other.applied)


def _constants(layer: Layer) -> Iterator[Tensor]:
    """The tensors that decide what a layer computes."""
    if isinstance(layer, Weighted | BatchNorm):
        yield from (t for key in _TENSORS if (t := getattr(layer, key, None)) is not None)
    elif isinstance(layer.function, Replay):
        yield from layer.function.constants()


def _rounded(value: Any, kept: torch.dtype | None) -> Any:
    return value.to(kept) if kept and isinstance(value, Tensor) and value.is_floating_point() else value


def _merged(weighted: Convolution | Dense, norm: BatchNorm) -> Layer:
    scale, shift = norm.affine()
    weight = weighted.weight * scale.view(-1, *[1] * (weighted.weight.dim() - 1))
    bias = shift if weighted.bias is None else weighted.bias * scale + shift
    merged = replace(weighted, weight=weight.detach(), bias=bias.detach())
    return replace(merged, function=merged.applied)

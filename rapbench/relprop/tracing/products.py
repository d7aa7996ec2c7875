"""Products and quotients of two tensors: which factor is a gate, which divisor a deviation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rapbench.relprop.layers import (
    Activation,
    Affine,
    Attended,
    AveragePool,
    BatchNorm,
    Difference,
    Gated,
    Identity,
    Layer,
    MatrixProduct,
    MaxPool,
    Norm,
    Product,
    Quotient,
    Rearrange,
    Rectifier,
    Sigmoid,
    Softmax,
    Weighted,
)
from rapbench.relprop.tracing.replay import Replay, chained
from rapbench.relprop.tracing.templates import Ref

Function = Callable[..., Tensor]
Binary = Callable[[Tensor, Tensor], Tensor]

_ALONE = (Activation, Rectifier, Affine, Identity)
"""Layers that act on each value alone."""
_CARRYING = (Affine, Identity, Rearrange, AveragePool, MaxPool)
"""Layers behind which a gate is still a gate, and a deviation a deviation."""
_MIXING = (*_CARRYING, Weighted, BatchNorm)
"""Layers behind which attention is still attention: heads may be mixed."""
_DEVIATED = (*_CARRYING, Activation)
"""Layers behind which a divisor is still made of a deviation."""
_MEANS = {"mean", "var_mean"}
_DEVIATIONS = {"sqrt", "std", "norm", "vector_norm", "linalg_norm", "linalg_vector_norm"}
_INVERSE_DEVIATIONS = {"rsqrt"}


@dataclass(frozen=True)
class Factors:
    """The two tensors of a product, quotient or matrix product, in a graph that has come so far.

    Attributes:
        layers: of the graph.
        values: of its layers, by position.
        inputs: positions of the two.
    """

    layers: Sequence[Layer]
    values: Mapping[int, Tensor]
    inputs: tuple[int, ...]

    def layer(self, plain: Product | Quotient, output: Tensor) -> Layer:
        """What the product or quotient is.

        A function of each value alone where both are made of one tensor so, as in x · sigmoid(x); a normalisation where
        one is a deviation; else a gated signal where one is a gate.
        """
        if alone := self._function_of_one(plain):
            return alone
        if norm := self._norm(plain):
            return norm
        if isinstance(plain, Quotient) or (gate := self._gate(output)) is None:
            return plain
        inputs = (self.inputs[1 - gate], self.inputs[gate])
        return Gated(**_common(plain), inputs=inputs, function=_beginning_with(1 - gate, plain.function))

    def product(self, plain: MatrixProduct) -> MatrixProduct:
        """What a matrix product is: values and attention where one factor alone is made by a softmax."""
        softmax = [any(isinstance(self.layers[i], Softmax) for i in self._back(n, _MIXING)) for n in self.inputs]
        if sum(softmax) != 1:
            return plain
        weights = softmax.index(True)
        inputs = (self.inputs[1 - weights], self.inputs[weights])
        return Attended(**_common(plain), inputs=inputs, function=_beginning_with(1 - weights, plain.function))

    def _function_of_one(self, plain: Layer) -> Layer | None:
        a, b = (list(self._back(n, _ALONE)) for n in self.inputs)
        shared = next((n for n in a if n in b), None)
        if shared is None:
            return None
        ways = [[self.layers[n] for n in reversed(way[: way.index(shared)])] for way in (a, b)]
        if any(layer.sizes for way in ways for layer in way):
            return None
        steps = (tuple(layer.function for layer in way) for way in ways)
        function = Replay(function=_of_one, args=(Ref(0), *steps, plain.function), kwargs={})
        return Activation(**_common(plain), inputs=(shared,), function=function)

    def _norm(self, plain: Layer) -> Layer | None:
        """A tensor over a deviation; one from which its mean has just been subtracted is normalised as a whole."""
        names, places = (_DEVIATIONS, (1,)) if isinstance(plain, Quotient) else (_INVERSE_DEVIATIONS, (0, 1))
        found = [k for k in places if any(self._is(i, names) for i in self._back(self.inputs[k], _DEVIATED))]
        if not found:
            return None
        deviation, value = self.inputs[found[0]], self.inputs[1 - found[0]]
        function = _beginning_with(1 - found[0], plain.function)
        if mean := self._mean(value):
            args = (Ref(0), Ref(1), mean.function, self.layers[value].function, function)
            function, value = Replay(function=_centred, args=args, kwargs={}), mean.inputs[0]
        return Norm(**_common(plain), inputs=(value,), sizes=(deviation,), function=function)

    def _mean(self, n: int) -> Layer | None:
        """The mean that a layer subtracts from the tensor it is the mean of."""
        if not isinstance(self.layers[n], Difference) or len(self.layers[n].inputs) != 2:
            return None
        value, mean = self.layers[n].inputs
        return self.layers[mean] if self._is(mean, _MEANS) and self.layers[mean].inputs == (value,) else None

    def _gate(self, output: Tensor) -> int | None:
        """The factor that alone comes from a sigmoid or softmax, or that alone is broadcast."""
        bounded = [
            any(isinstance(self.layers[i], Sigmoid | Softmax) for i in self._back(n, _CARRYING)) for n in self.inputs
        ]
        smaller = [self.values[n].shape != output.shape for n in self.inputs]
        for marks in (bounded, smaller):
            if sum(marks) == 1:
                return marks.index(True)
        return None

    def _back(self, n: int, kinds: tuple[type[Layer], ...]) -> Iterator[int]:
        """The layer, and those before it as long as there are layers of some kinds between."""
        yield n
        while isinstance(self.layers[n], kinds) and len(self.layers[n].inputs) == 1:
            (n,) = self.layers[n].inputs
            yield n

    def _is(self, n: int, names: set[str]) -> bool:
        layer = self.layers[n]
        return layer.operation in names and len(layer.inputs) == 1 and not layer.sizes


def _common(layer: Layer) -> dict[str, Any]:
    return {"name": layer.name, "operation": layer.operation, "place": layer.place}


def _beginning_with(first: int, function: Function) -> Function:
    """The function of two tensors, given either as the first."""
    return Replay(function=_swapped, args=(Ref(0), Ref(1), function), kwargs={}) if first else function


def _swapped(a: Tensor, b: Tensor, function: Binary) -> Tensor:
    return function(b, a)


def _of_one(x: Tensor, first: Sequence[Function], second: Sequence[Function], joined: Binary) -> Tensor:
    return joined(chained(x, first), chained(x, second))


def _centred(x: Tensor, deviation: Tensor, mean: Function, difference: Binary, divided: Binary) -> Tensor:
    return divided(difference(x, mean(x)), deviation)

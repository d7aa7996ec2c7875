"""From what a network did to a graph of layers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from rapbench.core.errors import UnsupportedLayer
from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import (
    Activation,
    Affine,
    Convolution,
    Input,
    Layer,
    MatrixProduct,
    MaxPool,
    Norm,
    Product,
    Quotient,
    Rearrange,
    Rectifier,
    Size,
    Unsupported,
)
from rapbench.relprop.tracing.kinds import CASTS, Operation, kind, rectifier
from rapbench.relprop.tracing.norms import norm_and_deviation
from rapbench.relprop.tracing.parameters import PARAMETRISED, parametrised, surrounded, zeros_around
from rapbench.relprop.tracing.products import Factors
from rapbench.relprop.tracing.recording import Call, Recording, Unseen, Value
from rapbench.relprop.tracing.replay import OUT_OF_PLACE, Multiple, Replay, chained, same
from rapbench.relprop.tracing.templates import Differs, Images, Ref, leaves, mapped, united


class Lowering:
    """Turns two recordings of one network into layers, value by value.

    Args:
        model: the network, for messages.
        shape: (C, H, W) of its images.
        images: N where both recordings are of as many images; None where the first is of two and the second of one.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, ...], images: int | None = None) -> None:
        self.name, self.shape, self.bound = type(model).__name__, shape, images
        self.layers: list[Layer] = []
        self.position: dict[Ref, int] = {}
        self.constant: dict[Ref, Tensor] = {}
        self.images = -1
        self.lost: set[Ref] = set()
        self.varying: set[Ref] = set()
        self.values: list[Value] = []
        self.taken: Counter[str] = Counter()
        self.around: dict[int, list[tuple[int, int]]] = {}
        self.bottomless: set[int] = set()
        self.tensors: dict[int, Tensor] = {}

    def graph(self, first: Recording, second: Recording) -> Graph:
        """The layers that the logits need."""
        if len(first.values) != len(second.values) or first.output != second.output:
            raise Unseen(f"{self.name} runs other operations for two images than for one")
        self.lost, self.values = first.lost, first.values
        for n, values in enumerate(zip(first.values, second.values, strict=True)):
            self._lower(Ref(n), *values)
        if not first.values[first.output].depends:
            raise UnsupportedLayer(f"the logits of {self.name} do not depend on its images")
        return _pruned(self.layers, self.position[first.output])

    def _lower(self, ref: Ref, first: Value, second: Value) -> None:
        if first.call is None or second.call is None:
            self._lower_leaf(ref, first, second)
            return
        call = self._united(first.call, second.call)
        found = list(leaves((call.args, call.kwargs)))
        if any(isinstance(a, Images) for a in found) and self.images < 0:
            self.images = self._append(Size(name="images", operation="len", inputs=(0,), function=len))
        varies = first.depends or any(
            isinstance(a, Images) or (isinstance(a, Ref) and a in self.varying) for a in found
        )
        if varies or ref in self.lost:
            self.position[ref] = self._append(self._layer(call, first))
            self.tensors[self.position[ref]] = first.tensor
        else:
            self.constant[ref] = first.tensor
        if varies:
            self.varying.add(ref)

    def _append(self, layer: Layer) -> int:
        self.layers.append(layer)
        return len(self.layers) - 1

    def _lower_leaf(self, ref: Ref, first: Value, second: Value) -> None:
        """The images, or a tensor from outside; one that is not the same every time is left out, and missed if used."""
        one, other = first.tensor, second.tensor
        if first.depends:
            self.position[ref] = self._append(input_layer(self.shape, self.bound))
            self.varying.add(ref)
            self.tensors[self.position[ref]] = one
        elif one is other or (one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)):
            self.constant[ref] = one

    def _united(self, first: Call, second: Call) -> Call:
        """The call for any number of images."""
        if (first.name, first.place) != (second.name, second.place) or first.function != second.function:
            _refuse(first, "the network does not do the same for one image and for two")
        try:
            args, kwargs = united((first.args, first.kwargs), (second.args, second.kwargs))
        except Differs:
            _refuse(first, "the network does not do the same for one image and for two")
        for ref in leaves((args, kwargs)):
            if isinstance(ref, Ref) and ref not in self.position and ref not in self.constant:
                _refuse(first, "a tensor it takes comes from code that cannot be seen")
        return replace(first, args=args, kwargs=kwargs)

    def _layer(self, call: Call, value: Value) -> Layer:
        inputs, sizes = self._sources(call)
        args, kwargs = mapped(lambda a: self.constant.get(a, a) if isinstance(a, Ref) else a, (call.args, call.kwargs))
        function = self._function(call, value, args, kwargs, inputs + sizes)
        operation, place = described(call)
        common: dict[str, Any] = {"operation": operation, "place": place, "inputs": inputs, "sizes": sizes}
        common["name"] = self._name(call)
        if not value.depends:
            return Size(**common, function=function)
        seen = Operation(call.name, mapped(self._seen, args), mapped(self._seen, kwargs), value.pick)
        if rectified := rectifier(seen):
            return Rectifier(**common, function=rectified)
        found = kind(seen)
        if found in PARAMETRISED:
            layer = parametrised(found, call.function, common, function, args, kwargs)
            return self._with_padding(layer) if isinstance(layer, Convolution) else layer
        return self._settled(found(**common, function=function), seen, value.tensor)

    def _settled(self, layer: Layer, seen: Operation, output: Tensor) -> Layer:
        """The layer, where its kind depends on what it reads."""
        source = self.tensors[layer.inputs[0]]
        if isinstance(layer, Affine | Activation) and source.shape != output.shape:
            return _as(layer, Unsupported)
        if isinstance(layer, Norm):
            return self._norm(layer, seen, source)
        if isinstance(layer, Product | Quotient) and not layer.sizes:
            return Factors(self.layers, self.tensors, layer.inputs).layer(layer, output)
        if isinstance(layer, MatrixProduct) and not layer.sizes:
            return Factors(self.layers, self.tensors, layer.inputs).product(layer)
        if isinstance(layer, MaxPool) and layer.inputs[0] in self.bottomless:
            pad = self.layers[layer.inputs[0]]
            steps = (Ref(0), (pad.function, layer.function))
            return replace(layer, inputs=pad.inputs, function=Replay(function=chained, args=steps, kwargs={}))
        if seen.bare == "pad":
            self._note_padding(layer, seen)
        return layer

    def _note_padding(self, layer: Layer, seen: Operation) -> None:
        """Zeros, which a convolution may count as its own, and values that a maximum never picks."""
        if isinstance(layer, Rearrange):
            self.around[len(self.layers)] = zeros_around(seen)
        elif isinstance(layer, Unsupported) and seen.argument(3, "value") == -math.inf and not layer.sizes:
            self.bottomless.add(len(self.layers))

    def _norm(self, layer: Norm, seen: Operation, x: Tensor) -> Layer:
        parts = norm_and_deviation(seen, layer, x, len(self.layers))
        if parts is None:
            return _as(layer, Unsupported)
        self._append(parts[0])
        return parts[1]

    def _with_padding(self, layer: Convolution) -> Convolution:
        """The convolution with the zeros that were put around its input counted as its own padding."""
        (source,) = layer.inputs
        sides = self.around.get(source, [])
        if len(sides) != len(layer.padding) or layer.more:
            return layer
        merged = replace(surrounded(layer, sides), inputs=self.layers[source].inputs)
        return replace(merged, function=merged.applied)

    def _seen(self, a: Any) -> Any:
        """An argument as kinds see it: what does not depend on the images is some tensor."""
        fixed = isinstance(a, Ref) and isinstance(self.layers[self.position[a]], Size)
        return torch.empty(0) if fixed else a

    def _sources(self, call: Call) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Positions of the tensors that depend on the images, and of what else is needed, each once, in order."""
        found = dict.fromkeys(
            self.images if isinstance(a, Images) else self.position[a]
            for a in leaves((call.args, call.kwargs))
            if isinstance(a, Images) or (isinstance(a, Ref) and a in self.position)
        )
        sizes = tuple(i for i in found if isinstance(self.layers[i], Size))
        return tuple(i for i in found if i not in sizes), sizes

    def _function(self, call: Call, value: Value, args: Any, kwargs: Any, order: tuple[int, ...]) -> Replay:
        def slot(a: Any) -> Any:
            if isinstance(a, Images):
                return Multiple(order.index(self.images), int(a))
            return Ref(order.index(self.position[a])) if isinstance(a, Ref) else a

        args, kwargs = mapped(slot, (args, kwargs))
        if "out" in kwargs:  # gradients do not pass it
            return Replay(function=call.function, args=args, kwargs={k: a for k, a in kwargs.items() if k != "out"})
        if call.name in OUT_OF_PLACE and not any(isinstance(a, torch.dtype) for a in leaves((args, kwargs))):
            return Replay(function=OUT_OF_PLACE[call.name], args=args, kwargs=kwargs)
        written = frozenset(slot(ref) for ref in call.writes)
        found = Replay(function=call.function, args=args, kwargs=kwargs, written=written, pick=slot(value.pick))
        return self._cast(call, value, found) if call.name in CASTS else found

    def _cast(self, call: Call, value: Value, found: Replay) -> Replay:
        """A conversion from one floating type to another; one that changes nothing is left out."""
        source = self.values[call.args[0]].tensor
        if source.dtype == value.tensor.dtype:
            return Replay(function=same, args=found.args[:1], kwargs={})
        return replace(found, casts=source.is_floating_point() and value.tensor.is_floating_point())

    def _name(self, call: Call) -> str:
        """The path of PyTorch's module that the operation is, or the path and the function's name."""
        if _is_module(call):
            return call.place.path
        base = ".".join(filter(None, (call.place.path, call.name.removesuffix("_"))))
        self.taken[base] += 1
        return base if self.taken[base] == 1 else f"{base}_{self.taken[base] - 1}"


def _as(layer: Layer, kind: type[Layer]) -> Layer:
    """The layer as one of another kind."""
    return kind(**{field.name: getattr(layer, field.name) for field in fields(Layer)})


_INPUT: dict[str, Any] = {"name": "x", "operation": "input", "inputs": (), "function": None}


def input_layer(shape: tuple[int, ...], images: int | None = None) -> Input:
    """The layer of images (C, H, W), which refuses others: of so many, or of any number."""
    known = Input(**_INPUT, shape=shape, images=images)
    return replace(known, function=partial(_fitting, known))


def _fitting(known: Input, x: Tensor) -> Tensor:
    if tuple(x.shape[1:]) != known.shape or known.images not in {None, len(x)}:
        wanted = ", ".join(map(str, ("N" if known.images is None else known.images, *known.shape)))
        raise UnsupportedLayer(f"the network was traced for images ({wanted}), not {tuple(x.shape)}")
    return x


def _refuse(call: Call, reason: str) -> NoReturn:
    raise Unseen(f"cannot follow {call.name} at {call.place}: {reason}")


def _is_module(call: Call) -> bool:
    return call.place.leaf and call.name not in {"pad", "overlaid"}


def described(call: Call) -> tuple[str, str]:
    """What a layer says it does, and where."""
    return call.place.kind if _is_module(call) else call.name.removesuffix("_"), call.place.code


def _pruned(layers: Sequence[Layer], output: int) -> Graph:
    """The graph of the layers that the output needs."""
    needed = {0, output}
    for n in reversed(range(len(layers))):
        if n in needed:
            needed.update(layers[n].inputs, layers[n].sizes)
    new = {old: n for n, old in enumerate(sorted(needed))}

    def moved(layer: Layer) -> Layer:
        return replace(layer, inputs=tuple(new[i] for i in layer.inputs), sizes=tuple(new[i] for i in layer.sizes))

    return Graph([moved(layers[old]) for old in new], new[output])

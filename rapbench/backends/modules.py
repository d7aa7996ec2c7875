"""Modules of a network in the hands of a library that hooks them: what it can see, and how it leaves them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from rapbench.core.errors import UnsupportedLayer
from rapbench.methods.feature_maps import last_maps
from rapbench.relprop.axes import channel_axes
from rapbench.relprop.graph import Graph
from rapbench.relprop.idle import prepared
from rapbench.relprop.layers import (
    Add,
    AveragePool,
    BatchNorm,
    Concatenate,
    Convolution,
    Dense,
    Identity,
    Layer,
    MaxPool,
    Rearrange,
    Rectifier,
)
from rapbench.relprop.tracing.trace import trace

_KNOWN = (*(Convolution, Dense, BatchNorm, Rectifier, MaxPool, AveragePool, Add, Concatenate, Identity, Rearrange),)
"""Kinds of layer for which the libraries have rules, or that have one gradient for all of them."""


class Hookable:
    """A network as such a library sees it: layers that modules run, and layers that are functions.

    Hooks that change gradients hand each module a copy of its input, so that an operation of the module in place no
    longer reaches whoever reads that input later.

    Attributes:
        graph: what the network computes.

    Raises:
        UnsupportedLayer: some layer reads what a module has written into its input.
    """

    def __init__(self, model: nn.Module, x: Tensor, method: str) -> None:
        self.graph: Graph = trace(model, x)
        self._model, self._method = model, method
        self._runs = Counter((layer.name, layer.operation) for layer in self.graph.layers)
        with _out_of_place(model):
            copied = trace(model, x)
        for layer, other in zip(self.graph.layers, copied.layers, strict=False):
            if (layer.name, layer.inputs) != (other.name, other.inputs):
                self.refuse(layer, "it reads what a module wrote in place, which hooks would hide from it")

    def module(self, layer: Layer) -> nn.Module | None:
        """The module that runs a layer; None where it is a function."""
        try:
            module = self._model.get_submodule(layer.name)
        except AttributeError:
            return None
        return module if type(module).__name__ == layer.operation else None

    def reused(self, layer: Layer) -> bool:
        """Whether the layer's module runs more than once in a forward pass."""
        return self._runs[layer.name, layer.operation] > 1

    def check_known(self, layer: Layer) -> None:
        """Refuses a layer that the library would leave to its gradient."""
        if not isinstance(layer, _KNOWN):
            self.refuse(layer, "no rule is known for it")

    def refuse(self, layer: Layer, reason: str) -> NoReturn:
        """Says which layer the library would get wrong, and why."""
        raise UnsupportedLayer(f"{self._method} cannot handle {layer.where}: {reason}")


@contextmanager
def _out_of_place(model: nn.Module) -> Iterator[None]:
    writing = [module for module in model.modules() if getattr(module, "inplace", False)]
    for module in writing:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in writing:
            module.inplace = True  # type: ignore[assignment]


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Afterwards the modules have the attributes they had, and no others."""
    before = {module: set(vars(module)) for module in model.modules()}
    try:
        yield
    finally:
        for module, names in before.items():
            for name in set(vars(module)) - names:
                delattr(module, name)


@contextmanager
def copied_inputs(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[None]:
    """Hands each leaf module of some kinds a copy of its input: no two of them share a tensor then."""
    modules = [module for module in model.modules() if isinstance(module, kinds) and not list(module.children())]
    handles = [module.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(),)) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def last_feature_maps(model: nn.Module, x: Tensor, method: str) -> nn.Module:
    """The module that gives the feature maps which the native Grad-CAM takes.

    Raises:
        UnsupportedLayer: no module gives them, or only one that runs more than once.
    """
    graph = prepared(model, x)
    values = graph.values(x[:1])
    position = last_maps(graph, values).position
    if values[position].dim() != 4 or channel_axes(graph, values)[position] != 1:
        layer = graph.layers[position]
        raise UnsupportedLayer(
            f"{method} takes maps (N, C, H, W); those of node {layer.name!r} are tokens or have channels last"
        )
    maps, runs = values[position], Counter[nn.Module]()
    found = []

    def watch(module: nn.Module, _: Any, output: Any) -> None:
        runs[module] += 1
        if isinstance(output, Tensor) and output.shape == maps.shape and torch.allclose(output, maps):
            found.append(module)

    handles = [module.register_forward_hook(watch) for module in model.modules()]
    try:
        model(x[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    for module in reversed(found):
        if runs[module] == 1:
            return module
    layer = graph.layers[position]
    raise UnsupportedLayer(
        f"{method} needs a module that runs once and gives the last feature maps; "
        f"they come from {layer.operation} at node {layer.name!r}"
    )

"""A network's forward pass as a graph of layers, without touching the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rapbench.core.errors import UnsupportedLayer
from rapbench.relprop.graph import Graph
from rapbench.relprop.tracing.closeness import is_close
from rapbench.relprop.tracing.lowering import Lowering
from rapbench.relprop.tracing.recording import Recording, Value, recorded


def trace(model: nn.Module, x: Tensor) -> Graph:
    """The graph of a classifier in evaluation mode, for images of the shape of `x`; a graph is its own trace.

    The network runs on two images and on one, and its graph is what it did; that costs 3.0 to 3.3 forward passes of one
    image (VGG16 and ResNet50 at 224 x 224 on one core of a CPU). The network is left as it was: nothing is copied or
    switched for good, and the graph writes into no tensor.

    Args:
        model: from (N, C, H, W) to logits (N, K); wrappers for several devices and compiled networks are looked into.
        x: some images (N, C, H, W), of which two or fewer are used, in the type of the model's parameters.

    Raises:
        UnsupportedLayer: what the network does cannot be followed; the message names the place.
    """
    if isinstance(model, Graph):
        return model
    model = unwrapped(model)
    x = x.detach().to(next((p.dtype for p in model.parameters() if p.is_floating_point()), x.dtype))
    two = x[:2] if len(x) > 1 else torch.cat([x, x.flip(-1)])
    with evaluating(model):
        try:
            recordings = recorded(model, two), recorded(model, two[:1])
        except UnsupportedLayer as refusal:
            return _bound(model, x, refusal)
        _check_independence(model, *recordings)
        try:
            return Lowering(model, tuple(x.shape[1:])).graph(*recordings)
        except UnsupportedLayer as refusal:
            return _bound(model, x, refusal)


def _bound(model: nn.Module, x: Tensor, refusal: UnsupportedLayer) -> Graph:
    """The graph for as many images as there are, of a network that treats another number otherwise."""
    try:
        recordings = recorded(model, x), recorded(model, x.flip(-1) / 2 + 0.25)
        return Lowering(model, tuple(x.shape[1:]), images=len(x)).graph(*recordings)
    except UnsupportedLayer:
        raise refusal from None


def _check_independence(model: nn.Module, two: Recording, one: Recording) -> None:
    """An image's logits must not depend on the images beside it, nor on when they are asked for."""
    if is_close(two.values[two.output].tensor[:1], one.values[one.output].tensor):
        return
    differing = (b.call for a, b in zip(two.values, one.values, strict=False) if _differ(a, b))
    first = next((f": the first to differ is {call.name} at {call.place}" for call in differing if call), "")
    raise UnsupportedLayer(f"{type(model).__name__} answers otherwise for an image alone than beside another{first}")


def _differ(two: Value, one: Value) -> bool:
    a, b = two.tensor, one.tensor
    if a.shape != b.shape and a.dim() and a.shape[1:] == b.shape[1:]:
        a = a[: len(b)]
    return a.shape == b.shape and not is_close(a, b)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside what spreads it over devices or compiles it."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards every module is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training

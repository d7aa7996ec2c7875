"""Which axis of a value holds the channels, as the layers between the input and the value tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import (
    AveragePool,
    BatchNorm,
    Convolution,
    Dense,
    Gated,
    Input,
    MaxPool,
    Rearrange,
)


def channel_axes(graph: Graph, values: Sequence[Any]) -> list[int | None]:
    """The channels' axis of every value of a forward pass, None where nothing tells.

    The input, convolutions, batch norms and pools have it second, dense layers last. Rearrangements are followed, and
    whatever else keeps the shape keeps the axis.
    """
    axes: list[int | None] = []
    for n, layer in enumerate(graph.layers):
        value = values[n]
        if not isinstance(value, Tensor):
            axes.append(None)
        elif isinstance(layer, Input | Convolution | BatchNorm | MaxPool | AveragePool):
            axes.append(1 if value.dim() > 1 else None)
        elif isinstance(layer, Dense):
            axes.append(value.dim() - 1)
        elif isinstance(layer, Gated):
            axes.append(axes[layer.inputs[0]])
        elif isinstance(layer, Rearrange):
            axes.append(_followed(graph, n, values, axes[layer.inputs[0]]))
        else:
            axes.append(_kept(graph, n, values, axes))
    return axes


def _followed(graph: Graph, n: int, values: Sequence[Any], axis: int | None) -> int | None:
    """Where a rearrangement puts an axis: the one axis along which a value that differs along the other varies."""
    layer, source = graph.layers[n], values[graph.layers[n].inputs[0]]
    if axis is None or source.shape[axis] == 1:
        return axis if source.shape == values[n].shape else None
    shape = [-1 if i == axis else 1 for i in range(source.dim())]
    marks = torch.arange(source.shape[axis]).to(source).view(shape).expand_as(source).clone()
    moved = layer.function(marks, *(values[i] for i in layer.sizes))
    varying = [i for i in range(moved.dim()) if not torch.equal(moved, moved.narrow(i, 0, 1).expand_as(moved))]
    return varying[0] if len(varying) == 1 else None


def _kept(graph: Graph, n: int, values: Sequence[Any], axes: Sequence[int | None]) -> int | None:
    """The axis that all inputs of as many dimensions agree on."""
    inputs = [i for i in graph.layers[n].inputs if isinstance(values[i], Tensor) and values[i].dim() == values[n].dim()]
    found = {axes[i] for i in inputs}
    same = any(values[i].shape == values[n].shape for i in inputs) or len(inputs) > 1
    return found.pop() if same and len(found) == 1 else None

"""The feature maps of a network that class activation maps are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rapbench.core.catalogue import nearest
from rapbench.core.errors import BadConfig, UnsupportedLayer
from rapbench.relprop.axes import channel_axes
from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import AveragePool, Identity, MaxPool, Rearrange
from rapbench.relprop.tokens import marks, tokens


@dataclass(frozen=True, kw_only=True)
class FeatureMaps:
    """A layer whose value is a grid of positions with some channels.

    Attributes:
        position: of the layer.
        maps: what the layer gives, feature maps with channels first or last or tokens -> feature maps (N, C, h, w).
    """

    position: int
    maps: Callable[[Tensor], Tensor]


def feature_maps(graph: Graph, values: Sequence[Any], layer: str = "") -> FeatureMaps:
    """The maps of the layer or of the last layer in the module of a name; those of `last_maps` without one.

    Raises:
        BadConfig: nothing has the name, or none of its positions reaches the logits.
        UnsupportedLayer: the layer gives no maps.
    """
    if not layer:
        return last_maps(graph, values)
    found = _Positions(graph, values).maps(_position(graph, layer))
    if found is None:
        raise BadConfig(
            f"class activation: no position of layer {layer!r} reaches the logits, only its other tokens do"
        )
    return found


def _position(graph: Graph, layer: str) -> int:
    names = {known.name: n for n, known in enumerate(graph.layers)}
    inside = [n for name, n in names.items() if name.startswith(f"{layer}.")]
    if layer not in names and not inside:
        raise BadConfig(f"no layer {layer!r}: {nearest(layer, list(names))}")
    return names[layer] if layer in names else max(inside)


def last_maps(graph: Graph, values: Sequence[Any]) -> FeatureMaps:
    """The last maps that all paths pass, apart from those that are merely pooled or rearranged.

    Of tokens they are the last whose positions still reach the logits: behind its last attention a transformer with a
    class token looks at that alone.

    Raises:
        UnsupportedLayer: what holds positions last is not a grid.
    """
    known = _Positions(graph, values)
    for n in reversed(graph.waists()):
        kind = isinstance(graph.layers[n], MaxPool | AveragePool | Identity | Rearrange)
        if n and not kind and known.count(n) > 1 and (found := known.maps(n)):
            return found
    raise UnsupportedLayer("class activation needs feature maps of more than one position, and the network has none")


class _Positions:
    """What is known of the positions that the layers of a network hold."""

    def __init__(self, graph: Graph, values: Sequence[Any]) -> None:
        self.graph, self.values = graph, values
        self.axes = channel_axes(graph, values)

    def count(self, n: int) -> int:
        """Positions of each channel; more than one wherever the channels are not known."""
        value: Tensor = self.values[n]
        axis = self.axes[n]
        if value.dim() < 3 or (value.dim() == 3 and value.shape[1] == 1):
            return 1
        return value[0].numel() // value.shape[axis] if axis else value[0].numel()

    def maps(self, n: int) -> FeatureMaps | None:
        """The value as feature maps; None where only tokens without a position reach the logits.

        Raises:
            UnsupportedLayer: it is no grid.
        """
        value, axis = self.values[n], self.axes[n]
        if isinstance(value, Tensor) and value.dim() == 4 and axis:
            return FeatureMaps(position=n, maps=lambda value: value.movedim(axis, 1))
        if isinstance(value, Tensor) and value.dim() == 3:
            return self._tokens(n)
        raise self._refusal(n)

    @cached_property
    def _few(self) -> list[Any]:
        """The values of one image."""
        return self.graph.values(self.graph.sample(self.values[0]))

    @cached_property
    def _marks(self) -> list[Any]:
        return marks(self.graph, self._few)

    @torch.no_grad()
    def _tokens(self, n: int) -> FeatureMaps | None:
        found = tokens(self._marks[n])
        if found is None:
            raise self._refusal(n)
        reached = self.graph.continued(self._few, n, found.erased(self._few[n])).isnan().any()
        return FeatureMaps(position=n, maps=found.maps) if reached else None

    def _refusal(self, n: int) -> UnsupportedLayer:
        value, layer = self.values[n], self.graph.layers[n]
        found = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else "no tensor"
        return UnsupportedLayer(
            "class activation needs feature maps (N, C, H, W) or (N, H, W, C), or a token for each position; what "
            f"{layer.operation} at node {layer.name!r} gives is {found}: another layer can be named"
        )

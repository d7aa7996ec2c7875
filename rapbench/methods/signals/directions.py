"""Directions of signals in place of weights on the way back, and the networks on which that is defined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rapbench.core.errors import UnsupportedLayer
from rapbench.relprop.composites import Composite
from rapbench.relprop.graph import Graph, Node
from rapbench.relprop.layers import AveragePool, Concatenate, Identity, MaxPool, Rearrange, Rectifier, Weighted
from rapbench.relprop.rules import Pass, Route


@dataclass(frozen=True)
class Along:
    """R_i = Σ_j u_ij R_j, where the directions u take the place of the weights.

    Attributes:
        directions: by layer name, shaped like the weights.

    Source: Kindermans et al. 2018, Section 4.
    """

    directions: Mapping[str, Tensor]

    def __call__(self, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(node.layer, Weighted)
        return (node.layer.adjoint(relevance, self.directions[node.layer.name], node.inputs[0]),)


def composite(directions: Mapping[str, Tensor]) -> Composite:
    """The gradient with other weights on the way back; batch norm that cannot be folded and additions have no rule."""
    kinds = (Rectifier, MaxPool, AveragePool, Rearrange, Concatenate)
    return Composite(table=((Weighted, Along(directions)), (Identity, Pass()), *((kind, Route()) for kind in kinds)))


def weighted_layers(graph: Graph, method: str) -> dict[str, Weighted]:
    """The layers that have signal directions, by name.

    Raises:
        UnsupportedLayer: the network has batch norm left, additions, other unknown layers, or one layer used twice.
    """
    composite({}).rules(graph, method)
    layers = [layer for n in graph.carrying() if isinstance(layer := graph.layers[n], Weighted)]
    names = [layer.name for layer in layers]
    for layer in layers:
        if names.count(layer.name) > 1:
            raise UnsupportedLayer(f"{method} has no rule for {layer.operation} at node {layer.name!r}, used twice")
    return {layer.name: layer for layer in layers}


def weight_direction(weight: Tensor) -> Tensor:
    """The direction w / (w·w), which the filter-based estimator S_w takes for the signal's.

    Source: Kindermans et al. 2018, Section 3.
    """
    return normalised(weight, weight)


def normalised(direction: Tensor, weight: Tensor) -> Tensor:
    """The direction u / (w·u) of every unit, which has w·a = 1; the zero vector where w·u is 0."""
    gain = (weight * direction).flatten(1).sum(1)
    return direction / torch.where(gain == 0, 1, gain).view(-1, *[1] * (weight.dim() - 1))

"""Layers that do nothing: which they are, the shape of the input tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rapbench.relprop.graph import Graph, identity
from rapbench.relprop.layers import Affine, Attended, AveragePool, BatchNorm, Concatenate, Gated, MaxPool, Rearrange
from rapbench.relprop.tracing.trace import trace

_LINEAR = (AveragePool, MaxPool, BatchNorm, Affine, Concatenate, Rearrange)
"""Kinds whose function is the identity if it is so for one tensor of distinct values."""
_ROUNDINGS = 8


def prepared(model: nn.Module, x: Tensor, *, fold: bool = False, hold: bool = False) -> Graph:
    """The network as rules see it: layers that do nothing are identities.

    Where wanted, batch norms are folded, and gates and attention are held constant.
    """
    graph = trace(model, x)
    graph = graph.derived(x.shape[1:], lambda: settled(graph, x))
    if hold and (graph.has(Gated) or graph.has(Attended)):
        graph = graph.derived("held", graph.held)
    return graph.derived("folded", graph.folded) if fold else graph


@torch.no_grad()
def settled(graph: Graph, x: Tensor) -> Graph:
    """The same network in which what does nothing to inputs shaped like `x` is an identity.

    That is a pool over single values, a batch norm of scale 1 and shift 0, or rearrangements that undo each other.
    """
    values = graph.values(graph.sample(x).to(graph.dtype or x.dtype))
    layers = list(graph.layers)
    for n in range(len(layers)):
        for chain in _chains(graph, n):
            if _is_idle(graph, chain, values):
                for i in chain:
                    layers[i] = identity(layers[i])
                break
    return Graph(layers, graph.output)


def _chains(graph: Graph, n: int) -> Iterator[list[int]]:
    """The layer, then the layer with the rearrangements before it that it alone reads, one more each time."""
    chain = [n]
    while len(graph.layers[n].inputs) == 1 and isinstance(graph.layers[n], _LINEAR):
        yield chain
        (n,) = graph.layers[n].inputs
        if not isinstance(graph.layers[n], Rearrange) or graph.consumers(n) != [chain[-1]]:
            return
        chain = [*chain, n]


def _is_idle(graph: Graph, chain: list[int], values: list[Any]) -> bool:
    """Whether layers, the last first, give back what they are given."""
    source = values[graph.layers[chain[-1]].inputs[0]]
    if values[chain[0]].shape != source.shape:
        return False
    probe = torch.randn(source.shape, generator=torch.Generator().manual_seed(0)).to(source)
    found: Tensor = probe
    for i in reversed(chain):
        found = graph.layers[i].function(found, *(values[size] for size in graph.layers[i].sizes))
    return torch.allclose(found, probe, rtol=_ROUNDINGS * torch.finfo(probe.dtype).eps, atol=0)

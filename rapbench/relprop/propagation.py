"""The backward walk of relevance over a traced network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rapbench.relprop.graph import Graph, Node, Rule
from rapbench.relprop.layers import Convolution, Rectifier

_LARGE = 2**19
"""Elements of an image's maps from which on temporaries for a whole batch would no longer fit into a CPU's caches."""

Observer = Callable[[int, Tensor], None]
"""Told the position of a layer and the relevance of its output, which it must not write into."""


def _unobserved(position: int, relevance: Tensor) -> None:
    """Nobody looks."""


_OBSERVER: ContextVar[Observer] = ContextVar("observer", default=_unobserved)


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Within it, every propagation shows the relevance of each layer it passes, from the logits to the input."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


@torch.no_grad()
def propagate(graph: Graph, rules: Mapping[int, Rule], x: Tensor, target: Tensor) -> Tensor:
    """Relevance (N, C, H, W) of the input, from the logit of `target` (N,) backwards, layer by layer.

    Relevance that reaches a value on several paths is summed. Each layer's activations are freed once its relevance
    has been passed on; those of rectifiers are not kept but computed again, which halves what is held.

    The forward pass runs in the type of `x`, the backward pass in that of the weights: float64 images in a float32
    network give float32 relevance without the errors of float32 sums of branches that cancel, which are those of the
    forward pass alone.

    Source: Bach et al. 2015, Eq. 2.
    """
    kept = graph.dtype or x.dtype
    values = (graph if kept == x.dtype else graph.widened(x.dtype)).values(x, drop=Rectifier, kept=kept)
    ((_, relevance),) = deque(_walked(graph, rules, values, _logit_alone(values[graph.output], target)), maxlen=1)
    return relevance


@torch.no_grad()
def relevance_at(
    graph: Graph, rules: Mapping[int, Rule], values: Sequence[Any], target: Tensor, positions: Sequence[int]
) -> list[Tensor]:
    """Relevance of some layers' values, of the sizes of these, from 1 at the logit of `target` (N,) backwards.

    Args:
        graph: the network.
        rules: of the layers that relevance passes.
        values: of all layers in a forward pass, which are kept.
        target: (N,).
        positions: of the layers.
    """
    found: dict[int, Tensor] = {}
    for n, relevance in _walked(graph, rules, [*values], _one_hot(values[graph.output], target)):
        if n in positions:
            found[n] = relevance
        if len(found) == len({*positions}):
            break
    return [found[n] for n in positions]


def _walked(graph: Graph, rules: Mapping[int, Rule], values: list[Any], start: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The relevance of every value that relevance passes, with its position, from the logits to the input.

    A value is removed from `values` once its relevance has been passed on.
    """
    relevance = {graph.output: start}
    observe = _OBSERVER.get()
    for n in sorted(rules, reverse=True):
        layer = graph.layers[n]
        observe(n, relevance[n])
        yield n, relevance[n]
        nonnegative = all(graph.nonnegative[i] for i in layer.inputs)
        for i in (n, *layer.inputs, *layer.sizes):
            values[i] = _restored(graph, values, i)
        inputs, sizes = tuple(values[i] for i in layer.inputs), tuple(values[i] for i in layer.sizes)
        node = Node(layer, inputs, values[n], sizes, nonnegative)
        values[n] = None
        for i, part in zip(layer.inputs, _applied(rules[n], node, relevance.pop(n)), strict=True):
            relevance[i] = relevance[i] + part if i in relevance else part
    observe(0, relevance[0])
    yield 0, relevance[0]


def _restored(graph: Graph, values: list[Any], position: int) -> Any:
    """A value, computed again where it was dropped."""
    if values[position] is not None:
        return values[position]
    layer = graph.layers[position]
    return layer.function(_restored(graph, values, layer.inputs[0]))


def _applied(rule: Rule, node: Node, relevance: Tensor) -> tuple[Tensor, ...]:
    """What the rule returns; on a CPU, large maps go through convolutions one by one, which bounds the temporaries."""
    x = node.inputs[0]
    if relevance.device.type != "cpu" or x[0].numel() < _LARGE or not isinstance(node.layer, Convolution):
        return rule(node, relevance)
    result = torch.empty_like(x)
    for i in range(len(x)):
        one = replace(node, inputs=(x[i : i + 1],), output=node.output[i : i + 1])
        result[i : i + 1] = rule(one, relevance[i : i + 1])[0]
    return (result,)


def _logit_alone(logits: Tensor, target: Tensor) -> Tensor:
    """The logit at the target, 0 elsewhere."""
    index = target.unsqueeze(1)
    return torch.zeros_like(logits).scatter(1, index, logits.gather(1, index))


def _one_hot(logits: Tensor, target: Tensor) -> Tensor:
    """1 at the target, 0 elsewhere."""
    return torch.zeros_like(logits).scatter(1, target.unsqueeze(1), 1)

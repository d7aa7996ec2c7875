"""In what arithmetic a method's map of a network is more than rounding, and explaining in it."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from rapbench.core.types import Method
from rapbench.methods import METHODS
from rapbench.relprop.graph import Graph

Arithmetic = Literal["fp32", "fp64-forward", "fp64"]
"""All in float32; the forward pass in float64 and the backward pass in float32; all in float64."""


@runtime_checkable
class Demanding(Protocol):
    """What a method has besides for which float32 is not always enough."""

    def arithmetic(self, graph: Graph) -> Arithmetic:
        """The cheapest arithmetic whose map of the network has digits that are determined."""
        ...


def wanted(method: Method, graph: Graph) -> Arithmetic:
    """The cheapest arithmetic that a method's map of a network needs.

    No cheaper form keeps the digits of sums that cancel than one forward pass in float64. On cards without fast float64
    that pass is what costs: there, 'fp32' is the cheapest form, without these digits.
    """
    return method.arithmetic(graph) if isinstance(method, Demanding) else "fp32"


def explains_graph(method: Method, name: str, backend: str) -> bool:
    """Whether a method is given the traced network: all of ours, and one from outside that looks at it."""
    return isinstance(method, Demanding) or is_ours(name, backend)


def is_ours(name: str, backend: str) -> bool:
    """Whether a method is one of this package."""
    return backend == "native" and name in METHODS


def explained(
    method: Method, graph: Graph, x: Tensor, target: Tensor, *, seeds: Tensor, arithmetic: Arithmetic
) -> Tensor:
    """A method's relevance (N, C, H, W) for a float32 network, float32 or float64."""
    model = graph.widened(torch.float64) if arithmetic == "fp64" else graph
    return method(model, x if arithmetic == "fp32" else x.double(), target, seeds=seeds)

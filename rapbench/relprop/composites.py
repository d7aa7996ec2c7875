"""A composite is an ordered table of layer kinds and rules: a whole configuration reads as a table."""

from __future__ import annotations

from dataclasses import dataclass

from rapbench.core.errors import UnsupportedLayer
from rapbench.relprop.graph import Graph, Rule
from rapbench.relprop.layers import Layer, MatrixProduct, Norm, Product, Quotient, Softmax

_REASONS: dict[type[Layer], str] = {
    MatrixProduct: "both of its factors depend on the image, as in attention",
    Softmax: "it weighs values against each other, as attention does",
    Product: "neither of its factors is a gate",
    Quotient: "its divisor is no deviation",
    Norm: "the method's equations say nothing of an image that is normalised by its own values",
}


def refusal(layer: Layer, method: str) -> UnsupportedLayer:
    """Says that a method has no rule for a layer, and why where that is known."""
    reason = _REASONS.get(type(layer))
    return UnsupportedLayer(f"{method} has no rule for {layer.where}" + (f": {reason}" if reason else ""))


@dataclass(frozen=True, kw_only=True)
class Composite:
    """Which rule each layer of a graph gets.

    Attributes:
        table: (kind, rule) in order; the first kind that a layer belongs to decides.
        first: rule of the weighted layers that read pixels, instead of the table's.
        last: rule of the weighted layers whose output becomes the logits; it goes before `first`.
    """

    table: tuple[tuple[type[Layer], Rule], ...]
    first: Rule | None = None
    last: Rule | None = None

    def rules(self, graph: Graph, method: str) -> dict[int, Rule]:
        """The rule of every layer that relevance passes, by position.

        Raises:
            UnsupportedLayer: no rule covers a layer; names node, operation and `method`.
        """
        special = {
            n: rule for rule, found in ((self.first, graph.first()), (self.last, graph.last())) if rule for n in found
        }
        return {n: special.get(n) or self._rule(graph.layers[n], method) for n in graph.carrying()}

    def _rule(self, layer: Layer, method: str) -> Rule:
        for kind, rule in self.table:
            if isinstance(layer, kind):
                return rule
        raise refusal(layer, method)

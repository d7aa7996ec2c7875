"""Back-projection along the directions of signals: PatternNet, PatternAttribution and their relatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from rapbench.core.errors import BadConfig
from rapbench.core.files import File
from rapbench.methods.signals.directions import composite, weight_direction, weighted_layers
from rapbench.methods.signals.patterns import Estimator, Patterns
from rapbench.relprop.graph import Graph
from rapbench.relprop.idle import prepared
from rapbench.relprop.propagation import propagate
from rapbench.relprop.tracing.trace import trace

_PREPARED: WeakKeyDictionary[nn.Module, dict[object, dict[str, Tensor]]] = WeakKeyDictionary()
"""Directions by network, method and state of the weights: checked and brought to the device once, not every batch."""


@dataclass(frozen=True, kw_only=True)
class SignalW:
    """Relevance along w ⊙ w / (w·w): the weights themselves are taken for the signal's direction.

    Source: Kindermans et al. 2018, Section 3, S_w; Montavon et al. 2017, Eq. 12.
    """

    title: ClassVar[str] = "S_w"
    signed: ClassVar[bool] = False

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        graph = prepared(model, x, fold=True)
        layers = weighted_layers(graph, self.title)
        directions = {name: layer.weight * weight_direction(layer.weight) for name, layer in layers.items()}
        return propagate(graph, composite(directions).rules(graph, self.title), x, target)


@dataclass(frozen=True, kw_only=True)
class PatternMethod:
    """The gradient in which fitted directions take the place of the weights; its subclasses say which.

    Rectifiers and max-pools pass back what they passed in the forward pass, and the start is the logit.

    Attributes:
        patterns: file of `rapbench fit-patterns`, fitted to the same weights.
    """

    title: ClassVar[str]
    signed: ClassVar[bool]
    estimator: ClassVar[Estimator] = "a_plus"

    patterns: File[Patterns] | None = None

    def directions(self, weight: Tensor, pattern: Tensor) -> Tensor:
        """What takes the place of a layer's weights on the way back."""
        raise AssertionError

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        traced = trace(model, x)
        graph = prepared(traced, x, fold=True)
        weighted_layers(graph, self.title)
        rules = composite(self._prepared(model, traced, graph)).rules(graph, self.title)
        return propagate(graph, rules, x, target)

    def _prepared(self, model: nn.Module, traced: Graph, graph: Graph) -> Mapping[str, Tensor]:
        """Directions of every layer, on the network's device, after the patterns were found to belong to it."""
        file, held = self._file(), _PREPARED.setdefault(model, {})
        key = (type(self), file, file.stamp, *traced.state())
        if key not in held:
            patterns = file.read()
            patterns.check(traced, self.title)
            layers = weighted_layers(graph, self.title)
            patterns.check_gain({name: layer.weight for name, layer in layers.items()})
            stale = [other for other in held if isinstance(other, tuple) and other[0] is type(self)]
            for other in stale:
                del held[other]
            tensors = patterns.tensors[self.estimator]
            held[key] = {
                name: self.directions(layer.weight, tensors[name].to(layer.weight)) for name, layer in layers.items()
            }
        return held[key]

    def _file(self) -> File[Patterns]:
        if self.patterns is None:
            raise BadConfig(
                f"{self.title} needs patterns fitted to the network: rapbench fit-patterns --model ... --to FILE, "
                "then (patterns=FILE) behind the method's name"
            )
        return self.patterns


@dataclass(frozen=True, kw_only=True)
class PatternNet(PatternMethod):
    """The signal that a_plus estimates, projected back to the input layer by layer.

    Source: Kindermans et al. 2018, Section 4.
    """

    title: ClassVar[str] = "PatternNet"
    signed: ClassVar[bool] = True

    def directions(self, weight: Tensor, pattern: Tensor) -> Tensor:
        return pattern


@dataclass(frozen=True, kw_only=True)
class PatternAttribution(PatternMethod):
    """Relevance along w ⊙ a_plus, the two-component estimator S_a+-: the other component ends at the rectifiers.

    Unsigned, as Table 1 of Nam et al. 2020 treats it.

    Source: Kindermans et al. 2018, Section 4 and Eq. 7.
    """

    title: ClassVar[str] = "PatternAttribution"
    signed: ClassVar[bool] = False

    def directions(self, weight: Tensor, pattern: Tensor) -> Tensor:
        return weight * pattern


@dataclass(frozen=True, kw_only=True)
class PatternAttributionA(PatternAttribution):
    """Relevance along w ⊙ a with the linear estimator S_a.

    Source: Kindermans et al. 2018, Eq. 3.
    """

    title: ClassVar[str] = "PatternAttribution S_a"
    estimator: ClassVar[Estimator] = "a"

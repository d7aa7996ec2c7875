"""Back-projection along the directions of signals: PatternNet, PatternAttribution and their relatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from rapbench.core.errors import BadConfig
from rapbench.methods.signals.directions import composite, weight_direction, weighted_layers
from rapbench.methods.signals.patterns import Estimator, Patterns, parameters_of
from rapbench.relprop.graph import Graph, propagate
from rapbench.relprop.layers import BatchNorm, Weighted
from rapbench.relprop.trace import trace

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
        graph = trace(model, x).folded()
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

    patterns: Path | None = field(default=None, metadata={"by_digest": True})

    def directions(self, weight: Tensor, pattern: Tensor) -> Tensor:
        """What takes the place of a layer's weights on the way back."""
        raise AssertionError

    @property
    def digest(self) -> str:
        """Digest of the patterns: what results depend on, wherever the file lies."""
        return _loaded(*self._file()).digest

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        traced = trace(model, x)
        graph = traced.folded()
        weighted_layers(graph, self.title)
        rules = composite(self._prepared(model, traced, graph)).rules(graph, self.title)
        return propagate(graph, rules, x, target)

    def _prepared(self, model: nn.Module, traced: Graph, graph: Graph) -> Mapping[str, Tensor]:
        """Directions of every layer, on the network's device, after the patterns were found to belong to it."""
        file, stamp = self._file()
        held = _PREPARED.setdefault(model, {})
        key = (type(self), file, stamp, *_state(traced))
        if key not in held:
            patterns = _loaded(file, stamp)
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

    def _file(self) -> tuple[Path, object]:
        """The pattern file, and what changes when its content does."""
        if self.patterns is None:
            raise BadConfig(
                f"{self.title} needs patterns fitted to the network: rapbench fit-patterns --model ... --to FILE, "
                "then (patterns=FILE) behind the method's name"
            )
        if not self.patterns.is_file():
            Patterns.load(self.patterns)
        status = self.patterns.stat()
        return self.patterns, (status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=1)
def _loaded(file: Path, stamp: object) -> Patterns:  # noqa: ARG001 - part of the cache's key
    return Patterns.load(file)


def _state(graph: Graph) -> tuple[Any, ...]:
    """What changes when weights are replaced, moved or written to."""
    layers = [layer for layer in graph.layers if isinstance(layer, Weighted | BatchNorm)]
    return tuple((t.data_ptr(), t._version, t.dtype) for layer in layers for t in parameters_of(layer).values())


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

"""Signal directions of a network's units: fitted, stored, checked against the weights, and used on the way back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rapbench.core.errors import BadConfig, BadWeights, DataMissing
from rapbench.methods.signals.directions import normalised
from rapbench.methods.signals.moments import Moments, Regime
from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import BatchNorm, Weighted

Estimator = Literal["a", "a_plus", "a_minus"]
REGIMES: dict[Estimator, Regime] = {"a": "all", "a_plus": "plus", "a_minus": "minus"}
"""The samples each estimator's direction is fitted to: S_a to all, S_a+- to either side of the rectifier."""
_FEWEST = 2
_ROUNDINGS = 8
"""By how many roundings of its largest terms w·a may miss 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Patterns:
    """The signal directions of every convolution and dense layer of one network.

    A unit that never fired while fitting has a zero vector for a_plus: nothing is known of its signal, and what reaches
    it on the way back ends there.

    Attributes:
        tensors: estimator -> layer name -> directions, shaped and typed like the layer's weights.
        weights: digest of each parametrised layer of the network they were fitted to, before batch norm is folded.
        silent: layer name -> units that never fired, where there are any.
        source: what they were fitted to, in words: model, weights, dataset, images.
    """

    tensors: Mapping[Estimator, Mapping[str, Tensor]]
    weights: Mapping[str, str]
    silent: Mapping[str, tuple[int, ...]]
    source: Mapping[str, str]

    @classmethod
    def fitted(cls, graph: Graph, moments: Mapping[str, Moments], source: Mapping[str, str]) -> Patterns:
        """The directions a_g = cov_g[x, y] / w·cov_g[x, y] of the sums of a network's (folded) layers.

        Source: Kindermans et al. 2018, Eq. 7 and the solution of Eq. 3.

        Raises:
            BadConfig: too few images: a layer has a single sample, or none of its units ever fired or varied.
        """
        tensors: dict[Estimator, dict[str, Tensor]] = {estimator: {} for estimator in REGIMES}
        for name, sums in moments.items():
            weight, count = sums.layer.weight.detach(), int(sums.sums["count"])
            if count < _FEWEST:
                raise BadConfig(f"too few images: layer {name} has {count} sample, and {_FEWEST} are the least")
            for estimator, regime in REGIMES.items():
                direction = normalised(sums.covariance(regime), weight.double())
                if estimator != "a_minus" and not direction.any():
                    raise BadConfig(
                        f"too few images: none of the {len(weight)} units of layer {name} "
                        f"{'varied' if regime == 'all' else 'fired'} in {count} samples"
                    )
                tensors[estimator][name] = direction.to(weight.dtype).cpu()
        silent = {name: units for name, sums in moments.items() if (units := sums.silent())}
        patterns = cls(tensors=tensors, weights=digests(graph), silent=silent, source=source)
        patterns.check_gain({name: sums.layer.weight for name, sums in moments.items()})
        return patterns

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, types and bytes of all directions: what results depend on."""
        found = hashlib.sha256()
        for estimator, layers in sorted(self.tensors.items()):
            for name, tensor in sorted(layers.items()):
                found.update(f"{estimator} {name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                found.update(tensor.contiguous().numpy().tobytes())
        return found.hexdigest()

    def check(self, graph: Graph, method: str) -> None:
        """Whether they were fitted to this network's weights.

        Raises:
            BadWeights: to others.
        """
        own = digests(graph)
        wrong = [name for name in {**own, **self.weights} if own.get(name) != self.weights.get(name)]
        if wrong:
            raise BadWeights(
                f"{method}: the patterns were fitted to other weights ({self._described()}): {len(wrong)} layers "
                f"differ, the first is {wrong[0]}; rapbench fit-patterns fits some to these"
            )

    def check_gain(self, weights: Mapping[str, Tensor]) -> None:
        """Whether w·a = 1 for every unit and estimator; zero vectors are left out.

        Raises:
            BadWeights: names layer, estimator and unit.
        """
        for estimator, layers in self.tensors.items():
            for name, direction in layers.items():
                weight = weights[name].detach()
                terms = (weight.to("cpu", torch.float64) * direction).flatten(1)
                gain, rounding = terms.sum(1), max(torch.finfo(t.dtype).eps for t in (weight, direction))
                wrong = ((gain - 1).abs() > _ROUNDINGS * rounding * terms.abs().sum(1)) & direction.flatten(1).any(1)
                if wrong.any():
                    unit = int(wrong.nonzero()[0])
                    raise BadWeights(f"patterns: w·a is {gain[unit]:.4f}, not 1, at {estimator} of {name}, unit {unit}")

    def _described(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.source.items())

    def encoded(self) -> bytes:
        """The content of a safetensors file."""
        tensors = {f"{estimator}/{name}": t for estimator, layers in self.tensors.items() for name, t in layers.items()}
        about = {**self._about, "checksum": self._checksum}
        return save(tensors, {key: json.dumps(value) for key, value in about.items()})

    @property
    def _about(self) -> Mapping[str, Any]:
        return {"weights": self.weights, "silent": self.silent, "source": self.source}

    @property
    def _checksum(self) -> str:
        """SHA-256 over all that a file holds."""
        return hashlib.sha256(f"{self.digest} {json.dumps(self._about, sort_keys=True)}".encode()).hexdigest()

    @classmethod
    def load(cls, file: Path) -> Patterns:
        """The patterns in a file.

        Raises:
            DataMissing: no such file.
            BadWeights: it cannot be read, is damaged, or holds something else.
        """
        if not file.is_file():
            raise DataMissing(f"no pattern file {file}: rapbench fit-patterns --to {file} makes one")
        try:
            with safe_open(file, framework="pt") as content:
                about = {key: json.loads(value) for key, value in (content.metadata() or {}).items()}
                names = content.keys()
                tensors = {key: content.get_tensor(key).clone() for key in names}  # else the file itself, mapped
            return cls._decoded(tensors, about)
        except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise BadWeights(
                f"{file} holds no patterns: {error}; move it away, rapbench fit-patterns writes such files"
            ) from error

    @classmethod
    def _decoded(cls, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Patterns:
        by_estimator: dict[Estimator, dict[str, Tensor]] = {
            estimator: {key.partition("/")[2]: t for key, t in tensors.items() if key.startswith(f"{estimator}/")}
            for estimator in REGIMES
        }
        if not all(by_estimator.values()):
            raise ValueError(f"directions of {', '.join(REGIMES)} are wanted")
        silent = {name: tuple(units) for name, units in about["silent"].items()}
        found = cls(tensors=by_estimator, weights=about["weights"], silent=silent, source=about["source"])
        if found._checksum != about["checksum"]:
            raise ValueError("its content is not what was written")
        return found


def digests(graph: Graph) -> dict[str, str]:
    """SHA-256 of each parametrised layer's tensors, by name; rounded to bfloat16, so that precision does not matter."""
    return {layer.name: _digest(layer) for layer in graph.layers if isinstance(layer, Weighted | BatchNorm)}


def _digest(layer: Weighted | BatchNorm) -> str:
    found = hashlib.sha256()
    for key, tensor in parameters_of(layer).items():
        rounded = tensor.detach().float().bfloat16().cpu().contiguous()
        found.update(f"{key} {tuple(tensor.shape)}\n".encode())
        found.update(rounded.view(torch.int16).numpy().tobytes())
    return found.hexdigest()


def parameters_of(layer: Weighted | BatchNorm) -> dict[str, Tensor]:
    """The tensors that decide what a layer computes."""
    keys = ("weight", "bias", "running_mean", "running_var")
    return {key: t for key in keys if (t := getattr(layer, key, None)) is not None}

"""What numbers depend on, and the smallest part of a run that is stored by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Self

from rapbench.core.paths import stem_of

Parameters = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class DatasetIdentity:
    """Which images, in which order.

    Attributes:
        name: catalogue name.
        parameters: of the data set, defaults included; the folder it is read from takes no part.
        fingerprint: changes when the images do.
        select: 'all' images, or those that the network classifies correctly.
        shuffle: whether the seed orders them.
        source: of a data set from outside the package, the digest of its code; None for others.
    """

    name: str
    parameters: Parameters
    fingerprint: str
    select: str = "all"
    shuffle: bool = False
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Which network, with the digest of its weights; `source` of its code where that is from outside the package."""

    name: str
    weights: str
    digest: str
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class MethodIdentity:
    """Which method, with all its parameters.

    Attributes:
        name: catalogue name.
        parameters: defaults included.
        digest: of a file that it takes, None where it takes none.
        arithmetic: where it needs another than the run's precision: 'fp64-forward' or 'fp64'.
        source: of a method from outside the package, the digest of its code; None for others.
        backend: where it comes from.
    """

    name: str
    parameters: Parameters
    digest: str | None = None
    arithmetic: str | None = None
    source: str | None = None
    backend: str


@dataclass(frozen=True, kw_only=True)
class MetricIdentity:
    """Which metric, with all its parameters.

    Attributes:
        name: catalogue name.
        parameters: defaults included.
        digest: of a file that it takes, None where it takes none.
        arithmetic: what it has inputs classified in, None where in the run's precision.
        source: of a metric from outside the package, the digest of its code; None for others.
    """

    name: str
    parameters: Parameters
    digest: str | None = None
    arithmetic: str | None = None
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class Identity:
    """All that the numbers of a cell depend on.

    Attributes:
        rapbench: version.
        dataset: which images.
        model: which network.
        method: which method.
        metric: which metric.
        seed: of everything random.
        precision: in which the network is held.
        device: 'cpu' or 'cuda'.
        target: the class that is explained: 'predicted', 'label', or the index of one class.
    """

    rapbench: str
    dataset: DatasetIdentity
    model: ModelIdentity
    method: MethodIdentity
    metric: MetricIdentity
    seed: int
    precision: str
    device: str
    target: str = "predicted"

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that change exactly when the numbers may."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def arithmetic(self) -> str:
        """The precision in which the maps were computed."""
        return self.method.arithmetic or self.precision

    def document(self) -> dict[str, Any]:
        """It as canonical JSON holds it: what was not asked for leaves no trace, so that new choices move no keys."""
        parts = {name: _asked(getattr(self, name)) for name in _PARTS}
        return dict(json.loads(json.dumps({**_asked(self), **parts})))

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """The identity in a document.

        Raises:
            TypeError: a field is missing or unknown.
            KeyError: a part is missing.
        """
        parts: dict[str, Any] = {name: kind(**document[name]) for name, kind in _PARTS.items()}
        return cls(**{**document, **parts})

    def setting(self) -> dict[str, str]:
        """All but method and metric, flat: dotted name -> text. Numbers of one setting may stand in one table."""
        return {**self._setting}

    @cached_property
    def _setting(self) -> dict[str, str]:
        parts = {key: value for key, value in asdict(self).items() if key not in {"method", "metric"}}
        return dict(_flat(parts))


_PARTS: dict[str, Any] = {
    "dataset": DatasetIdentity,
    "model": ModelIdentity,
    "method": MethodIdentity,
    "metric": MetricIdentity,
}


def _asked(part: Any) -> dict[str, Any]:
    """The fields that are no defaults."""
    return {f.name: value for f in fields(part) if (value := getattr(part, f.name)) != f.default}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, part in tree.items():
        if isinstance(part, Mapping):
            yield from _flat(part, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", part if isinstance(part, str) else json.dumps(part)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One method's rows for one metric.

    Attributes:
        identity: all that its numbers depend on; two cells that differ in anything else, as in where a file lies, are
            the same.
        dataset: the images as a user types them: a name, parameters that are no defaults in brackets.
        model_title: the network as tables print it.
        method: as a user types it.
        method_title: as papers print it.
        metric: as a user types it.
        signed: whether the method's negative relevance means something.
        limit: how many images, in the run's order, it has or is to have.
    """

    identity: Identity
    dataset: str = field(compare=False)
    model_title: str = field(compare=False)
    method: str = field(compare=False)
    method_title: str = field(compare=False)
    metric: str = field(compare=False)
    signed: bool = field(compare=False)
    limit: int = field(compare=False, default=0)

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> str:
        """The identity's key."""
        return self.identity.key

    @property
    def is_study(self) -> bool:
        """Whether its rows are a study's, which stands for method and metric alike."""
        return self.identity.method.name == self.identity.metric.name

    @property
    def folder(self) -> str:
        """Name of its folder: readable parts, then the key."""
        own = self.identity
        parts = (stem_of(part.name.rpartition(":")[2]) for part in (own.dataset, own.model, own.method, own.metric))
        return ".".join([*parts, self.key])

    def document(self) -> dict[str, Any]:
        """It as `spec.json` holds it."""
        labels = {name: getattr(self, name) for name in _LABELS}
        return {"identity": self.identity.document(), "labels": labels}

    @classmethod
    def parse(cls, document: Mapping[str, Any], limit: int = 0) -> Self:
        """The cell in a document.

        Raises:
            KeyError: a part is missing.
            TypeError: a field is missing or unknown.
        """
        labels = {name: document["labels"][name] for name in _LABELS}
        return cls(identity=Identity.parse(document["identity"]), **labels, limit=limit)


_LABELS = ("dataset", "model_title", "method", "method_title", "metric", "signed")

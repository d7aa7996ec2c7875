"""The same methods from several backends, side by side on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from rapbench.backends import BACKENDS, providers
from rapbench.core.catalogue import Call, nearest, split_calls
from rapbench.core.errors import BadConfig, RapbenchError, UnknownName
from rapbench.core.seeds import image_seed
from rapbench.core.stages import stage
from rapbench.core.types import Method
from rapbench.run.batches import Batches
from rapbench.run.plan import Experiment

_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far two backends are apart on one method.

    Attributes:
        method: its name, with parameters in brackets.
        backends: the two backends.
        difference: largest over images of Σ|a - b| over the larger of Σ|a| and Σ|b|; None where one of them refused.
        refusal: what the refusing backend said.
        expected: why the two differ by definition; empty where they should agree.
    """

    method: str
    backends: tuple[str, str]
    difference: float | None
    refusal: str
    expected: str

    def document(self) -> dict[str, Any]:
        """The comparison as `--json` prints it."""
        return asdict(self)


@dataclass(frozen=True)
class _Explained:
    """What one backend made of a method: maps of all images, or the reason why not."""

    relevance: Tensor | None
    refusal: str
    differs: str


def shared(methods: Sequence[str] = ()) -> list[Call]:
    """The method names that at least two backends provide, or those of them that are asked for, with parameters.

    Raises:
        UnknownName: no backend has the method.
        BadConfig: only one has it.
    """
    found = providers()
    if not methods:
        return [Call(name, {}) for name, backends in found.items() if len(backends) > 1]
    calls = split_calls(list(methods))
    for name, _ in calls:
        if name not in found:
            raise UnknownName(f"no method named {name!r}: {nearest(name, list(found))}")
        if len(found[name]) == 1:
            raise BadConfig(f"method {name} comes from {found[name][0]} alone: nothing to compare")
    return calls


def compare(experiment: Experiment, calls: Sequence[Call]) -> Iterator[Comparison]:
    """Explains the experiment's images by each method and each backend that has it, in double precision.

    Doubles keep rounding out of the way: what is left is a difference of definition, or a fault.
    """
    device = experiment.device
    samples = [experiment.dataset[n] for n in experiment.order]
    x = experiment.classifier.normalised(torch.stack([s.image for s in samples]).to(device)).double()
    model = experiment.classifier.module.to(device).double()
    batches, seeds = Batches(_BATCH), torch.tensor([image_seed(experiment.spec.seed, s.id) for s in samples])
    with torch.no_grad():
        target = batches.map(lambda part: model(part).argmax(1), x)
        for call in calls:
            maps = {b: _explained(b, call, model, (x, target, seeds), batches) for b in providers()[call.name]}
            yield from _pairs(call, maps)


def _explained(
    backend: str, call: Call, model: nn.Module, images: tuple[Tensor, Tensor, Tensor], batches: Batches
) -> _Explained:
    try:
        method: Method = BACKENDS.load(backend).build(call)
        with stage(f"explaining by {call}", len(images[0]), of=backend):
            relevance = batches.map(lambda x, target, seeds: method(model, x, target, seeds=seeds), *images)
    except RapbenchError as error:
        return _Explained(None, str(error), "")
    return _Explained(relevance, "", getattr(method, "differs", ""))


def _pairs(call: Call, maps: Mapping[str, _Explained]) -> Iterator[Comparison]:
    for one, other in combinations(maps, 2):
        a, b = maps[one], maps[other]
        both = a.relevance is not None and b.relevance is not None
        yield Comparison(
            method=str(call),
            backends=(one, other),
            difference=largest_difference(a.relevance, b.relevance) if both else None,  # type: ignore[arg-type]
            refusal=a.refusal or b.refusal,
            expected="; ".join(dict.fromkeys(filter(None, (a.differs, b.differs)))),
        )


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Largest over images of Σ|a - b| over the larger of Σ|a| and Σ|b|; 0 where both maps are 0."""
    apart, first, second = (values.abs().flatten(1).sum(1) for values in (a - b, a, b))
    return float((apart / torch.maximum(first, second).masked_fill(apart == 0, 1)).max())

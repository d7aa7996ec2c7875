"""Headline variants as criteria by which methods are compared on the same images, and their joint bootstrap."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from rapbench.methods import is_control
from rapbench.report.paired import Sample
from rapbench.report.statistics import joint_bootstrap, value
from rapbench.results.select import grouped, names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rapbench.core.types import Variant
    from rapbench.report.result import Result
    from rapbench.results.cell import Cell

    Ids = pd.Index[Any]
    Floats = NDArray[np.float64]


class Contenders(NamedTuple):
    """What is compared: names, which may hold parameters, and which of them (J,) bool are methods, not controls."""

    names: tuple[str, ...]
    methods: NDArray[np.bool_]

    @property
    def controls(self) -> frozenset[str]:
        """Names of the controls."""
        return frozenset(name for name, method in zip(self.names, self.methods, strict=True) if not method)


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One headline variant of a metric.

    Attributes:
        metric: as typed, with what tells it from others called so.
        variant: name of the variant.
        definitions: the variant itself, by method.
        samples: what it averages, by method: the images that all methods have, of controls those of them that they
            have. Without methods that have no image.
    """

    metric: str
    variant: str
    definitions: Mapping[str, Variant]
    samples: Mapping[str, Sample]

    @property
    def definition(self) -> Variant:
        """The variant itself, as any method has it."""
        return next(iter(self.definitions.values()))

    @cached_property
    def scores(self) -> dict[str, float]:
        """Its values by method, without those that are not finite."""
        found = {name: value(self.definitions[name], sample.statistics) for name, sample in self.samples.items()}
        return {name: one for name, one in found.items() if one is not None}

    def badness(self, values: Floats) -> Floats:
        """The lower the better."""
        return values if self.definition.direction == "lower" else -values


def contenders(found: Sequence[Result]) -> Contenders:
    """The methods and controls whose numbers these are, each once."""
    cells = list({_method(result.cell): result.cell for result in found}.values())
    return Contenders(tuple(names(cells)), np.array([not is_control(cell.identity.method.name) for cell in cells]))


def columns(found: Sequence[Result], everyone: Contenders) -> Iterator[Column]:
    """The criteria, a metric after the other, in the order of its headline."""
    called = dict(zip(dict.fromkeys(_method(result.cell) for result in found), everyone.names, strict=True))
    for group in grouped(found, lambda result: result.cell):
        ordered = sorted(group.members, key=lambda result: result.headline or 0)
        for variant in dict.fromkeys(result.variant for result in ordered):
            held = {called[_method(one.cell)]: one for one in ordered if one.variant == variant}
            yield Column(
                metric=", ".join(filter(None, (group.cell.metric, group.remark))),
                variant=variant,
                definitions={name: one.definition for name, one in held.items()},
                samples=_shared({name: one.sample for name, one in held.items()}, everyone.controls),
            )


def _method(cell: Cell) -> str:
    return json.dumps(asdict(cell.identity.method), sort_keys=True)


def _shared(samples: Mapping[str, Sample], controls: frozenset[str]) -> dict[str, Sample]:
    """What the samples hold of the images that all methods have, in one order; without those that hold none."""
    of_methods = [sample.ids for name, sample in samples.items() if name not in controls and len(sample.ids)]
    common = reduce(_intersection, of_methods).sort_values() if of_methods else pd.Index([])
    shared = {name: _of(sample, common) for name, sample in samples.items()}
    return {name: sample for name, sample in shared.items() if len(sample.ids)}


def _of(sample: Sample, ids: Ids) -> Sample:
    """A sample's images that are among others, in their order."""
    places = sample.ids.get_indexer(ids)
    return Sample(ids[places >= 0], sample.statistics[places[places >= 0]])


def _intersection(one: Ids, other: Ids) -> Ids:
    return one if one.equals(other) else one.intersection(other)


def _union(one: Ids, other: Ids) -> Ids:
    return one if one.equals(other) else one.union(other)


class Resampled(NamedTuple):
    """How bad each method is by each criterion (1 + M, C, J): of the images themselves, then of M resamples.

    Not a number where there is no value. `n` images were resampled.
    """

    badness: Floats
    n: int


def resampled(criteria: Sequence[Column], everyone: Contenders, *, seed: int, resamples: int) -> Resampled:
    """The criteria over the images and over resamples of them: an image is drawn for all methods, or for none."""
    found = np.full((1 + resamples, len(criteria), len(everyone.names)), np.nan)
    held = [(c, name, column, sample) for c, column in enumerate(criteria) for name, sample in column.samples.items()]
    if not held:
        return Resampled(found, 0)
    union = reduce(_union, (sample.ids for *_, sample in held)).sort_values()  # whatever the order of methods
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = joint_bootstrap(
            [column.definitions[name] for _, name, column, _ in held],
            [sample.statistics for *_, sample in held],
            [union.get_indexer(sample.ids) for *_, sample in held],
            seed=seed,
            resamples=resamples,
        )
    for (c, name, column, _), some in zip(held, drawn.T, strict=True):
        values = np.r_[column.scores.get(name, np.nan), np.where(np.isfinite(some), some, np.nan)]
        found[:, c, everyone.names.index(name)] = column.badness(values)
    return Resampled(found, len(union))

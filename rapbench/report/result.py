"""From rows to results: one number of a table each, with all that files hold beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from rapbench.core.types import Metric, Variant
from rapbench.metrics import METRICS
from rapbench.report.paired import Sample
from rapbench.report.statistics import Defined, Estimate, defined, estimates_of
from rapbench.results.cell import Cell
from rapbench.results.store import Held

FIELDS = (
    *("dataset", "model", "weights", "select", "shuffle", "target", "seed", "precision", "device"),
    *("method", "backend", "metric", "variant", "value", "ci_low", "ci_high", "n", "n_dropped", "n_missing"),
    *("direction", "key", "origin"),
)


def measured_on(cell: Cell) -> dict[str, Any]:
    """What a cell's numbers are of, as files hold it beside each of them."""
    own = cell.identity
    return {
        "dataset": cell.dataset,
        "model": own.model.name,
        "weights": own.model.weights,
        "select": own.dataset.select,
        "shuffle": own.dataset.shuffle,
        "target": own.target,
        "seed": own.seed,
        "precision": own.arithmetic,
        "device": own.device,
        "method": cell.method,
        "backend": own.method.backend,
        "metric": cell.metric,
        "key": cell.key,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One number of a table, computed when it is first looked at.

    Attributes:
        cell: what it was measured on.
        variant: name of the metric's variant.
        definition: the variant itself.
        rows: what it is computed from.
        estimated: what its estimate is computed together with.
        skipped: images that could not be read, by reason; they count as dropped.
        origins: what computed the rows.
        headline: place among the variants that a terminal shows, None where only files hold it.
    """

    cell: Cell
    variant: str
    definition: Variant = field(repr=False)
    rows: pd.DataFrame = field(repr=False)
    estimated: _Estimated = field(repr=False)
    skipped: Mapping[str, int]
    origins: tuple[Mapping[str, str], ...] = ()
    headline: int | None

    @property
    def direction(self) -> str:
        """'lower' or 'higher' is better."""
        return self.definition.direction

    @property
    def sample(self) -> Sample:
        """What it averages, to compare it with another method's image by image."""
        return self.estimated.samples[self.variant]

    @property
    def estimate(self) -> Estimate:
        """Value, 95 % interval and the images used and dropped."""
        return self.estimated.found[self.variant]

    def document(self) -> dict[str, Any]:
        """The result as files hold it."""
        values = {
            **measured_on(self.cell),
            "variant": self.variant,
            "direction": self.direction,
            **{key: getattr(self.estimate, key) for key in ("value", "ci_low", "ci_high", "n")},
            "n_dropped": sum(self.dropped.values()),
            "n_missing": self.missing,
            "origin": origins(self),
        }
        return {key: values[key] for key in FIELDS}

    @property
    def dropped(self) -> dict[str, int]:
        """Images without a value, by reason."""
        return {**self.skipped, **self.estimate.dropped}

    @property
    def missing(self) -> int:
        """Images that the run asked for and that were not computed."""
        return max(0, self.cell.limit - len(self.rows) - sum(self.skipped.values()))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Estimated:
    """Variants of the same rows, computed when the first of them is looked at: all cost little more than one."""

    variants: Mapping[str, Variant]
    rows: pd.DataFrame
    seed: int

    @cached_property
    def found(self) -> dict[str, Estimate]:
        """The estimates by variant."""
        if self.rows.empty:  # no image could be read: there are not even columns
            nothing = Estimate(value=None, ci_low=None, ci_high=None, n=0, n_dropped=0, dropped={})
            return dict.fromkeys(self.variants, nothing)
        return estimates_of(self.variants, self._kept, seed=self.seed)

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """What the variants average."""
        if self.rows.empty:
            return dict.fromkeys(self.variants, Sample(pd.Index([]), np.empty((0, 1))))
        ids = pd.Index(self.rows["id"])
        return {
            v: Sample(ids[some.positions], some.statistics) for v, some in zip(self.variants, self._kept, strict=True)
        }

    @cached_property
    def _kept(self) -> list[Defined]:
        return defined(self.variants.values(), self.rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A cell with every variant of its metric, its rows not yet read."""

    held: Held

    @property
    def cell(self) -> Cell:
        """What it was measured on."""
        return self.held.cell

    @cached_property
    def results(self) -> Mapping[str, Result]:
        """Every variant of its metric, by name."""
        return {result.variant: result for result in results(self.held)}


def results(held: Held) -> list[Result]:
    """Every variant of a cell's metric, from its rows."""
    cell, rows = held.cell, held.rows
    metric: Metric = METRICS.load(cell.identity.metric.name)(**cell.identity.metric.parameters)
    variants, seed = metric.variants(signed=cell.signed), cell.identity.seed
    shown = {name: variant for name, variant in variants.items() if name in metric.headline}
    left = {name: variant for name, variant in variants.items() if name not in shown}
    for_people, for_files = (_Estimated(variants=some, rows=rows.frame, seed=seed) for some in (shown, left))
    return [
        Result(
            cell=cell,
            variant=name,
            definition=variant,
            rows=rows.frame,
            estimated=for_people if name in shown else for_files,
            skipped=rows.skipped(),
            origins=rows.origins,
            headline=metric.headline.index(name) if name in shown else None,
        )
        for name, variant in variants.items()
    ]


def origins(result: Result) -> str:
    """All that computed a number's rows, in a line."""
    return " | ".join(map(origin_text, result.origins))


def origin_text(origin: Mapping[str, str]) -> str:
    """What computed rows, in a line: 'rapbench 0.1.0, code 1a2b3c4d, torch 2.11.0, device x86_64'."""
    return ", ".join(f"{name} {value}" for name, value in origin.items())

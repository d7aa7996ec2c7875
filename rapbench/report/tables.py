"""From rows to results, and from results to a document of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

import pandas as pd

from rapbench.core.types import Metric, Variant
from rapbench.metrics import METRICS
from rapbench.report.formats import Document, Format, Grid, interval, number, rendered
from rapbench.report.statistics import Estimate, estimates

FIELDS = (
    *("dataset", "model", "weights", "method", "backend", "metric", "variant"),
    *("value", "ci_low", "ci_high", "n", "n_dropped", "direction"),
)

Stored = tuple[pd.DataFrame, Mapping[str, int]]
"""The rows of a cell, and how many images could not be read, by reason."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One number of a table, computed when it is first looked at.

    Attributes:
        source: what it was measured on: dataset, model, model_title, weights, method, method_title, backend, metric.
        variant: name of the metric's variant.
        definition: the variant itself.
        rows: what it is computed from.
        seed: of the resampling.
        estimated: what its estimate is computed together with.
        skipped: images that could not be read, by reason; they count as dropped.
        headline: place among the variants that a terminal shows, None where only files hold it.
    """

    source: Mapping[str, Any]
    variant: str
    definition: Variant = field(repr=False)
    rows: pd.DataFrame = field(repr=False)
    seed: int
    estimated: _Estimated = field(repr=False)
    skipped: Mapping[str, int]
    headline: int | None

    @property
    def direction(self) -> str:
        """'lower' or 'higher' is better."""
        return self.definition.direction

    @property
    def estimate(self) -> Estimate:
        """Value, 95 % interval and the images used and dropped."""
        return self.estimated.found[self.variant]

    def document(self) -> dict[str, Any]:
        """The result as files hold it."""
        values = {
            **{key: self.source[key] for key in FIELDS if key in self.source},
            "variant": self.variant,
            "direction": self.direction,
            **{key: getattr(self.estimate, key) for key in ("value", "ci_low", "ci_high", "n")},
            "n_dropped": sum(self.dropped.values()),
        }
        return {key: values[key] for key in FIELDS}

    @property
    def dropped(self) -> dict[str, int]:
        """Images without a value, by reason."""
        return {**self.skipped, **self.estimate.dropped}

    @property
    def label(self) -> str:
        """The method with its parameters, and its backend where that is not this project."""
        backend = self.source["backend"]
        return str(self.source["method"]) + ("" if backend == "native" else f" [{backend}]")


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
        return estimates(self.variants, self.rows, seed=self.seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """A cell that a store holds, its rows not yet read."""

    identity: Mapping[str, Any]
    display: Mapping[str, Any]
    read: Callable[[], Stored]

    @cached_property
    def results(self) -> Mapping[str, Result]:
        """Every variant of its metric, by name."""
        return {result.variant: result for result in results(self.identity, self.display, *self.read())}


def results(
    identity: Mapping[str, Any], display: Mapping[str, Any], rows: pd.DataFrame, skipped: Mapping[str, int]
) -> list[Result]:
    """Every variant of a cell's metric, from its rows."""
    metric: Metric = METRICS.load(identity["metric"]["name"])(**identity["metric"]["parameters"])
    variants, seed = metric.variants(signed=display["signed"]), identity["seed"]
    shown = {name: variant for name, variant in variants.items() if name in metric.headline}
    left = {name: variant for name, variant in variants.items() if name not in shown}
    for_people, for_files = (_Estimated(variants=some, rows=rows, seed=seed) for some in (shown, left))
    return [
        Result(
            source=display,
            variant=name,
            definition=variant,
            rows=rows,
            seed=seed,
            estimated=for_people if name in shown else for_files,
            skipped=skipped,
            headline=metric.headline.index(name) if name in shown else None,
        )
        for name, variant in variants.items()
    ]


def text(found: Iterable[Result]) -> str:
    """Tables for a terminal: one a metric, methods down, headline variants across, with 95 % intervals."""
    return rendered(Document(grids=_grids(found)), Format.TEXT)


def document(found: Iterable[Result], form: Format) -> Document:
    """What a format shows: headline variants to read, every variant to a program."""
    if form in {Format.CSV, Format.JSON}:
        return Document(records=tuple(result.document() for result in found))
    return Document(grids=_grids(found))


def _grids(found: Iterable[Result]) -> tuple[Grid, ...]:
    shown = [result for result in found if result.headline is not None]
    shown.sort(key=lambda r: (r.source["dataset"], r.source["model_title"], r.source["metric"] == "guards"))
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in shown:
        key = (result.source["dataset"], result.source["model_title"], result.source["metric"])
        groups.setdefault(key, []).append(result)
    return tuple(_grid(key, group) for key, group in groups.items())


def _grid(key: tuple[str, str, str], group: list[Result]) -> Grid:
    variants = list(dict.fromkeys(r.variant for r in sorted(group, key=lambda r: r.headline or 0)))
    arrows = {r.variant: r.direction for r in group}
    lines = []
    for label, of_method in groupby(group, key=lambda r: r.label):
        cells = {r.variant: r for r in of_method}
        widest = max(cells.values(), key=lambda r: r.estimate.n)
        values = [value(cells[v].estimate) if v in cells else "-" for v in variants]
        lines.append((label, *values, str(widest.estimate.n), reasons(widest.dropped)))
    dataset, model, metric = key
    header = ("method", *(f"{v} ({arrows[v]})" for v in variants), "images", "dropped")
    return Grid(title=f"{metric} on {dataset}, {model}", header=header, rows=tuple(lines))


def reasons(dropped: Mapping[str, int]) -> str:
    """How many images have no value, and why."""
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items())


def value(found: Estimate) -> str:
    """The value with its interval, '-' where there is none."""
    if found.value is None:
        return "-"
    return f"{number(found.value)} {interval(found.ci_low, found.ci_high)}".rstrip()

"""From rows to results, and from results to text and documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from rapbench.core.types import Metric
from rapbench.metrics import METRICS
from rapbench.report.statistics import Estimate, estimate

FIELDS = (
    *("dataset", "model", "weights", "method", "backend", "metric", "variant"),
    *("value", "ci_low", "ci_high", "n", "n_dropped", "direction"),
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One number of a table.

    Attributes:
        source: what it was measured on: dataset, model, model_title, weights, method, method_title, backend, metric.
        variant: the metric's variant.
        direction: 'lower' or 'higher' is better.
        estimate: value, 95 % interval and the images used and dropped.
        skipped: images that could not be read, by reason; they count as dropped.
        headline: place among the variants that a terminal shows, None where only files hold it.
    """

    source: Mapping[str, Any]
    variant: str
    direction: str
    estimate: Estimate
    skipped: Mapping[str, int]
    headline: int | None

    def document(self) -> dict[str, Any]:
        """The result as `--json` prints it."""
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


def results(
    identity: Mapping[str, Any], display: Mapping[str, Any], rows: pd.DataFrame, skipped: Mapping[str, int]
) -> list[Result]:
    """Every variant of a cell's metric, from its rows."""
    metric: Metric = METRICS.load(identity["metric"]["name"])(**identity["metric"]["parameters"])
    return [
        Result(
            source=display,
            variant=name,
            direction=variant.direction,
            estimate=estimate(variant, rows, seed=identity["seed"]),
            skipped=skipped,
            headline=metric.headline.index(name) if name in metric.headline else None,
        )
        for name, variant in metric.variants(signed=display["signed"]).items()
    ]


def text(found: Iterable[Result]) -> str:
    """Tables for a terminal: one a metric, methods down, headline variants across, with 95 % intervals."""
    shown = [result for result in found if result.headline is not None]
    shown.sort(key=lambda r: (r.source["dataset"], r.source["model_title"], r.source["metric"] == "guards"))
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in shown:
        key = (result.source["dataset"], result.source["model_title"], result.source["metric"])
        groups.setdefault(key, []).append(result)
    return "\n\n".join(_table(key, group) for key, group in groups.items())


def _table(key: tuple[str, str, str], group: list[Result]) -> str:
    variants = list(dict.fromkeys(r.variant for r in sorted(group, key=lambda r: r.headline or 0)))
    arrows = {r.variant: r.direction for r in group}
    header = ["method", *(f"{v} ({arrows[v]})" for v in variants), "images", "dropped"]
    lines = []
    for label, of_method in groupby(group, key=_label):
        cells = {r.variant: r for r in of_method}
        widest = max(cells.values(), key=lambda r: r.estimate.n)
        reasons = ", ".join(f"{count} {reason}" for reason, count in widest.dropped.items())
        values = [_value(cells[v]) if v in cells else "-" for v in variants]
        lines.append([label, *values, str(widest.estimate.n), reasons])
    dataset, model, metric = key
    return "\n".join([f"{metric} on {dataset}, {model}", *_aligned([header, *lines])])


def _label(result: Result) -> str:
    backend = result.source["backend"]
    return str(result.source["method"]) + ("" if backend == "native" else f" [{backend}]")


def _value(result: Result) -> str:
    found = result.estimate
    if found.value is None:
        return "-"
    if found.ci_low is None or found.ci_high is None:
        return _number(found.value)
    return f"{_number(found.value)} [{_number(found.ci_low)}, {_number(found.ci_high)}]"


def _number(value: float) -> str:
    """Three decimals, two from ten on, powers of ten for what would print as zero or run wide."""
    if value and not 5e-4 <= abs(value) < 1e4:
        return f"{value:.0e}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

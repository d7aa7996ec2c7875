"""A run carried out, and what it prints."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rapbench.cli import skipped
from rapbench.cli.failures import said
from rapbench.core.stages import stage

if TYPE_CHECKING:
    from rapbench.cli.failures import Failures
    from rapbench.report.result import Result
    from rapbench.results.store import Rows, Store
    from rapbench.run.plan import Experiment
    from rapbench.run.selection import Scan


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished experiment and what it took."""

    experiment: Experiment
    selection: Scan | None
    explanations: int
    seconds: float
    stages: Mapping[str, float]
    residuals: Mapping[str, float]
    rows: Rows
    results: list[Result]
    failures: Mapping[str, str]

    @property
    def has_rows(self) -> bool:
        """Whether anything was computed or found: not where every method or metric failed."""
        return not self.rows.frame.empty

    def document(self) -> dict[str, Any]:
        """It as `--json` prints it."""
        from rapbench.run.plan import versions

        run = {
            **self.experiment.spec.model_dump(mode="json"),
            "model_title": self.experiment.classifier.title,
            "images": self.experiment.limit,
            "selection": self.selection
            and {"scanned": self.selection.scanned, "dropped": dict(self.selection.dropped)},
            "skipped": self.rows.skipped(),
            "noted": self.rows.noted(),
            "failed": dict(self.failures),
            "residuals": self.residuals,
            "versions": versions(),
            "device": self.experiment.device.type,
            "seconds": round(self.seconds, 3),
            "stages": {stage: round(seconds, 3) for stage, seconds in self.stages.items()},
        }
        return {"run": run, "results": [result.document() for result in self.results]}

    def text(self) -> str:
        """It as a terminal shows it."""
        from rapbench.report.formats import printable
        from rapbench.report.tables import text

        out = self.experiment.spec.out
        if self.experiment.study:
            done = f"measured in {self.seconds:.1f} s" if self.explanations else _nothing_left(out)
            return f"{summary(self.experiment)}\n{done}"
        lines = [
            summary(self.experiment),
            f"selection: {self.selection}" if self.selection else "",
            _incidents(self.rows),
            skipped.line(self.rows, self.experiment),
            f"{self.explanations} explanations in {self.seconds:.1f} s{_shares(self.stages)}"
            if self.explanations
            else _nothing_left(out),
            self._foreign(),
            guards(self.results) if self.results else "",
            *(
                f"precision: on the first image, the map of {method} is {distance:.0e} (L1) from float64's, and rows "
                "depend on the batch size to that extent; --precision auto computes in float64 what has to be"
                for method, distance in self.residuals.items()
            ),
        ]
        told = "\n".join(map(printable, filter(None, lines)))
        return f"{told}\n\n{text(self.results)}" if self.results else told

    def _foreign(self) -> str:
        """That rows which were found are of other code or libraries; empty where none are."""
        here = self.experiment.origin
        origins = [origin for result in self.results for origin in result.origins]
        apart = {f"{key} {value}": key for origin in origins for key, value in origin.items() if here.get(key) != value}
        now = ", ".join(f"{key} {here.get(key)}" for key in dict.fromkeys(apart.values()))
        return (
            f"rows were computed by {', '.join(apart)}; here it is {now}: another --out computes afresh"
            if apart
            else ""
        )


def finished(experiment: Experiment, failures: Failures | None = None) -> Finished:
    """Runs what is missing and collects everything.

    Args:
        experiment: the run.
        failures: is told what methods and metrics raise, which are left out then; without it that ends the run.

    Raises:
        BadData: no image can be read.
    """
    from rapbench.cli.progress import ProgressBar
    from rapbench.doctor.probe import residuals
    from rapbench.results.store import Store
    from rapbench.run.engine import execute, reraised, work
    from rapbench.run.plan import candidates
    from rapbench.run.selection import selected

    started, selection = time.monotonic(), None
    if experiment.dataset.label_space and not experiment.has_labels:
        said(
            f"labels of {experiment.dataset_name} ({experiment.dataset.label_space}) are not known to be classes of "
            f"{experiment.classifier.title}: no image counts as misclassified"
        )
    if experiment.spec.select == "correct":
        count = len(candidates(experiment))
        with ProgressBar(count) as progress, stage("selecting images", count):
            experiment, selection = selected(experiment, progress)
    store = Store(experiment.spec.out)
    tasks = experiment.pending(store)
    total = sum(experiment.num_images(task) for task in tasks)
    with ProgressBar(total, unit(experiment), work(experiment, tasks)) as progress:
        stages = execute(experiment, tasks, store, progress, failed=reraised if failures is None else failures)
    worked = _without(experiment, failures or {})
    with ProgressBar(), stage("comparing the first image's maps with float64"):
        apart = residuals(worked)
    rows = _whole(worked, store)
    skipped.note(rows, experiment)
    return Finished(
        experiment=experiment,
        selection=selection,
        explanations=total,
        seconds=time.monotonic() - started,
        stages=stages,
        residuals=apart,
        rows=rows,
        results=collected(worked, store),
        failures=dict(failures or {}),
    )


def unit(experiment: Experiment) -> str:
    """What progress counts: explanations, or the images that a study reads."""
    return "images" if experiment.study else "explanations"


def _nothing_left(out: Path) -> str:
    return f"nothing to compute: all rows are in {out}"


def _without(experiment: Experiment, failed: Collection[str]) -> Experiment:
    """The experiment without the methods and metrics that failed."""
    return replace(
        experiment,
        methods=tuple(m for m in experiment.methods if f"method {m.label}" not in failed),
        metrics=tuple(m for m in experiment.metrics if f"metric {m.label}" not in failed),
    )


def _shares(stages: Mapping[str, float]) -> str:
    """What share of the time each kind of stage took."""
    kinds: Counter[str] = Counter()
    for name, seconds in stages.items():
        kinds[name.partition(" by ")[0]] += seconds  # type: ignore[assignment]
    whole = sum(kinds.values())
    return f" ({', '.join(f'{kind} {100 * s / whole:.0f} %' for kind, s in kinds.items())})" if whole else ""


def collected(experiment: Experiment, store: Store) -> list[Result]:
    """The results of an experiment, in the order of its metrics and methods."""
    from rapbench.report.result import results
    from rapbench.results.store import Held

    found: list[Result] = []
    if experiment.study:  # its rows are no metric's
        return found
    for metric in experiment.metrics:
        for method in experiment.methods:
            cell = experiment.cells[method.label, metric.label]
            found += results(Held(cell=cell, read=partial(store.rows, cell, experiment.blocks(cell))))
    return found


def summary(experiment: Experiment) -> str:
    """A line on what an experiment consists of."""
    cells = [experiment.cells[experiment.methods[0].label, metric.label] for metric in experiment.metrics]
    unit = " layers" if experiment.study else ""
    counts = ", ".join(f"{cell.metric} on {cell.limit}{unit}" for cell in cells)
    way = " ".join(filter(None, (experiment.scoring_precision, "compiled" * experiment.spec.compile_scoring)))
    scoring = f", scoring {way}" if way else ""
    device = f"{experiment.device.type} ({_precisions(experiment)}{scoring})"
    what = f"{experiment.classifier.title} on {experiment.limit} images of {experiment.dataset_name}"
    return f"{what}{_explained(experiment)}, {device}: {counts}"


def _explained(experiment: Experiment) -> str:
    """Which class is explained, where it is not the predicted one."""
    from rapbench.run.target import PREDICTED, called

    if experiment.target == PREDICTED:
        return ""
    classes, index = experiment.classifier.classes, experiment.target
    return f", target {called(int(index), classes) if index.isdecimal() else index}"


def _precisions(experiment: Experiment) -> str:
    """The run's precision, and the methods that need another."""
    wider: dict[str, list[str]] = {}
    for method in experiment.methods:
        wider.setdefault(experiment.arithmetic(method), []).append(method.label)
    own = next(iter(experiment.cells.values())).identity.precision
    told = [f"{name}: {', '.join(labels)}" for name, labels in wider.items() if name != "fp32"]
    return "; ".join([own, *told])


def _whole(experiment: Experiment, store: Store) -> Rows:
    """Rows of a cell that takes all of the run's images; none where every method or metric failed."""
    from pandas import DataFrame

    from rapbench.results.store import Rows

    if not experiment.methods or not experiment.metrics:
        return Rows(DataFrame(), ())
    method = experiment.methods[0].label
    cell = max((experiment.cells[method, metric.label] for metric in experiment.metrics), key=lambda cell: cell.limit)
    return store.rows(cell, experiment.blocks(cell))


def guards(found: list[Result]) -> str:
    """A line on maps that are not what they should be."""
    broken = [
        f"{result.cell.method} {result.estimate.value:.3g} % {what}"
        for variant, what in {"non_finite": "not finite", "constant": "constant"}.items()
        for result in found
        if result.cell.identity.metric.name == "guards" and result.variant == variant and result.estimate.value
    ]
    residuals = {
        result.cell.method: result.estimate.value
        for result in found
        if result.variant == "residual" and result.estimate.value is not None
    }
    worst = max(residuals, key=lambda method: residuals[method], default=None)
    sums = f"; sums off by {residuals[worst]:.0e} at most ({worst}, median over images)" if worst else ""
    return f"guards: {', '.join(broken) or 'every map finite, none constant'}{sums}"


def _incidents(rows: Rows) -> str:
    """What was wrong with or unusual about images, empty where nothing was."""
    parts = [f"{count} {reason} (skipped)" for reason, count in rows.skipped().items()]
    parts += [f"{count} {reason}" for reason, count in rows.noted().items()]
    return f"images: {', '.join(parts)}" if parts else ""

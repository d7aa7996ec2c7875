"""A stored run as it would be computed now, for what a report computes again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rapbench.core.errors import DataMissing

if TYPE_CHECKING:
    from pathlib import Path

    from rapbench.core.types import Classifier, Dataset
    from rapbench.report.runs import Run
    from rapbench.run.plan import Experiment


def prepared(run: Run, given: Mapping[str, object]) -> Experiment:
    """The experiment of a run; nothing is downloaded or fitted for it.

    Args:
        run: of the store.
        given: settings that are others than the run's, and those that a store does not hold whole.

    Raises:
        DataMissing: data, weights or patterns are not there.
        RapbenchError: whatever else a run of the same settings would say.
    """
    from rapbench.cli.progress import ProgressBar
    from rapbench.core.stages import stage
    from rapbench.run import resolve
    from rapbench.run.spec import RunSpec

    spec = RunSpec.read(None, {**run.options(), "shuffle": run.cell.identity.dataset.shuffle, **given})
    if missing := resolve.absent(spec):
        raise DataMissing(missing)
    with ProgressBar(), stage(f"loading {spec.dataset} and {spec.model}"):
        return resolve.prepare(spec, _fitted)


def _fitted(classifier: Classifier, images: Dataset) -> Path:
    """Patterns that a run has fitted."""
    from rapbench.core.cache import cache_folder
    from rapbench.run.fit import fitted_already

    file = fitted_already(classifier, images, cache_folder() / "patterns")
    if file is None:
        raise DataMissing(f"the patterns that explain {classifier.title} are not in {cache_folder()}")
    return file

"""Rows of chosen images computed again, as a run computes them, into a folder that is thrown away."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from rapbench.results.store import Store
from rapbench.run.engine import Failed, Progress, execute
from rapbench.run.plan import Experiment, Task, blocks


def recomputed(
    experiment: Experiment, asked: Mapping[str, Collection[str]], progress: Progress, failed: Failed
) -> dict[str, pd.DataFrame]:
    """The rows by their cell's key.

    Args:
        experiment: the run as it would be computed now.
        asked: by an image's id, the keys of the cells whose rows of it are wanted.
        progress: told how many more (image, method) pairs are done.
        failed: told of what a method or a metric raises, whose rows are left out.
    """
    groups: dict[frozenset[str], list[str]] = {}
    for image, keys in asked.items():
        groups.setdefault(frozenset(keys), []).append(image)
    found: dict[str, list[pd.DataFrame]] = {}
    for keys, images in groups.items():
        with TemporaryDirectory() as folder:
            for key, rows in _rows(experiment, keys, images, Path(folder), progress, failed).items():
                found.setdefault(key, []).append(rows)
    return {key: pd.concat(some, ignore_index=True) for key, some in found.items()}


def num_explanations(experiment: Experiment, asked: Mapping[str, Collection[str]]) -> int:
    """How many (image, method) pairs that takes."""
    methods = {cell.key: cell.identity.method.name + cell.method for cell in experiment.cells.values()}
    return sum(len({methods[key] for key in keys}) for keys in asked.values())


def _rows(
    experiment: Experiment,
    keys: Collection[str],
    images: Sequence[str],
    folder: Path,
    progress: Callable[[int], None],
    failed: Failed,
) -> dict[str, pd.DataFrame]:
    """The rows of some cells for the same images."""
    places = {image: index for index, image in enumerate(experiment.dataset.ids)}
    chosen = replace(experiment, order=tuple(places[image] for image in images if image in places))
    tasks = [
        Task(block, method, tuple(m for m in chosen.metrics if chosen.cells[method.label, m.label].key in keys))
        for block in blocks(chosen.limit)
        for method in chosen.methods
    ]
    store = Store(folder)
    execute(chosen, [task for task in tasks if task.metrics], store, progress, failed=failed)
    return {one.cell.key: one.rows.frame for one in store.held() if len(one.rows.frame)}

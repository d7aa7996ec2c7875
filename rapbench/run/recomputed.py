"""Rows of chosen blocks computed again, as a run computes them, into a folder that is thrown away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pandas as pd

from rapbench.results.store import Store
from rapbench.run.engine import Failed, Progress, execute
from rapbench.run.plan import Experiment, Task, blocks


class Again(NamedTuple):
    """A block of images, in the run's order, and the keys of the cells whose rows of them are wanted."""

    images: Sequence[str]
    keys: frozenset[str]


def recomputed(
    experiment: Experiment, asked: Sequence[Again], progress: Progress, failed: Failed
) -> dict[str, pd.DataFrame]:
    """The rows by their cell's key, each block by itself: what a batch holds decides how it is rounded.

    Args:
        experiment: the run as it would be computed now.
        asked: the blocks.
        progress: told how many more (image, method) pairs are done.
        failed: told of what a method or a metric raises, whose rows are left out.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for block in asked:
        with TemporaryDirectory() as folder:
            for key, rows in _rows(experiment, block, Path(folder), progress, failed).items():
                found.setdefault(key, []).append(rows)
    return {key: pd.concat(some, ignore_index=True) for key, some in found.items()}


def num_explanations(experiment: Experiment, asked: Sequence[Again]) -> int:
    """How many (image, method) pairs that takes."""
    methods = {cell.key: cell.method for cell in experiment.cells.values()}
    return sum(len(images) * len({methods[key] for key in keys}) for images, keys in asked)


def _rows(
    experiment: Experiment, asked: Again, folder: Path, progress: Callable[[int], None], failed: Failed
) -> dict[str, pd.DataFrame]:
    """The rows of some cells for the images of a block."""
    places = {image: index for index, image in enumerate(experiment.dataset.ids)}
    chosen = replace(experiment, order=tuple(places[image] for image in asked.images if image in places))
    tasks = [
        Task(block, method, tuple(m for m in chosen.metrics if chosen.cells[method.label, m.label].key in asked.keys))
        for block in blocks(chosen.limit)
        for method in chosen.methods
    ]
    store = Store(folder)
    execute(chosen, [task for task in tasks if task.metrics], store, progress, failed=failed)
    return {one.cell.key: one.rows.frame for one in store.held() if len(one.rows.frame)}

"""Runs an experiment: images are read ahead, classified once, explained once a method, scored by every metric."""

from __future__ import annotations

import io
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from rapbench.core.named import Named
from rapbench.core.types import Explained, Method, Metric
from rapbench.results.claims import Claims
from rapbench.results.store import Block, Store, write_whole
from rapbench.run.explainer import Classified, Explainer
from rapbench.run.plan import Experiment, Study, Task, within
from rapbench.run.reading import Loaded, read

Progress = Callable[[int], None]
"""Told how many more (image, method) pairs are done."""
Failed = Callable[[Task, Exception], None]
"""Told of a task that raised."""


def _raised(_: Task, error: Exception) -> None:
    raise error


def execute(
    experiment: Experiment,
    tasks: Sequence[Task],
    store: Store,
    progress: Progress,
    claims: Claims | None = None,
    failed: Failed = _raised,
) -> Mapping[str, float]:
    """Computes every task and writes its rows, block by block; returns the seconds that each stage took.

    With claims, tasks that another worker has claimed or done in the meantime are left out. What a task raises goes to
    `failed`, which raises it again unless told otherwise.
    """
    clock = Clock(experiment.device)
    if not tasks:
        return clock.seconds
    if experiment.study:
        _measure(experiment, experiment.study.thing, tasks, store, clock, progress, claims, failed)
        return clock.seconds
    explainer = Explainer(experiment)
    groups: deque[list[Task]] = deque()
    images = read(experiment, _taken(experiment, tasks, store, claims, groups))
    with torch.no_grad():
        while True:
            with clock("reading"):
                loaded = next(images, None)
            if loaded is None:
                return clock.seconds
            with clock("classifying"):
                clean = explainer.classified(loaded)
            for task in groups.popleft():
                try:
                    _do(task, explainer, loaded, clean, store, clock)
                except Exception as error:  # noqa: BLE001 - whatever a method or a device raises
                    failed(task, error)
                if claims:
                    claims.release(experiment.task_id(task))
                progress(loaded.block.stop - loaded.block.start)


def _measure(
    experiment: Experiment,
    study: Study,
    tasks: Sequence[Task],
    store: Store,
    clock: Clock,
    progress: Progress,
    claims: Claims | None,
    failed: Failed,
) -> None:
    """Does the tasks of a study, likewise."""
    experiment.classifier.module.to(experiment.device)
    for task in tasks:
        if not _mine(experiment, task, store, claims):
            continue
        try:
            with clock(f"measuring {study.title}"):
                columns = study.rows(experiment, task.block, progress)
            for metric in task.metrics:
                store.write(
                    experiment.cells[task.method.label, metric.label], task.block, columns, [], experiment.origin
                )
        except Exception as error:  # noqa: BLE001 - whatever a device raises
            failed(task, error)
        if claims:
            claims.release(experiment.task_id(task))


def _do(task: Task, explainer: Explainer, loaded: Loaded, clean: Classified | None, store: Store, clock: Clock) -> None:
    """Explains a block by one method, scores it by every metric that is missing, and writes the rows."""
    experiment = explainer.experiment
    with clock(f"explaining by {task.method.label}"):
        explained = explainer.explained(task.method, clean) if clean else None
    if explained and experiment.spec.save_maps:
        _save_maps(experiment, task.method, loaded, explained)
    for metric in task.metrics:
        with clock(f"scoring by {metric.label}"):
            _score(experiment, (task.method, metric), loaded, explained, store)


def _taken(
    experiment: Experiment, tasks: Sequence[Task], store: Store, claims: Claims | None, groups: deque[list[Task]]
) -> Iterator[Block]:
    """The blocks to read; what is to be done on each is appended to `groups` as it is taken."""
    for block, group in groupby(tasks, key=lambda task: task.block):
        if mine := [task for task in group if _mine(experiment, task, store, claims)]:
            groups.append(mine)
            yield block


def _mine(experiment: Experiment, task: Task, store: Store, claims: Claims | None) -> bool:
    """Whether a task is this worker's: it could be claimed, and no other has finished it before."""
    if claims is None:
        return True
    if not claims.take(experiment.task_id(task)):
        return False
    pending = experiment.is_pending(task, store)
    if not pending:
        claims.release(experiment.task_id(task))
    return pending


class Clock:
    """Wall time by stage, the device's work included."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds[stage] += time.perf_counter() - start


def _score(
    experiment: Experiment,
    cell_of: tuple[Named[Method], Named[Metric]],
    loaded: Loaded,
    explained: Explained | None,
    store: Store,
) -> None:
    """Scores a block by one metric and writes the rows."""
    method, metric = cell_of
    cell = experiment.cells[method.label, metric.label]
    block = within(loaded.block, cell.limit)
    assert block is not None
    count = sum(position < block.stop for position in loaded.positions)
    columns: dict[str, np.ndarray] = {}
    if explained is not None and count:
        scores = metric.thing(explained.head(count))
        columns = _identity_columns(experiment, loaded, explained, count) | {k: _numpy(v) for k, v in scores.items()}
    incidents = [incident for incident in loaded.incidents if incident.position < block.stop]
    store.write(cell, block, columns, incidents, experiment.origin)


def _identity_columns(
    experiment: Experiment, loaded: Loaded, explained: Explained, count: int
) -> dict[str, np.ndarray]:
    labels = [s.label if experiment.has_labels and s.label is not None else -1 for s in loaded.samples[:count]]
    return {
        "index": np.array(loaded.positions[:count]),
        "id": np.array([s.id for s in loaded.samples[:count]]),
        "label": np.array(labels),
        "target": _numpy(explained.target[:count]),
    }


def _save_maps(experiment: Experiment, method: Named[Method], loaded: Loaded, explained: Explained) -> None:
    logits = explained.logits.gather(1, explained.target.unsqueeze(1)).squeeze(1)
    for n, sample in enumerate(loaded.samples):
        content = io.BytesIO()
        relevance, target = _numpy(explained.relevance[n]), _numpy(explained.target[n])
        np.savez(content, relevance=relevance, target=target, logit=_numpy(logits[n]))
        write_whole(experiment.map_file(method, sample.id), content.getvalue())


def _numpy(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()

"""Runs an experiment: images are read ahead, classified once, explained once a method, scored by every metric."""

from __future__ import annotations

import io
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from rapbench.core.abilities import asks_for_maps
from rapbench.core.errors import BadConfig, last_line
from rapbench.core.named import Named
from rapbench.core.stages import stage
from rapbench.core.types import Explained, Method, Metric
from rapbench.core.writing import write_whole
from rapbench.metrics.masked import take_fewer_inputs
from rapbench.results.claims import Claims
from rapbench.results.store import Block, Store
from rapbench.run.explainer import Classified, Explainer
from rapbench.run.lent import copied, leaving_no_trace
from rapbench.run.plan import BLOCK_SIZE, Experiment, Study, Task
from rapbench.run.reading import Loaded, read
from rapbench.run.target import PREDICTED

T = TypeVar("T")
Progress = Callable[[int], None]
"""Told how many more (image, method) pairs are done."""


class Fault(Exception):
    """What a method, a metric or a study raised; `who` names it."""

    def __init__(self, who: str, error: Exception) -> None:
        super().__init__(who, error)
        self.who, self.error = who, error

    def __str__(self) -> str:
        return f"{self.who}: {last_line(self.error)}"


Failed = Callable[[Task, Fault], bool]
"""Told of a failure; whether what failed is left out of the rest of the run."""


def reraised(_: Task, fault: Fault) -> bool:
    """Ends the run with what was raised."""
    raise fault.error


class Attempts:
    """Calls of what may come from outside."""

    def __init__(self, failed: Failed) -> None:
        self._failed = failed
        self._left_out: set[str] = set()

    def __call__(self, task: Task, who: str, call: Callable[[], T]) -> T | None:
        """What a call gives; None where it raises, or did before and is left out."""
        if who in self._left_out:
            return None
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - whatever a method, a metric or a device raises
            if self._failed(task, Fault(who, error)):
                self._left_out.add(who)
            return None


def execute(
    experiment: Experiment,
    tasks: Sequence[Task],
    store: Store,
    progress: Progress,
    claims: Claims | None = None,
    failed: Failed = reraised,
) -> Mapping[str, float]:
    """Computes every task and writes its rows, block by block; returns the seconds that each stage took.

    With claims, tasks that another worker has claimed or done in the meantime are left out. What a method or a metric
    raises goes to `failed`, which by default raises it again; the others go on.
    """
    clock, attempts = Clock(experiment.device), Attempts(failed)
    if not tasks:
        return clock.seconds
    if experiment.study:
        _measure(experiment, experiment.study.thing, tasks, store, clock, progress, claims, attempts)
        return clock.seconds
    explainer = Explainer(experiment)
    groups: deque[list[Task]] = deque()
    images = read(experiment, _taken(experiment, tasks, store, claims, groups))
    with torch.no_grad():
        while True:
            with clock("reading", BLOCK_SIZE):
                loaded = next(images, None)
            if loaded is None:
                return clock.seconds
            count = loaded.block.stop - loaded.block.start
            with clock("classifying", count):
                clean = explainer.classified(loaded)
            for task in groups.popleft():
                _do(task, explainer, loaded, clean, store, clock, attempts)
                if claims:
                    claims.release(experiment.task_id(task))
                progress(count)


def _measure(
    experiment: Experiment,
    study: Study,
    tasks: Sequence[Task],
    store: Store,
    clock: Clock,
    progress: Progress,
    claims: Claims | None,
    attempts: Attempts,
) -> None:
    """Does the tasks of a study, likewise."""
    experiment.classifier.module.to(experiment.device)
    for task in tasks:
        if not _mine(experiment, task, store, claims):
            continue
        with clock(f"measuring {study.title}", experiment.num_images(task)):
            rows = partial(study.rows, experiment, task.block, progress)
            columns = attempts(task, f"study {task.method.label}", rows)
        if columns is not None:
            for metric in task.metrics:
                cell = experiment.cells[task.method.label, metric.label]
                store.write(cell, task.block, columns, [], experiment.origin)
        if claims:
            claims.release(experiment.task_id(task))


def _do(
    task: Task,
    explainer: Explainer,
    loaded: Loaded,
    clean: Classified | None,
    store: Store,
    clock: Clock,
    attempts: Attempts,
) -> None:
    """Explains a block by one method, scores it by every metric that is missing, and writes the rows."""
    experiment, method, explained = explainer.experiment, task.method, None
    if clean:
        with clock(f"explaining by {method.label}", task.block.stop - task.block.start):
            explained = attempts(task, f"method {method.label}", partial(explainer.explained, method, clean))
        if explained is None:
            return
    if explained and experiment.spec.save_maps:
        _save_maps(experiment, method, loaded, explained)
    for metric in task.metrics:
        part = experiment.part(task, metric)
        count = sum(position < part.stop for position in loaded.positions)
        with clock(f"scoring by {metric.label}", part.stop - part.start, of=method.label):
            scored = partial(_columns, experiment, metric, loaded, count, explained)
            columns = attempts(task, _who(metric, method), scored)
        if columns is not None:
            incidents = [incident for incident in loaded.incidents if incident.position < part.stop]
            store.write(experiment.cells[method.label, metric.label], part, columns, incidents, experiment.origin)


def _who(metric: Named[Metric], method: Named[Method]) -> str:
    """Who is at fault where a metric raises: what explains more inputs can fail by one method alone."""
    return f"metric {metric.label}" + (f" of {method.label}" if asks_for_maps(metric.thing) else "")


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
    def __call__(self, name: str, images: int = 0, of: str = "") -> Iterator[None]:
        """A stage, told of as `stage` has it."""
        start = time.perf_counter()
        with stage(name, images, of):
            yield
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        self.seconds[name] += time.perf_counter() - start


def work(experiment: Experiment, tasks: Sequence[Task]) -> Mapping[str, int]:
    """How many images each stage of some tasks has to do."""
    if experiment.study:
        return {f"measuring {experiment.study.thing.title}": sum(map(experiment.num_images, tasks))}
    once = sum(block.stop - block.start for block in {task.block for task in tasks})
    counts = Counter({"reading": once, "classifying": once})
    for task in tasks:
        counts[f"explaining by {task.method.label}"] += task.block.stop - task.block.start
        for metric in task.metrics:
            part = experiment.part(task, metric)
            counts[f"scoring by {metric.label}"] += part.stop - part.start
    return counts


def _columns(
    experiment: Experiment, metric: Named[Metric], loaded: Loaded, count: int, explained: Explained | None
) -> dict[str, np.ndarray]:
    """The rows of the first so many images by one metric, as columns; none where there is no image."""
    if explained is None or not count:
        return {}
    with leaving_no_trace(experiment.device):
        scores = _scored(metric.thing, explained.head(count), experiment.device)
    _check_scores(scores, count)
    return _identity_columns(experiment, loaded, explained, count) | {k: _numpy(v) for k, v in scores.items()}


def _scored(metric: Metric, explained: Explained, device: torch.device) -> dict[str, Tensor]:
    """What a metric says; where memory runs out it is asked again, and builds fewer inputs at once from then on."""
    while True:
        try:
            return metric(copied(explained))
        except torch.OutOfMemoryError:
            if not take_fewer_inputs(device.type):
                raise
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _check_scores(scores: Mapping[str, object], count: int) -> None:
    """Whether a metric returned what it is to return: columns (N,) or (N, L)."""
    for name, column in scores.items():
        if not isinstance(column, Tensor) or column.dim() not in {1, 2} or len(column) != count:
            found = tuple(column.shape) if isinstance(column, Tensor) else type(column).__name__
            raise BadConfig(
                f"returns {found} as {name}: a column is a tensor of one entry, or one row, for each of {count} images"
            )


def _identity_columns(
    experiment: Experiment, loaded: Loaded, explained: Explained, count: int
) -> dict[str, np.ndarray]:
    labels = [s.label if experiment.has_labels and s.label is not None else -1 for s in loaded.samples[:count]]
    return {
        "index": np.array(loaded.positions[:count]),
        "id": np.array([s.id for s in loaded.samples[:count]]),
        "label": np.array(labels),
        "target": _numpy(explained.target[:count]),
        **({} if experiment.target == PREDICTED else {"predicted": _numpy(explained.logits[:count].argmax(1))}),
    }


def _save_maps(experiment: Experiment, method: Named[Method], loaded: Loaded, explained: Explained) -> None:
    logits = explained.logits.gather(1, explained.target.unsqueeze(1)).squeeze(1)
    for n, sample in enumerate(loaded.samples):
        content = io.BytesIO()
        relevance, target = _numpy(explained.relevance[n]), _numpy(explained.target[n])
        np.savez(content, relevance=relevance, target=target, logit=_numpy(logits[n]))
        write_whole(experiment.map_file(method, sample.id), content.getvalue())


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()

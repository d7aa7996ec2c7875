"""Runs an experiment: images are read ahead, classified once, explained once a method, scored by every metric."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from rapbench.core.allocator import keep_freed_memory
from rapbench.core.errors import BadData
from rapbench.core.seeds import image_seed
from rapbench.core.types import Complete, Explained, Method, Sample
from rapbench.methods import METHODS
from rapbench.relprop.trace import trace
from rapbench.run.batches import Batches
from rapbench.run.plan import Experiment, Named, Task, within
from rapbench.run.store import Block, Incident, Store, write_whole

Progress = Callable[[int], None]
"""Told how many more (image, method) pairs are done."""

_BATCH = {"cpu": (8, 8), "cuda": (32, 256)}
"""Images a batch when explaining and when only classifying: on a CPU, what stays in its caches."""


@dataclass(frozen=True)
class Loaded:
    """The readable images of a block with their positions in the data set, and what happened while reading."""

    block: Block
    indices: tuple[int, ...]
    samples: tuple[Sample, ...]
    incidents: tuple[Incident, ...]


@dataclass(frozen=True)
class Classified:
    """A block after the one clean forward pass."""

    loaded: Loaded
    x: Tensor
    logits: Tensor
    target: Tensor


def execute(experiment: Experiment, tasks: list[Task], store: Store, progress: Progress) -> None:
    """Computes every task and writes its rows, block by block."""
    engine = _Engine(experiment, store, progress)
    by_block = [(block, list(group)) for block, group in groupby(tasks, key=lambda task: task.block)]
    with _pillow_is_silent(), ThreadPoolExecutor(max_workers=4) as pool, torch.no_grad():
        for loaded, group in zip(
            _read_ahead(experiment, [block for block, _ in by_block], pool), by_block, strict=True
        ):
            engine.run(loaded, group[1])


@contextmanager
def _pillow_is_silent() -> Iterator[None]:
    """What Pillow warns of, for example damaged EXIF fields, leaves the pixels right; the rest it raises."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _read_ahead(experiment: Experiment, blocks: list[Block], pool: ThreadPoolExecutor) -> Iterator[Loaded]:
    """The blocks' images in order; the next block is being read while one is worked on."""

    def begin(block: Block) -> list[Future[tuple[Sample | None, Incident | None]]]:
        return [pool.submit(_sample, experiment, index) for index in range(block.start, block.stop)]

    ahead = begin(blocks[0]) if blocks else []
    for n, block in enumerate(blocks):
        current, ahead = ahead, begin(blocks[n + 1]) if n + 1 < len(blocks) else []
        found = [(block.start + i, *future.result()) for i, future in enumerate(current)]
        read = [(index, sample) for index, sample, _ in found if sample is not None]
        incidents = tuple(incident for _, _, incident in found if incident is not None)
        yield Loaded(block, tuple(index for index, _ in read), tuple(sample for _, sample in read), incidents)


def _sample(experiment: Experiment, index: int) -> tuple[Sample | None, Incident | None]:
    """An image, and what there is to say about reading it."""
    image_id = experiment.dataset.ids[index]
    try:
        sample = experiment.dataset[index]
    except BadData as error:
        if experiment.spec.strict:
            raise
        return None, Incident(index, image_id, error.reason, skipped=True)
    if not sample.note:
        return sample, None
    if experiment.spec.strict:
        raise BadData(sample.note, image_id)
    return sample, Incident(index, image_id, sample.note, skipped=False)


class _Engine:
    def __init__(self, experiment: Experiment, store: Store, progress: Progress) -> None:
        self.experiment, self.store, self.progress = experiment, store, progress
        spec, device = experiment.spec, experiment.device
        if device.type == "cpu":
            keep_freed_memory()
        _set_precision(spec.precision)
        self.dtype = torch.bfloat16 if spec.precision == "bf16" else torch.float32
        self.module = experiment.classifier.module.to(device, self.dtype).to(memory_format=torch.channels_last)
        self.graph = trace(self.module) if spec.backend == "native" else None
        explaining, classifying = _BATCH[device.type]
        self.explaining = Batches(spec.batch_size or explaining)
        self.classifying = Batches(spec.batch_size or classifying)

    def run(self, loaded: Loaded, tasks: list[Task]) -> None:
        classified = self._classified(loaded) if loaded.samples else None
        for task in tasks:
            self._run(task, loaded, classified)
            self.progress(loaded.block.stop - loaded.block.start)

    def _run(self, task: Task, loaded: Loaded, classified: Classified | None) -> None:
        explained = self._explained(task.method, classified) if classified else None
        if explained is not None and self.experiment.spec.save_maps:
            self._save_maps(task.method, loaded, explained)
        for metric in task.metrics:
            cell = self.experiment.cells[task.method.label, metric.label]
            block = within(loaded.block, cell.limit)
            assert block is not None
            count = sum(index < block.stop for index in loaded.indices)
            columns: dict[str, np.ndarray] = {}
            if explained is not None and count:
                scores = metric.thing(explained.head(count))
                columns = self._identity_columns(loaded, explained, count) | {k: _numpy(v) for k, v in scores.items()}
            incidents = [incident for incident in loaded.incidents if incident.position < block.stop]
            self.store.write(cell, block, columns, incidents)

    def classify(self, x: Tensor) -> Tensor:
        """Logits (M, K) float32 of any number of inputs, without gradients."""
        return self.classifying.map(lambda part: self.module(part.to(self.dtype)).float(), x)

    def _classified(self, loaded: Loaded) -> Classified:
        images = torch.stack([sample.image for sample in loaded.samples]).to(self.experiment.device)
        x = self.experiment.classifier.normalised(images).contiguous(memory_format=torch.channels_last)
        logits = self.classify(x)
        return Classified(loaded, x, logits, logits.argmax(1))

    def _explained(self, method: Named[Method], clean: Classified) -> Explained:
        samples = clean.loaded.samples
        seeds = [image_seed(self.experiment.spec.seed, sample.id) for sample in samples]
        model = self.graph if self.graph is not None and method.name in METHODS else self.module

        def explain(x: Tensor, target: Tensor, seeds: Tensor) -> Tensor:
            return method.thing(model, x.to(self.dtype), target, seeds=seeds).float()

        device = self.experiment.device
        return Explained(
            relevance=self.explaining.map(explain, clean.x, clean.target, torch.tensor(seeds)),
            x=clean.x,
            logits=clean.logits,
            target=clean.target,
            boxes=tuple(None if s.boxes is None else s.boxes.to(device) for s in samples),
            mask=tuple(None if s.mask is None else s.mask.to(device) for s in samples),
            classify=self.classify,
            black=self.experiment.classifier.black(),
            total=self._total(method.thing, clean),
        )

    def _total(self, method: Method, clean: Classified) -> Tensor | None:
        """What each map should sum to, where the method says."""

        def logits(x: Tensor) -> Tensor:
            return clean.logits if x is clean.x else self.classify(x)

        return method.total(logits, clean.x, clean.target) if isinstance(method, Complete) else None

    def _identity_columns(self, loaded: Loaded, explained: Explained, count: int) -> dict[str, np.ndarray]:
        shared = self.experiment.dataset.label_space == self.experiment.classifier.label_space
        labels = [s.label if shared and s.label is not None else -1 for s in loaded.samples[:count]]
        return {
            "index": np.array(loaded.indices[:count]),
            "id": np.array([s.id for s in loaded.samples[:count]]),
            "label": np.array(labels),
            "target": _numpy(explained.target[:count]),
        }

    def _save_maps(self, method: Named[Method], loaded: Loaded, explained: Explained) -> None:
        logits = explained.logits.gather(1, explained.target.unsqueeze(1)).squeeze(1)
        for n, sample in enumerate(loaded.samples):
            path = self.experiment.map_file(method, sample.id)
            content = io.BytesIO()
            relevance, target = _numpy(explained.relevance[n]), _numpy(explained.target[n])
            np.savez(content, relevance=relevance, target=target, logit=_numpy(logits[n]))
            write_whole(path, content.getvalue())


def _set_precision(precision: str) -> None:
    """float32 products are exact unless tf32 is asked for: ties and signs near zero depend on it."""
    allow = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow


def _numpy(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()

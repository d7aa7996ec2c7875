"""A run made concrete: what it consists of, block by block, and what of it is still to be computed."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Protocol
from urllib.parse import quote

import torch

from rapbench import __version__
from rapbench.core.errors import BadData, SpecMismatch
from rapbench.core.named import Named, parameters
from rapbench.core.paths import stem_of
from rapbench.core.sources import code_digest, source_digest
from rapbench.core.types import Classifier, Dataset, Method, Metric, Sample
from rapbench.methods.arithmetic import Arithmetic, Demanding
from rapbench.relprop.graph import Graph
from rapbench.relprop.tracing.trace import trace
from rapbench.results.cell import Cell, DatasetIdentity, Identity, MethodIdentity, MetricIdentity, ModelIdentity
from rapbench.results.store import Block, BlockFile, Columns, Store, covers
from rapbench.run.spec import RunSpec
from rapbench.run.target import LABEL, PREDICTED

BLOCK_SIZE = 32
"""Images a block: what a killed run loses at most, for one method."""
_LIBRARIES = ("captum", "zennit")
"""Backends that are libraries, of which versions differ."""
_IN_FILE_NAMES = " ()=,'"
"""What stands in names of files as it is, besides letters, digits and _.-~; the rest is escaped as in an URL."""


@dataclass(frozen=True)
class Task:
    """One method on one block of images, with the metrics whose rows are missing."""

    block: Block
    method: Named[Method]
    metrics: tuple[Named[Metric], ...]


class Study(Protocol):
    """A study; a frozen dataclass whose fields are its parameters.

    Its work is divided as that of a metric: into blocks, each a task with a file of rows, so that shards, resumption,
    status and previews hold for it. Positions are places of what is measured, for example layers, not of images.
    """

    title: ClassVar[str]
    signed: ClassVar[bool]
    block_size: ClassVar[int]
    """Positions a block."""

    def size(self, experiment: Experiment) -> int:
        """How many positions there are."""

    def rests_on(self, experiment: Experiment) -> Mapping[str, Any]:
        """Which images its numbers rest on: enters the key."""

    def num_read(self, experiment: Experiment) -> int:
        """How many images one block reads."""

    def rows(self, experiment: Experiment, block: Block, progress: Callable[[int], None]) -> Columns:
        """The rows of a block's positions, which `index` names; `progress` is told how many more images are read."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything a run needs, loaded and checked.

    `order` holds the data set's indices of the images it takes; positions, in blocks and rows, are places in it. The
    class explained is `target`: 'predicted', 'label', or the index of one class in digits. With a
    study nothing is explained: the study is the one method and the one metric, and positions are the study's.
    """

    spec: RunSpec
    device: torch.device
    dataset: Dataset
    dataset_name: str
    classifier: Classifier
    methods: tuple[Named[Method], ...]
    metrics: tuple[Named[Metric], ...]
    order: tuple[int, ...]
    target: str = PREDICTED
    study: Named[Study] | None = None

    @property
    def limit(self) -> int:
        """How many images the run takes."""
        return len(self.order)

    @property
    def ids(self) -> tuple[str, ...] | None:
        """The images' ids by position; None where positions are a study's."""
        return None if self.study else tuple(self.dataset.ids[index] for index in self.order)

    @property
    def has_labels(self) -> bool:
        """Whether the images' labels are classes of the network."""
        return bool(self.dataset.label_space) and self.dataset.label_space == self.classifier.label_space

    @cached_property
    def cells(self) -> Mapping[tuple[str, str], Cell]:
        """The cell of each (method label, metric label)."""
        return {(m.label, s.label): self._cell(m, s) for m in self.methods for s in self.metrics}

    @property
    def _block_size(self) -> int:
        return self.study.thing.block_size if self.study else BLOCK_SIZE

    @cached_property
    def size(self) -> int:
        """How many positions there are: images, or what a study measures."""
        return self.study.thing.size(self) if self.study else self.limit

    def num_images(self, task: Task) -> int:
        """How many images a task explains, or a study's task reads."""
        return self.study.thing.num_read(self) if self.study else task.block.stop - task.block.start

    def blocks(self, cell: Cell) -> list[Block]:
        """The blocks that a cell consists of."""
        return blocks(cell.limit, self._block_size)

    def tasks(self) -> list[Task]:
        """All work of the run, block by block; the spec alone decides how it is cut."""
        return [
            Task(block, method, self._scoring(method, block))
            for block in blocks(self.size, self._block_size)
            for method in self.methods
        ]

    def pending(self, store: Store) -> list[Task]:
        """What is missing in the store.

        Raises:
            SpecMismatch: rows that are there were computed by other versions or on another device, and adding to them
                was not allowed.
        """
        readable = cache(self.is_readable)  # images that could not be read are tried again
        held = {key: store.files(cell, self.ids, readable) for key, cell in self.cells.items()}
        tasks = [left for task in self.tasks() if (left := self._left(task, held))]
        if tasks and not self.spec.allow_mixed:
            self._refuse_others(held)
        return tasks

    def refuse_others(self, store: Store) -> None:
        """Refuses a folder with rows of this run that were computed by other versions or on another device.

        Raises:
            SpecMismatch: it holds some; the message says by what.
        """
        self._refuse_others({key: store.files(cell) for key, cell in self.cells.items()})

    def is_pending(self, task: Task, store: Store) -> bool:
        """Whether a task of the plan is still to be done, as the folder is now."""
        asked = [(self.cells[task.method.label, metric.label], self.part(task, metric)) for metric in task.metrics]
        files = [store.found(cell, block) for cell, block in asked]
        return not all(files) or self._maps_missing(task.method, task.block, filter(None, files))

    def part(self, task: Task, metric: Named[Metric]) -> Block:
        """The images of a task that a metric scores."""
        block = within(task.block, self.cells[task.method.label, metric.label].limit)
        assert block is not None
        return block

    def task_id(self, task: Task) -> str:
        """The task's name among all that share the results folder."""
        keys = sorted(
            self.cells[task.method.label, metric.label].key for metric in self._scoring(task.method, task.block)
        )
        digits = hashlib.sha256("".join(keys).encode()).hexdigest()[:8]
        name = task.method.name.rpartition(":")[2]
        return stem_of(f"{self.dataset_name}.{self.classifier.name}.{name}.{task.block.stem}.{digits}")

    def files(self, task: Task) -> list[str]:
        """Paths in the results folder, without their last digits and suffix, of the block files that a task writes."""
        return [
            f"{self.cells[task.method.label, metric.label].folder}/{self.part(task, metric).stem}"
            for metric in task.metrics
        ]

    @cached_property
    def origin(self) -> Mapping[str, str]:
        """What numbers may depend on besides the spec."""
        cuda = self.device.type == "cuda"
        library = {self.spec.backend: version(self.spec.backend)} if self.spec.backend in _LIBRARIES else {}
        code = {"code": code_digest(self.study.thing)} if self.study else {}
        device = torch.cuda.get_device_name(self.device) if cuda else platform.machine()
        scoring = {"scoring": "compiled"} if self.spec.compile_scoring else {}
        return {**versions(), **library, **code, **self._batch_size_that_matters, **scoring, "device": device}

    @property
    def _batch_size_that_matters(self) -> Mapping[str, str]:
        """Of explaining, where a method is computed in less than it needs: rounding then depends on it."""
        if self.study or self.spec.precision in {"auto", "fp64"} or all(self.wanted(m) == "fp32" for m in self.methods):
            return {}
        return {"batch size": str(self.spec.batch_size or "usual")}

    @property
    def scoring_precision(self) -> str | None:
        """What masked inputs are classified in, None where in the precision of the run."""
        own, explaining = self.spec.scoring_precision, self.spec.held_in
        return None if own in {"same", explaining} else own

    def map_file(self, method: Named[Method], image_id: str) -> Path:
        """Where `--save-maps` puts one map: in a folder named after all that it depends on, under the image's id."""
        assert self.spec.save_maps is not None
        return self.spec.save_maps / self._map_folders[method.label] / f"{quote(image_id, safe=_IN_FILE_NAMES)}.npz"

    @cached_property
    def _map_folders(self) -> Mapping[str, str]:
        """Of each method: data set, network and method in words, and the digits of everything its maps depend on."""
        found = {}
        for method in self.methods:
            document = self.cells[method.label, self.metrics[0].label].identity.document()
            basis = {**{key: part for key, part in document.items() if key != "metric"}, "origin": self.origin}
            digits = hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:16]
            names = (self.dataset_name, self.classifier.name, method.folder)
            found[method.label] = ".".join([*(quote(name, safe=_IN_FILE_NAMES) for name in names), digits])
        return found

    def arithmetic(self, method: Named[Method]) -> Arithmetic:
        """What a method is computed in; 'fp32' stands for the run's own precision."""
        return self.wanted(method) if self.spec.precision == "auto" else "fp32"

    def wanted(self, method: Named[Method]) -> Arithmetic:
        """What a method needs on this network for a map with digits that are determined."""
        # A network is traced only for a method that asks: others may explain networks that cannot be traced.
        return method.thing.arithmetic(self._graph) if isinstance(method.thing, Demanding) else "fp32"

    @cached_property
    def _graph(self) -> Graph:
        return trace(self.classifier.module, self.classifier.example())

    def _scoring(self, method: Named[Method], block: Block) -> tuple[Named[Metric], ...]:
        """The metrics that score a method on a block."""
        return tuple(s for s in self.metrics if block.start < self.cells[method.label, s.label].limit)

    def _left(self, task: Task, held: Mapping[tuple[str, str], Mapping[int, BlockFile]]) -> Task | None:
        """A task with the metrics whose rows are missing, None where it is done."""
        files = {metric: held[task.method.label, metric.label] for metric in task.metrics}
        missing = tuple(m for m, found in files.items() if not covers(found, self.part(task, m)))
        there = [found[task.block.start] for m, found in files.items() if m not in missing]
        return replace(task, metrics=missing) if missing or self._maps_missing(task.method, task.block, there) else None

    def is_readable(self, position: int) -> bool:
        """Whether the image at a position can be read now and has a class to explain."""
        if position >= self.limit:  # a longer run's
            return False
        try:
            sample = self.dataset[self.order[position]]
        except BadData:
            return False
        return self.explains(sample)

    def explains(self, sample: Sample) -> bool:
        """Whether an image has the class that is to be explained: where that is its label, it may have none."""
        return self.target != LABEL or sample.label is not None

    def _refuse_others(self, held: Mapping[tuple[str, str], Mapping[int, BlockFile]]) -> None:
        for files in held.values():
            for file in files.values():
                if apart := {key: there for key, there in file.origin.items() if there != self.origin.get(key)}:
                    here = ", ".join(f"{key} {self.origin.get(key)}" for key in apart)
                    there = ", ".join(f"{key} {value}" for key, value in apart.items())
                    raise SpecMismatch(
                        f"{self.spec.out} holds rows computed by {there}; here it is {here}, and numbers may differ: "
                        "choose another --out (or, of run, mix them by --allow-mixed)"
                    )

    def _maps_missing(self, method: Named[Method], block: Block, files: Iterable[BlockFile]) -> bool:
        """Whether maps are to be saved and one is not there; an image that could not be read has none."""
        if self.spec.save_maps is None or self.study:
            return False
        skipped = frozenset().union(*(file.skipped for file in files))
        positions = (position for position in range(block.start, block.stop) if position not in skipped)
        return not all(self.map_file(method, self.dataset.ids[self.order[p]]).exists() for p in positions)

    def _cell(self, method: Named[Method], metric: Named[Metric]) -> Cell:
        images = getattr(metric.thing, "images", None)
        return Cell(
            identity=self._identity(method, metric),
            dataset=Named(self.dataset_name, self.dataset, given=frozenset({"data_root", "size"})).label,
            model_title=self.classifier.title,
            method=method.label,
            method_title=method.thing.title,
            metric=metric.label,
            signed=method.thing.signed,
            limit=min(self.size, images or self.size),
        )

    def _identity(self, method: Named[Method], metric: Named[Metric]) -> Identity:
        return Identity(
            rapbench=__version__,
            dataset=self._dataset_identity,
            model=self._model_identity,
            method=self._method_identity(method),
            metric=self._metric_identity(metric),
            seed=self.spec.seed,
            precision=self.spec.held_in,
            device=self.device.type,
            target=self.target,
        )

    @cached_property
    def _dataset_identity(self) -> DatasetIdentity:
        return DatasetIdentity(
            name=self.dataset_name,
            parameters={key: value for key, value in parameters(self.dataset).items() if key != "data_root"},
            fingerprint=self.dataset.fingerprint,
            select=self.spec.select,
            shuffle=self.spec.shuffle,
            source=source_digest(type(self.dataset)),
        )

    @cached_property
    def _model_identity(self) -> ModelIdentity:
        model = self.classifier
        return ModelIdentity(name=model.name, weights=model.weights, digest=model.digest, source=model.source)

    def _method_identity(self, method: Named[Method]) -> MethodIdentity:
        arithmetic = self.arithmetic(method)
        return MethodIdentity(
            name=method.name,
            parameters=parameters(method.thing),
            digest=method.digest,
            arithmetic=None if arithmetic == "fp32" else arithmetic,
            source=source_digest(type(method.thing)),
            backend=self.spec.backend,
        )

    def _metric_identity(self, metric: Named[Metric]) -> MetricIdentity:
        rests_on = self.study.thing.rests_on(self) if self.study else {}
        return MetricIdentity(
            name=metric.name,
            parameters={**parameters(metric.thing), **rests_on},
            digest=metric.digest,
            arithmetic=self.scoring_precision,
            source=source_digest(type(metric.thing)),
        )


def blocks(limit: int, size: int = BLOCK_SIZE) -> list[Block]:
    """The first `limit` positions in blocks of a size."""
    return [Block(start, min(start + size, limit)) for start in range(0, limit, size)]


def within(block: Block, limit: int) -> Block | None:
    """The part of a block below a limit, None where there is none."""
    return Block(block.start, min(block.stop, limit)) if block.start < limit else None


def candidates(experiment: Experiment) -> tuple[int, ...]:
    """All images of the data set, in its own order or shuffled by the seed."""
    count = len(experiment.dataset)
    if not experiment.spec.shuffle:
        return tuple(range(count))
    return tuple(torch.randperm(count, generator=torch.Generator().manual_seed(experiment.spec.seed)).tolist())


def versions() -> dict[str, str]:
    """Versions of what numbers depend on; of this package, also the digits of its code."""
    others = ("torch", "torchvision", "numpy", "pillow")
    return {"rapbench": __version__, "code": code_digest(), **{name: version(name) for name in others}}

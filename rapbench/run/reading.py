"""Images read ahead, block by block in order: worker processes read while the device works."""

from __future__ import annotations

import logging
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from rapbench.core.errors import BadConfig, BadData
from rapbench.core.types import Classifier, Dataset, Sample
from rapbench.results.store import Block, Incident

if TYPE_CHECKING:
    from rapbench.run.plan import Experiment

_LOG = logging.getLogger(__name__)
_MOST_READERS = 8
T = TypeVar("T")


@dataclass(frozen=True)
class Loaded:
    """The readable images of a block with their positions in the run, and what happened while reading."""

    block: Block
    positions: tuple[int, ...]
    samples: tuple[Sample, ...]
    incidents: tuple[Incident, ...]


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images `start` to `stop` of a data set, under its name."""

    dataset: Dataset
    name: str
    start: int = 0
    stop: int


def read(experiment: Experiment, blocks: Iterable[Block]) -> Iterator[Loaded]:
    """The blocks' images; the blocks are asked for as the readers get to them.

    Raises:
        BadData: an image cannot be read as it is, or has no label to explain, and the run is strict.
    """
    readers = experiment.spec.readers
    if readers is None:
        readers = readers_beside(experiment.device)
    for block, found in _read(experiment.dataset, experiment.order, blocks, readers):
        yield _loaded(block, found, experiment)


def inputs(
    classifier: Classifier, dataset: Dataset, blocks: Sequence[Block], device: torch.device
) -> Iterator[tuple[Block, Tensor]]:
    """Each block of a data set with its normalised inputs (N, C, H, W); what cannot be read is left out and said."""
    nothing = torch.empty(0, len(classifier.mean), classifier.size, classifier.size)
    for block, found in _read(dataset, range(len(dataset)), blocks, readers_beside(device)):
        images = [item.image for item in found if isinstance(item, Sample)]
        for fault in (item for item in found if isinstance(item, BadData)):
            _LOG.warning("left out: %s", fault)
        yield block, classifier.normalised((torch.stack(images) if images else nothing).to(device))


def readers_beside(device: torch.device) -> int:
    """How many processes read for a device: one a core beside a GPU; none beside a CPU, which has work of its own."""
    return min(_MOST_READERS, os.cpu_count() or 1) if device.type == "cuda" else 0


def cut(start: int, stop: int, size: int) -> list[Block]:
    """Start to stop in blocks."""
    return [Block(i, min(i + size, stop)) for i in range(start, stop, size)]


def _read(
    dataset: Dataset, order: Sequence[int], blocks: Iterable[Block], readers: int
) -> Iterator[tuple[Block, list[Sample | BadData]]]:
    """Each block of places in the order with its images, or why they cannot be read."""
    ahead: deque[Block] = deque()

    def positions() -> Iterator[int]:
        for block in blocks:
            ahead.append(block)
            yield from range(block.start, block.stop)

    stream = _delivered(_loader(_Images(dataset, order), positions(), readers))
    for first in stream:
        block = ahead.popleft()
        yield block, [first, *islice(stream, block.stop - block.start - 1)]


def _delivered(loader: DataLoader[Sample | BadData]) -> Iterator[Sample | BadData]:
    """What a loader reads.

    Raises:
        BadConfig: one of its processes is gone.
    """
    try:
        yield from loader
    except (RuntimeError, ConnectionError, EOFError) as error:  # what it was about to hand over may be cut off
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise BadConfig(
            "a process that reads images was killed, as a machine does that runs out of memory: take fewer --readers; "
            "what is done is kept"
        ) from error


def _loader(images: _Images, positions: Iterator[int], readers: int) -> DataLoader[Sample | BadData]:
    """Image by image in order, read by that many processes beside this one, or by this one."""
    return DataLoader(
        images,
        batch_size=None,
        sampler=positions,
        num_workers=readers,
        collate_fn=_same,
        multiprocessing_context="forkserver" if readers else None,
        prefetch_factor=8 if readers else None,
        worker_init_fn=_end_with_the_run,
    )


def _end_with_the_run(_: int) -> None:
    """Ends this reader once the process that it reads for is gone, however that ended."""
    run = parent_process()
    assert run is not None

    def watch() -> None:
        wait([run.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _loaded(block: Block, found: Sequence[Sample | BadData], experiment: Experiment) -> Loaded:
    positions, samples, incidents = [], [], []
    for position, item in enumerate(found, start=block.start):
        image_id = experiment.dataset.ids[experiment.order[position]]
        if isinstance(item, BadData):
            fault, skipped = item, True
        elif not experiment.explains(item):
            fault, skipped = BadData("unlabelled", image_id), True
        else:
            positions.append(position)
            samples.append(item)
            fault, skipped = BadData(item.note, image_id), False
        if experiment.spec.strict and fault.reason:
            raise fault
        if fault.reason:
            incidents.append(Incident(position, image_id, fault.reason, skipped=skipped))
    return Loaded(block, tuple(positions), tuple(samples), tuple(incidents))


@dataclass(frozen=True)
class _Images(TorchDataset[Sample | BadData]):
    """The image at a place in an order, or why it cannot be read."""

    dataset: Dataset
    order: Sequence[int]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> Sample | BadData:
        with warnings.catch_warnings():  # what Pillow warns of, as damaged EXIF fields, leaves the pixels right
            warnings.filterwarnings("ignore", module=r"PIL\.")
            try:
                return self.dataset[self.order[position]]
            except BadData as error:
                return error


def _same(value: T) -> T:
    return value

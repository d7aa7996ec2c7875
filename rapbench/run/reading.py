"""Images of a run, block by block in order; worker processes read ahead while the device works."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from rapbench.core.errors import BadData
from rapbench.core.types import Dataset, Sample
from rapbench.results.store import Block, Incident

if TYPE_CHECKING:
    from rapbench.run.plan import Experiment

_MOST_READERS = 8
T = TypeVar("T")


@dataclass(frozen=True)
class Loaded:
    """The readable images of a block with their positions in the run, and what happened while reading."""

    block: Block
    positions: tuple[int, ...]
    samples: tuple[Sample, ...]
    incidents: tuple[Incident, ...]


def read(experiment: Experiment, blocks: Iterable[Block]) -> Iterator[Loaded]:
    """The blocks' images; the blocks are asked for as the readers get to them.

    Raises:
        BadData: an image cannot be read as it is and the run is strict.
    """
    ahead: deque[Block] = deque()

    def positions() -> Iterator[int]:
        for block in blocks:
            ahead.append(block)
            yield from range(block.start, block.stop)

    readers = experiment.spec.readers
    if readers is None:
        readers = min(_MOST_READERS, os.cpu_count() or 1) if experiment.device.type == "cuda" else 0
    stream = iter(
        DataLoader(
            _Images(experiment.dataset, experiment.order),
            batch_size=None,
            sampler=positions(),
            num_workers=readers,
            collate_fn=_same,
            multiprocessing_context="forkserver" if readers else None,
            prefetch_factor=8 if readers else None,
        )
    )
    for first in stream:
        block = ahead.popleft()
        yield _loaded(block, [first, *islice(stream, block.stop - block.start - 1)], experiment)


def _loaded(block: Block, found: Sequence[Sample | BadData], experiment: Experiment) -> Loaded:
    positions, samples, incidents = [], [], []
    for position, item in enumerate(found, start=block.start):
        image_id = experiment.dataset.ids[experiment.order[position]]
        if isinstance(item, BadData):
            fault, skipped = item, True
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
    """The image at a position of the run, or why it cannot be read."""

    dataset: Dataset
    order: tuple[int, ...]

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

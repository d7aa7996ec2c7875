"""Images of a data set as network inputs, read ahead batch by batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from rapbench.core.errors import BadData
from rapbench.core.types import Classifier, Dataset

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Images:
    """Positions `start` to `stop` of a data set, under its name."""

    dataset: Dataset
    name: str
    start: int = 0
    stop: int


def inputs(
    classifier: Classifier, dataset: Dataset, batches: Sequence[range], device: torch.device
) -> Iterator[Tensor]:
    """Normalised inputs (N, 3, H, W) of each batch of positions; N is smaller where images cannot be read."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        ahead = [pool.submit(_image, dataset, index) for index in batches[0]] if batches else []
        for n in range(len(batches)):
            current = ahead
            ahead = [pool.submit(_image, dataset, i) for i in batches[n + 1]] if n + 1 < len(batches) else []
            images = [image for future in current if (image := future.result()) is not None]
            side = (0, 3, classifier.size, classifier.size)
            yield classifier.normalised((torch.stack(images) if images else torch.empty(side)).to(device))


def example(classifier: Classifier) -> Tensor:
    """Noise (2, C, H, W) of the shape, type and device of what a network takes."""
    like = next(classifier.module.parameters())
    shape = (2, len(classifier.mean), classifier.size, classifier.size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(like)


def _image(dataset: Dataset, index: int) -> Tensor | None:
    try:
        return dataset[index].image
    except BadData as error:
        _LOG.warning("left out: %s", error)
        return None


def cut(start: int, stop: int, size: int) -> list[range]:
    """The positions from start to stop in batches."""
    return [range(i, min(i + size, stop)) for i in range(start, stop, size)]

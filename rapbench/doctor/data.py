"""A data set: whether it is there and whole, and whether its images can be read."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from rapbench.core.errors import BadData
from rapbench.core.types import Dataset, Sample
from rapbench.doctor.finding import Finding, Level
from rapbench.run import resolve

_MORE_IMAGES = 8
"""Images read besides the first, the middle and the last."""


def data(name: str, root: Path | None, size: int | None) -> Iterator[Finding]:
    """The data set with images of that size, or of its own."""
    dataset = resolve.dataset(name, root, size)
    yield _count(f"data {name}", dataset)
    yield _images(f"data {name}", dataset)


def _count(subject: str, dataset: Dataset) -> Finding:
    if dataset.full_size in (None, len(dataset)):
        return Finding(level="ok", subject=subject, message=f"{len(dataset):,} images")
    message = f"{len(dataset):,} images of {dataset.full_size:,}: results will not be those of the whole data set"
    return Finding(level="warn", subject=subject, message=message)


def _images(subject: str, dataset: Dataset) -> Finding:
    """Reads the first, the middle and the last image, and a seeded handful."""
    n = len(dataset)
    some = random.Random(0).sample(range(n), min(_MORE_IMAGES, n))  # noqa: S311 - no secret
    indices = sorted({0, n // 2, n - 1, *some})
    start = time.perf_counter()
    samples, faults = _read(dataset, indices)
    each = (time.perf_counter() - start) / len(indices)
    notes = Counter(sample.note for sample in samples if sample.note)
    parts = [f"{count} {note}" for note, count in notes.items()]
    parts += [f"{_number_with(samples, field)} with {field}" for field in ("label", "boxes", "mask")]
    lacking = [
        need for need in ("boxes", "mask") if need in dataset.provides and samples and not _number_with(samples, need)
    ]
    message = f"read {len(samples)} of {len(indices)} looked at: {', '.join(parts)}; {1000 * each:.0f} ms an image"
    if lacking:
        message += f"; none has {' or '.join(lacking)}: look for the annotation files"
    if faults:
        message += f"; {len(faults)} left out by a run, first {faults[0]}"
    level: Level = "FAIL" if not samples else "warn" if faults or lacking else "ok"
    return Finding(level=level, subject=subject, message=message)


def _read(dataset: Dataset, indices: Iterable[int]) -> tuple[list[Sample], list[str]]:
    """The samples, and what is wrong with those that cannot be read."""
    samples, faults = [], []
    for index in indices:
        try:
            samples.append(dataset[index])
        except BadData as error:
            faults.append(str(error))
    return samples, faults


def _number_with(samples: Iterable[Sample], field: str) -> int:
    return sum(getattr(sample, field) is not None for sample in samples)

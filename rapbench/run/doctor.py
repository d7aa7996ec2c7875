"""Checks before hours are spent: libraries, settings, device, memory, disk, data, weights, and what an image costs."""

from __future__ import annotations

import os
import platform
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rapbench.core.errors import BadConfig, BadData, RapbenchError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rapbench.core.types import Classifier, Dataset, Sample
    from rapbench.run.spec import RunSpec

Level = Literal["ok", "warn", "FAIL"]

_LIBRARIES = ("rapbench", "torch", "torchvision", "numpy", "pandas", "pyarrow", "pillow")
_MORE_IMAGES = 8
"""Images read besides the first, the middle and the last."""
_PROBED = 4
"""Images of which time and memory are measured."""
_LITTLE_MEMORY, _LITTLE_DISK = 2**31, 2**30
"""Bytes that a batch through VGG-16, and the rows of 10,000 images with all metrics, stay well below."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        level: 'ok'; 'warn' where a run is possible, though not as one may think; 'FAIL' where it is not.
        subject: what was looked at.
        message: what was found, and what to do about it.
    """

    level: Level
    subject: str
    message: str


def examined(specs: Sequence[RunSpec], *, required: bool = True) -> Iterator[Finding]:
    """All that the runs need, looked at once each; a finding comes as soon as it is made.

    Args:
        specs: the runs.
        required: whether they are meant to run as they are; if not, data and weights that are not there are a warning.
    """
    yield (libraries := _libraries())
    if libraries.level == "FAIL":
        return
    from rapbench.run import resolve

    settings = {spec: _checked("settings", _settings, spec)[0] for spec in specs}
    yield from dict.fromkeys(f for f in settings.values() if required or f.level == "FAIL")
    sound = [spec for spec, finding in settings.items() if finding.level != "FAIL"]
    yield from dict.fromkeys(found for spec in sound for found in _checked("device", _device, spec))
    yield _memory()
    for out in dict.fromkeys(spec.out for spec in specs):
        yield from _checked("disk", _disk, out)
    missing: Level = "FAIL" if required else "warn"
    for name, root, size in dict.fromkeys(
        (s.dataset, s.data_root, resolve.settings(s).size if required else None) for s in sound
    ):
        yield from _checked(f"data {name}", _data, name, root, size, level=missing)
    networks: dict[object, RunSpec] = {}
    for spec in sound:
        networks.setdefault(
            (spec.model, spec.weights, spec.seed, spec.device, resolve.weights_name(spec), spec.select), spec
        )
    for spec in networks.values():
        level = missing if spec.weights == "auto" else "FAIL"
        yield from _checked(f"model {spec.model}", _network, spec, level=level)


def _checked(
    subject: str, check: Callable[..., Iterable[Finding]], *arguments: object, level: Level = "FAIL"
) -> list[Finding]:
    """What a check found; what it raised is a finding of that level, since an error says what to do."""
    try:
        return list(check(*arguments))
    except (RapbenchError, OSError) as error:
        return [Finding(level=level, subject=subject, message=" ".join(str(error).split()))]


def _libraries() -> Finding:
    try:
        import torchvision  # noqa: F401 - imports torch, and breaks beside a torch of another build
    except (ImportError, RuntimeError, OSError) as error:
        told = f"torch and torchvision do not import ({error}): install the two as a pair from one package index"
        return Finding(level="FAIL", subject="libraries", message=" ".join(told.split()))
    versions = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return Finding(level="ok", subject="libraries", message=f"Python {platform.python_version()}, {versions}")


def _settings(spec: RunSpec) -> list[Finding]:
    """Whether methods, metrics, data set and network go by these names and parameters and fit each other."""
    from rapbench.run.resolve import settings

    count = len(settings(spec).methods)
    message = f"{count} method{'s'[: count > 1]} on {spec.dataset}, {spec.model} ({spec.weights})"
    return [Finding(level="ok", subject="settings", message=message)]


def _device(spec: RunSpec) -> list[Finding]:
    import torch

    from rapbench.run.resolve import device

    message = f"cpu, {torch.get_num_threads()} threads"
    if device(spec).type == "cuda":
        free, total = torch.cuda.mem_get_info()
        message = f"cuda: {torch.cuda.get_device_name()}, {_shown(free)} of {_shown(total)} free"
    return [Finding(level="ok", subject="device", message=message)]


def _memory() -> Finding:
    free = _free_memory()
    if free >= _LITTLE_MEMORY:
        return Finding(level="ok", subject="memory", message=f"{_shown(free)} free")
    message = f"{_shown(free)} free: large networks need more; end other programs, or pass --batch-size 1"
    return Finding(level="warn", subject="memory", message=message)


def _free_memory() -> int:
    """Bytes that the system can give."""
    table = Path("/proc/meminfo")
    if table.exists():
        kilobytes = dict(line.split(":", 1) for line in table.read_text().splitlines())
        return int(kilobytes["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _disk(out: Path) -> list[Finding]:
    """Whether the results folder, or the nearest folder above it that exists, can be written."""
    folder = next(path for path in (out, *out.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise BadConfig(f"{out} cannot be written ({error.strerror}): choose another --out") from error
    level: Level = "ok" if free >= _LITTLE_DISK else "warn"
    advice = "" if level == "ok" else "; rows of a full data set may not fit, choose another --out"
    return [Finding(level=level, subject="disk", message=f"{out} can be written, {_shown(free)} free{advice}")]


def _data(name: str, root: Path | None, size: int | None) -> Iterator[Finding]:
    """The data set with images of that size, or of its own."""
    from rapbench.run import resolve

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


def _network(spec: RunSpec) -> Iterator[Finding]:
    """Whether the weights are there and fit, and what an image costs; without the weights, with random ones."""
    from rapbench.run import resolve

    subject, space = f"model {spec.model}", resolve.label_space(spec)
    if absent := resolve.absent(spec):
        yield Finding(level="warn", subject=subject, message=absent)
        classifier = resolve.network(spec.model_copy(update={"weights": "random", "select": "all"}), space)
    else:
        classifier = resolve.network(spec, space)
        yield Finding(level="ok", subject=subject, message=f"{classifier.title}: weights fit")
    yield _cost(subject, classifier, spec.device)


def _cost(subject: str, classifier: Classifier, choice: str) -> Finding:
    """Time of one forward pass and of one gradient, and what the gradient keeps in memory."""
    import torch

    device = torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")
    module = classifier.module.to(device)
    x = torch.rand(_PROBED, len(classifier.mean), classifier.size, classifier.size, device=device)
    try:
        with torch.no_grad():
            forward = _seconds(lambda: module(x)) / _PROBED
        gradient = _seconds(lambda: _gradient(module, x)) / _PROBED
        memory = _kept_bytes(module, x) / _PROBED
    except torch.OutOfMemoryError as error:
        raise BadConfig(f"out of memory with {_PROBED} images: end other programs, or use another --device") from error
    message = (
        f"{1000 * forward:.1f} ms forward, {1000 * gradient:.1f} ms and {_shown(memory)} a gradient, for each image on "
        f"{device.type}; 10,000 images at one gradient each take {10_000 * gradient / 3600:.1f} h"
    )
    return Finding(level="ok", subject=subject, message=message)


def _gradient(module: nn.Module, x: Tensor) -> Tensor:
    """Gradient (N, C, H, W) of each image's largest logit."""
    import torch

    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(module(leaf).amax(1).sum(), leaf)[0]


def _kept_bytes(module: nn.Module, x: Tensor) -> int:
    """Size of what a forward pass keeps for the gradient, weights aside."""
    import torch

    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _gradient(module, x)
    return sum(size for pointer, size in kept.items() if pointer not in weights)


def _seconds(work: Callable[[], Tensor]) -> float:
    """Time of the second of two calls; the first prepares."""
    for _ in range(2):
        start = time.perf_counter()
        work().sum().item()  # waits for the device
    return time.perf_counter() - start


def _shown(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"

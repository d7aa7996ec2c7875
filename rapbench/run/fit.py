"""Fits patterns to a network: every image is read once, and a fit that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from rapbench.core.cache import refuse_unwritable
from rapbench.core.errors import BadConfig, SpecMismatch
from rapbench.core.paths import stem_of
from rapbench.core.types import Classifier, Dataset
from rapbench.core.writing import write_whole
from rapbench.datasets.scenes import Scenes
from rapbench.methods.signals.directions import weighted_layers
from rapbench.methods.signals.moments import Moments, observed
from rapbench.methods.signals.patterns import Patterns
from rapbench.relprop.layers import Weighted
from rapbench.relprop.tracing.trace import trace
from rapbench.run.reading import Images, cut, inputs

_LOG = logging.getLogger(__name__)
BATCH = {"cpu": 8, "cuda": 32}
_SAVED_EVERY = 512
"""Images after which the sums are written down: what a killed fit loses at most."""
_DONE = "done"
"""Among the sums that are written down, how far they go; no layer's, whose names have a slash."""
_AUTOMATIC = 512
"""Images of a generated training split that patterns are fitted to when nobody says how many."""


def _unheard(_: int) -> None:
    pass


def fit(
    classifier: Classifier,
    images: Images,
    file: Path,
    *,
    device: torch.device,
    progress: Callable[[int], None] = _unheard,
) -> Patterns:
    """The patterns of a network on some images, written to `file`; taken from there if they are already in it.

    Raises:
        UnsupportedLayer: the network has batch norm that cannot be folded, or additions.
        BadConfig: too few images, or the file cannot be written.
        SpecMismatch: the file holds other patterns.
    """
    source = {
        "model": classifier.title,
        "weights": classifier.digest[:16],
        "images": f"{images.start}-{images.stop} of {images.name}",
        "fingerprint": images.dataset.fingerprint,
    }
    if file.exists():
        return _found(file, source)
    refuse_unwritable(file.parent, "choose another --to, or another cache folder in RAPBENCH_CACHE")
    sums = moments(classifier, images, device=device, partial=_partial(file, source), progress=progress)
    patterns = Patterns.fitted(trace(classifier.module, classifier.example()), sums, source)
    _report(patterns, images)
    write_whole(file, patterns.encoded())
    for leftover in file.parent.glob(f".{file.name}.*.partial"):
        leftover.unlink()
    return patterns


def patterns_for(
    classifier: Classifier, dataset: Dataset, cache: Path, progress: Callable[[int], None] = _unheard
) -> Path:
    """The file of patterns for a network and a data set that generates its training images, fitted on first use.

    Raises:
        BadConfig: the data set has no training images of its own.
    """
    refuse_unless_generated(type(dataset))
    assert isinstance(dataset, Scenes)
    training, file = replace(dataset, stream="train"), _file_for(classifier, dataset, cache)
    if not file.exists():
        device = next(classifier.module.parameters()).device
        images = Images(dataset=training, name="scenes(stream=train)", stop=_AUTOMATIC)
        fit(classifier, images, file, device=device, progress=progress)
    return file


def fitted_already(classifier: Classifier, dataset: Dataset, cache: Path) -> Path | None:
    """The file that `patterns_for` gives, where it is there."""
    assert isinstance(dataset, Scenes)
    file = _file_for(classifier, dataset, cache)
    return file if file.exists() else None


def _file_for(classifier: Classifier, dataset: Scenes, cache: Path) -> Path:
    training = replace(dataset, stream="train")
    named = f"{stem_of(classifier.name)}-{classifier.digest[:16]}-{training.fingerprint}-{_AUTOMATIC}"
    return cache / f"{named}.safetensors"


def refuse_unless_generated(dataset: type[Dataset]) -> None:
    """Patterns that nobody gave are fitted where the data set can generate training images.

    Raises:
        BadConfig: it cannot.
    """
    if not issubclass(dataset, Scenes):
        raise BadConfig(
            "patterns are fitted automatically to generated images only: run rapbench fit-patterns on training images"
        )


@torch.no_grad()
def moments(
    classifier: Classifier,
    images: Images,
    *,
    device: torch.device,
    layers: Collection[str] | None = None,
    partial: Path | None = None,
    progress: Callable[[int], None] = _unheard,
) -> dict[str, Moments]:
    """Sums over the patches of every convolution and dense layer, by layer name.

    Args:
        classifier: the network.
        images: what to read.
        device: where to compute.
        layers: names of the layers; all by default.
        partial: where the sums are kept meanwhile.
        progress: told how many more images are done.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    graph = trace(classifier.module.to(device), classifier.example()).folded()
    weighted = weighted_layers(graph, "fit-patterns")
    sums = {name: Moments(layer) for name, layer in weighted.items() if layers is None or name in layers}

    def see(layer: Weighted, x: Tensor, y: Tensor) -> None:
        if layer.name in sums:
            sums[layer.name].add(x, y)

    network, start = observed(graph, see), _resumed(partial, sums, images.start)
    progress(start - images.start)
    saved = start
    for block, x in inputs(classifier, images.dataset, cut(start, images.stop, BATCH[device.type]), device):
        if len(x):
            network(x)
        if partial and block.stop - saved >= _SAVED_EVERY and block.stop < images.stop:
            _keep(partial, sums, block.stop)
            saved = block.stop
        progress(block.stop - block.start)
    return sums


def _partial(file: Path, source: Mapping[str, str]) -> Path:
    """Where the sums of an unfinished fit are kept: a name of what is fitted, next to the file it becomes."""
    key = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:16]
    return file.with_name(f".{file.name}.{key}.partial")


def _keep(partial: Path, sums: Mapping[str, Moments], done: int) -> None:
    tensors = {f"{key}/{name}": tensor.cpu() for name, m in sums.items() for key, tensor in m.sums.items()}
    content = save({**tensors, _DONE: torch.tensor(done)})
    write_whole(partial, content + hashlib.sha256(content).digest())


def _resumed(partial: Path | None, sums: Mapping[str, Moments], start: int) -> int:
    """The position to go on from, with the sums up to it filled in; the first one where nothing whole is kept."""
    if partial is None or not partial.exists():
        return start
    found = _kept(partial)
    if found is None:
        _LOG.warning("%s is damaged: the fit begins anew", partial)
        return start
    for name, m in sums.items():
        m.fill({key: found[f"{key}/{name}"] for key in m.sums})
    return int(found[_DONE])


def _kept(partial: Path) -> Mapping[str, Tensor] | None:
    """What `_keep` wrote; None where it is not that any more."""
    try:
        whole = partial.read_bytes()
    except OSError:
        return None
    size = hashlib.sha256().digest_size
    content, digest = whole[:-size], whole[-size:]
    return load(content) if hashlib.sha256(content).digest() == digest else None


def _found(file: Path, source: Mapping[str, str]) -> Patterns:
    patterns = Patterns.load(file)
    if dict(patterns.source) != dict(source):
        raise SpecMismatch(f"{file} holds other patterns; move it away or choose another --to")
    return patterns


def _report(patterns: Patterns, images: Images) -> None:
    """Says which units never fired: a sign of too few images, or of dead units."""
    for name, units in patterns.silent.items():
        some = ", ".join(map(str, units[:8])) + (", ..." if len(units) > 8 else "")
        _LOG.warning(
            "%s: %d units never fired on %d images (%s): relevance that reaches them ends there; more images may help",
            *(name, len(units), images.stop - images.start, some),
        )

"""A run prepared without anything being computed, trained or downloaded: what is not here yet has a stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rapbench.core.cache import cache_folder
from rapbench.core.types import Classifier, Dataset
from rapbench.core.writing import write_whole
from rapbench.methods.signals.directions import weight_direction, weighted_layers
from rapbench.methods.signals.patterns import REGIMES, Patterns, digests
from rapbench.relprop.tracing.trace import trace
from rapbench.run import resolve
from rapbench.run.fit import fitted_already
from rapbench.run.plan import Experiment
from rapbench.run.spec import RunSpec
from rapbench.run.target import PREDICTED


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """A run that can be timed.

    Attributes:
        experiment: the run, with stand-ins that cost what they stand for.
        remarks: what a run does first, in sentences.
    """

    experiment: Experiment
    remarks: tuple[str, ...]


@contextmanager
def rehearsed(spec: RunSpec) -> Iterator[Rehearsal]:
    """The run of a spec, to look at within.

    Random weights stand for those that a run downloads or trains, the weights themselves for patterns that it fits.
    """
    remarks: list[str] = []
    with TemporaryDirectory() as folder:
        patterns = partial(_patterns, folder=Path(folder), remarks=remarks)
        if not (missing := resolve.absent(spec)):
            yield Rehearsal(experiment=resolve.prepare(spec, patterns), remarks=tuple(remarks))
            return
        changed = spec.model_copy(update={"weights": "random", "select": "all", "target": PREDICTED})
        found = resolve.prepare(changed, patterns)
        title = f"{spec.model} ({resolve.weights_name(spec)})"
        classifier = replace(found.classifier, title=title, label_space=found.dataset.label_space)
        experiment = replace(found, spec=spec, classifier=classifier)
        yield Rehearsal(experiment=experiment, remarks=(f"{missing}; timed with random ones", *remarks))


def _patterns(classifier: Classifier, images: Dataset, *, folder: Path, remarks: list[str]) -> Path:
    """The file of patterns that were fitted before; else of the directions of the weights, which cost as much."""
    if file := fitted_already(classifier, images, cache_folder() / "patterns"):
        return file
    remarks.append(
        "patterns are fitted to generated images first, once for this network: minutes on a CPU, not counted"
    )
    graph = trace(classifier.module, classifier.example())
    layers = weighted_layers(graph.folded(), "a dry run")
    tensors = {
        estimator: {name: weight_direction(layer.weight.detach()).cpu() for name, layer in layers.items()}
        for estimator in REGIMES
    }
    stand_in = Patterns(tensors=tensors, weights=digests(graph), silent={}, source={})
    write_whole(folder / "patterns.safetensors", stand_in.encoded())
    return folder / "patterns.safetensors"

"""What the names of a spec stand for: the only place where they become things, what is cheap before what is dear.

Names and parameters come first (`settings`), then this machine's device, the data set, and last the network. What a
stage refuses, it refuses in one line that says what to do; every command that takes a run's settings goes through here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rapbench.backends import BACKENDS
from rapbench.core.abilities import Bounded, Identified, Suited, Varied, asks_for_maps
from rapbench.core.cache import cache_folder
from rapbench.core.catalogue import Call, Catalogue, parse_call
from rapbench.core.errors import BadConfig
from rapbench.core.files import File
from rapbench.core.named import Named
from rapbench.core.stages import advance, stage
from rapbench.core.types import Classifier, Dataset, Method, Metric, Need, Training
from rapbench.datasets import DATASETS
from rapbench.methods.signals.patterns import Patterns
from rapbench.metrics import METRICS
from rapbench.models import family, load_classifier
from rapbench.run import disconnected
from rapbench.run.fit import patterns_for, refuse_unless_generated
from rapbench.run.plan import Experiment, Study, blocks, candidates
from rapbench.run.spec import RunSpec
from rapbench.run.study import STUDIES
from rapbench.run.target import LABEL, PREDICTED, target_of


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a spec names, built with its parameters, of which files were read; no data or weights were looked for.

    Attributes:
        dataset_name: the data set's name in the catalogue.
        size: side in pixels of the network's input, and so of the images.
        methods: asked for, each once.
        metrics: the guards and those asked for, or all that the images support.
        study: what is measured of the network instead; None where images are explained.
    """

    dataset_name: str
    size: int
    methods: tuple[Named[Method], ...]
    metrics: tuple[Named[Metric], ...]
    study: Named[Study] | None


def settings(spec: RunSpec) -> Settings:
    """The things that a spec names, found by name and built.

    Raises:
        UnknownName: no such method, metric, data set, network, backend or study.
        BadConfig: parameters that are wrong, or settings that contradict each other.
    """
    study = None if spec.study is None else named(STUDIES, (spec.study,))[0]
    if study and spec.target != PREDICTED:
        raise BadConfig(f"target={spec.target}: study {spec.study} explains no class")
    if spec.device == "cpu":
        _refuse_modes_of_cuda(spec)
    size, call = family(spec.model).size, parse_call(spec.dataset)
    images: type[Dataset] = DATASETS.load(call.name)
    methods = named(BACKENDS.load(spec.backend), spec.method)
    if any(map(_lacks_patterns, methods)):
        refuse_unless_generated(images)
    metrics = _metrics(spec, call, images, methods)
    return Settings(dataset_name=call.name, size=size, methods=methods, metrics=metrics, study=study)


def device(spec: RunSpec) -> torch.device:
    """The device of this machine that a spec means.

    Raises:
        BadConfig: it is not there, or has no such precision.
    """
    available = torch.cuda.is_available()
    if spec.device == "cuda" and not available:
        raise BadConfig(
            "device cuda: torch finds no CUDA device here; install a CUDA build of torch, or use --device cpu"
        )
    if available and spec.device != "cpu":
        return torch.device("cuda")
    _refuse_modes_of_cuda(spec)
    return torch.device("cpu")


def dataset(text: str, data_root: Path | None, size: int | None = None) -> Dataset:
    """The data set of a call such as `voc(preprocess=crop)`, with images of that side in pixels or of its own.

    Raises:
        UnknownName: no such data set.
        BadConfig: parameters that are wrong, or a size that it cannot have.
        DataMissing: it is not where it was looked for.
    """
    given = {} if size is None else {"size": size}
    found: Dataset = DATASETS.build(parse_call(text), data_root=data_root, **given)
    return found


def network(spec: RunSpec, label_space: str, images: Dataset | None = None) -> Classifier:
    """The network of a spec for images of a label space; trained on those images where the spec means that.

    Raises:
        UnknownName: no such weights, or no class of the target's name.
        BadConfig: the network has no such weights, nothing to be trained on, other classes than a selection or a target
            needs, or not the class of the target.
        DataMissing: a weight file is not there, or cannot be downloaded.
        BadWeights: a weight file is unreadable or does not fit.
    """
    training: Training | None = getattr(images, "training", None)
    found = load_classifier(spec.model, spec.weights, label_space=label_space, seed=spec.seed, training=training)
    asking = [name for name, asks in _asking_for_labels(spec).items() if asks]
    if asking and (not label_space or label_space != found.label_space):
        raise BadConfig(
            f"{asking[0]} needs labels in the classes of the network: {parse_call(spec.dataset).name} has "
            f"{label_space or 'no'} labels, {found.title} other classes"
        )
    target_of(spec.target, found)  # one that the network lacks is said now
    return found


def _asking_for_labels(spec: RunSpec) -> dict[str, bool]:
    return {"select=correct": spec.select == "correct", "target=label": spec.target == LABEL}


def prepare(spec: RunSpec, patterns: Callable[[Classifier, Dataset], Path] | None = None) -> Experiment:
    """Everything that a spec names, loaded and checked, before anything is computed.

    Args:
        spec: what is asked for.
        patterns: gives the patterns that a method needs and was not given; by default they are fitted and kept.
    """
    chosen, where = settings(spec), device(spec)
    images = dataset(spec.dataset, spec.data_root, chosen.size)
    classifier = network(spec, images.label_space, images)
    _refuse_undivided(chosen.metrics, classifier)
    experiment = _experiment(spec, where, chosen, images, classifier)
    return replace(
        experiment,
        methods=tuple(_with_patterns(m, classifier, images, patterns or _fitted) for m in experiment.methods),
    )


def rehearse(spec: RunSpec) -> int:
    """The number of tasks of a run that another machine is to do; all is checked but that machine's device.

    Nothing is downloaded or trained: weights that this takes are left to the run, and a study counts as one task then.
    """
    chosen = settings(spec)
    images = dataset(spec.dataset, spec.data_root, chosen.size)
    classifier = None if absent(spec) else network(spec, images.label_space, images)
    if classifier:
        _refuse_undivided(chosen.metrics, classifier)
    if not chosen.study:
        return len(chosen.methods) * len(blocks(num_taken(spec, images)))
    return len(_experiment(spec, torch.device("cpu"), chosen, images, classifier).tasks()) if classifier else 1


def _experiment(
    spec: RunSpec, where: torch.device, chosen: Settings, images: Dataset, classifier: Classifier
) -> Experiment:
    stand_in: Any = (chosen.study,)  # for method and metric alike
    experiment = Experiment(
        spec=spec,
        device=where,
        dataset=images,
        dataset_name=chosen.dataset_name,
        classifier=classifier,
        methods=stand_in if chosen.study else chosen.methods,
        metrics=stand_in if chosen.study else chosen.metrics,
        order=(),
        target=target_of(spec.target, classifier),
        study=chosen.study,
    )
    taken = replace(experiment, order=candidates(experiment)[: num_taken(spec, images)])
    if spec.select == "all":  # which others will be selected is not known yet
        _refuse_unknown_images(taken)
    return taken


def _refuse_undivided(metrics: Iterable[Named[Metric]], classifier: Classifier) -> None:
    """Refuses a network without feature maps where a metric gives heads of their own to parts of these."""
    for metric in metrics:
        if getattr(metric.thing, "disconnection", None):
            try:
                disconnected.check(classifier)
            except BadConfig as error:
                raise BadConfig(f"metric {metric.label}: {error}") from error


def _refuse_unknown_images(experiment: Experiment) -> None:
    for method in experiment.methods:
        if isinstance(method.thing, Identified):
            method.thing.check(experiment.ids or (), experiment.dataset.ids)


def num_taken(spec: RunSpec, images: Dataset) -> int:
    """How many images a run takes: as asked, the data set's own number, or all."""
    return min(spec.limit or images.default_limit or len(images), len(images))


def absent(spec: RunSpec) -> str:
    """Where weights come from that are not on this machine yet; empty where they are, or cannot come from anywhere."""
    return family(spec.model).absent(weights_name(spec))


def weights_name(spec: RunSpec) -> str:
    """The weights of a spec by name, also where it names none."""
    try:
        return family(spec.model).default_weights(label_space(spec)) if spec.weights == "auto" else spec.weights
    except BadConfig:
        return spec.weights  # there are none without a file: what loads them says so


def label_space(spec: RunSpec) -> str:
    """Whose class indices the labels of a spec's images are."""
    space: str = DATASETS.load(parse_call(spec.dataset).name).label_space
    return space


def named(catalogue: Catalogue, texts: tuple[str, ...]) -> tuple[Named[Any], ...]:
    """The methods or metrics of some calls, each once: files that hold the same make no difference."""
    calls = [parse_call(text) for text in texts]
    found: dict[str, Named[Any]] = {}
    for item in (Named(call.name, catalogue.build(call)) for call in calls):
        found.setdefault(item.folder, item)
    return tuple(found.values())


def _refuse_modes_of_cuda(spec: RunSpec) -> None:
    for name in ("precision", "scoring_precision"):
        if getattr(spec, name) == "tf32":
            raise BadConfig(f"{name} tf32 is a mode of CUDA devices; on the CPU use fp32, fp64 or bf16")


def _metrics(
    spec: RunSpec, call: Call, dataset: type[Dataset], methods: tuple[Named[Method], ...]
) -> tuple[Named[Metric], ...]:
    """The guards, then the metrics asked for, or all that samples and methods support."""
    provided, bound = _provided(call), [method.label for method in methods if isinstance(method.thing, Identified)]
    fitted = [method.label for method in methods if hasattr(method.thing, "patterns")]
    if not spec.metric:
        usual = named(METRICS, _usual(spec, dataset, provided))
        return tuple(metric for metric in usual if not (bound and asks_for_maps(metric.thing)))
    metrics = named(METRICS, tuple(dict.fromkeys(("guards", *spec.metric))))
    for metric in metrics:
        if lacking := metric.thing.needs - provided:
            raise BadConfig(f"metric {metric.name} needs {' and '.join(sorted(lacking))}, which {call} lacks")
        if isinstance(metric.thing, Bounded):
            metric.thing.check(family(spec.model).size, family(spec.model).size)
        if bound and asks_for_maps(metric.thing):
            raise BadConfig(
                f"metric {metric.name} explains other inputs, classes or weights, which method {bound[0]} cannot"
            )
        if fitted and getattr(metric.thing, "randomises", False):
            raise BadConfig(
                f"metric {metric.name} explains other weights, and {fitted[0]} needs patterns fitted to them"
            )
        layered = [method.label for method in methods if getattr(method.thing, "layer", "")]
        if layered and getattr(metric.thing, "disconnection", None) == "difull":
            raise BadConfig(
                f"metric {metric.label} puts together the last feature maps of all cells, and {layered[0]} takes others"
            )
    return metrics


def _provided(call: Call) -> frozenset[Need]:
    """What the samples of a data set can hold."""
    images: Any = DATASETS.load(call.name)
    needs: frozenset[Need] = images.provided(call.parameters) if isinstance(images, Varied) else images.provides
    return needs


def _usual(spec: RunSpec, dataset: type[Dataset], provided: frozenset[Need]) -> tuple[str, ...]:
    """The metrics of a run that names none, as they are suited to its images."""
    limit = dataset.default_limit if spec.limit is None else None
    classes = {name: METRICS.load(name) for name in METRICS}
    return tuple(
        str(Call(name, cls.suited(size=family(spec.model).size, usual_limit=limit) if isinstance(cls, Suited) else {}))
        for name, cls in classes.items()
        if not getattr(cls, "only_when_asked", False) and cls.needs <= provided
    )


def _lacks_patterns(method: Named[Method]) -> bool:
    return getattr(method.thing, "patterns", ...) is None


def _fitted(classifier: Classifier, images: Dataset) -> Path:
    with stage("fitting patterns"):
        return patterns_for(classifier, images, cache_folder() / "patterns", advance)


def _with_patterns(
    method: Named[Method], classifier: Classifier, images: Dataset, patterns: Callable[[Classifier, Dataset], Path]
) -> Named[Method]:
    """The method with patterns of the network, where it needs some and was given none."""
    if not _lacks_patterns(method):
        return method
    thing: Any = method.thing
    file = File(Patterns, patterns(classifier, images))
    return Named(method.name, replace(thing, patterns=file), given=frozenset({"patterns"}))

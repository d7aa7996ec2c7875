"""A classifier by the names of its architecture and its weights."""

import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import nn
from torchvision.models import WeightsEnum, get_model_weights

from rapbench.core.catalogue import nearest
from rapbench.core.errors import BadConfig, DataMissing, UnknownName
from rapbench.core.types import Classifier
from rapbench.models import MODELS
from rapbench.models.checkpoint import SUFFIXES, fitted, last_weight, read_state, state_digest
from rapbench.models.narrow import NARROW, narrow_module

_NUM_CLASSES = 1000
_INCEPTIONS = frozenset({"googlenet", "inception_v3"})
"""Trained on inputs in [-1, 1]. torchvision converts to them inside the network; here normalisation does it."""


def load_classifier(name: str, weights: str, *, label_space: str, seed: int) -> Classifier:
    """The classifier of that architecture and those weights, in evaluation mode and without gradients of weights.

    Args:
        name: architecture, as in MODELS.
        weights: 'auto' (embedded for the label space 'scenes', otherwise IMAGENET1K_V1), 'scenes' (embedded), 'random',
            a name of torchvision's weights, or a weight file.
        label_space: of the data set it is to classify.
        seed: of random weights.

    Raises:
        UnknownName: no such architecture, or no such weights of it.
        BadConfig: the architecture has no embedded weights.
        DataMissing: a weight file is not there, or cannot be downloaded.
        BadWeights: a weight file is unreadable or does not fit.
    """
    build = _builder(name)
    if weights == "auto":
        weights = "scenes" if label_space == "scenes" else "IMAGENET1K_V1"
    if weights == "scenes":
        return _classifier(name, _embedded(name), weights, title=NARROW[name].title, label_space="scenes")
    if weights == "random":
        return _classifier(name, _random(build, seed), weights, label_space="")
    if Path(weights).suffix in SUFFIXES or Path(weights).exists():
        file = Path(weights)
        weights = file.name
    else:
        file = _downloaded(name, weights)
    module = fitted(build, read_state(file), f"{file} as weights of {name}")
    num_classes = module.get_parameter(last_weight(module)).shape[0]
    return _classifier(name, module, weights, label_space="imagenet" if num_classes == _NUM_CLASSES else "")


def input_size(name: str) -> int:
    """Side in pixels of the square input of an architecture.

    Raises:
        UnknownName: no such architecture.
    """
    MODELS.load(name)
    return 299 if name == "inception_v3" else 224


def _classifier(name: str, module: nn.Module, weights: str, *, label_space: str, title: str = "") -> Classifier:
    halves: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)} if name in _INCEPTIONS else {}
    return Classifier(
        name=name,
        title=title or f"{name} ({weights})",
        weights=weights,
        digest=state_digest(module),
        module=module.eval().requires_grad_(requires_grad=False),
        label_space=label_space,
        size=input_size(name),
        **halves,
    )


def _builder(name: str) -> Callable[[int], nn.Module]:
    """Number of classes -> network with initial weights."""
    architecture = MODELS.load(name)
    options = {"aux_logits": False, "transform_input": False, "init_weights": True} if name in _INCEPTIONS else {}

    def build(num_classes: int) -> nn.Module:
        try:
            module: nn.Module = architecture(weights=None, num_classes=num_classes, **options)
        except TypeError as error:
            raise BadConfig(f"{name} cannot be called as torchvision's models: {error}") from error
        return module

    return build


def _embedded(name: str) -> nn.Module:
    if name not in NARROW:
        raise BadConfig(f"{name} has no embedded weights for scenes: {' and '.join(NARROW)} have")
    return narrow_module(name)


def _random(build: Callable[[int], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(_NUM_CLASSES)


def _published(name: str, weights: str) -> WeightsEnum:
    """The weights of that name in torchvision, if they are a classifier's."""
    try:
        known = {entry.name: entry for entry in get_model_weights(MODELS.load(name)) if entry.meta["categories"]}
    except ValueError as error:
        raise BadConfig(f"{name} has no published weights: pass a file or random as --weights") from error
    if weights not in known:
        choice = [*known, "auto", "random", *(["scenes"] if name in NARROW else [])]
        raise UnknownName(f"no weights named {weights!r} of {name}, and no such file: {nearest(weights, choice)}")
    return known[weights]


def _downloaded(name: str, weights: str) -> Path:
    """The file of published weights in PyTorch's cache, downloaded if it is not there."""
    url = _published(name, weights).url
    file = Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(url).name)
    if not file.exists():
        checksum = file.stem.rpartition("-")[2]
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), hash_prefix=checksum, progress=sys.stderr.isatty())
        except (OSError, RuntimeError) as error:
            raise DataMissing(
                f"cannot download {weights} of {name} ({error}): put {file.name} into {file.parent}, "
                "or pass its path as --weights"
            ) from error
    return file

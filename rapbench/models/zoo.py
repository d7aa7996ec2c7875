"""A classifier by the names of its architecture and its weights."""

import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_weights

from rapbench.core.catalogue import nearest
from rapbench.core.errors import BadConfig, BadWeights, DataMissing, UnknownName
from rapbench.core.types import Classifier
from rapbench.models import MODELS, digits, keras
from rapbench.models.checkpoint import SUFFIXES, fitted, last_weight, read_state, state_digest
from rapbench.models.narrow import NARROW, narrow_module

_NUM_CLASSES = 1000
_INCEPTIONS = frozenset({"googlenet", "inception_v3"})
"""Trained on inputs in [-1, 1]. torchvision converts to them inside the network; here normalisation does it."""
_KERAS = "vgg16_keras"
_DIGITS = "mnist_cnn"
_NORMALISATION: dict[str, dict[str, Any]] = {
    **{name: {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)} for name in _INCEPTIONS},
    _KERAS: {"mean": keras.MEAN, "std": keras.STD},
    _DIGITS: {"mean": digits.MEAN, "std": digits.STD},
}
"""Mean and standard deviation where they are not ImageNet's."""


def load_classifier(
    name: str,
    weights: str,
    *,
    label_space: str,
    seed: int,
    training: Callable[[], tuple[Tensor, Tensor]] | None = None,
) -> Classifier:
    """The classifier of that architecture and those weights, in evaluation mode and without gradients of weights.

    Args:
        name: architecture, as in MODELS.
        weights: 'auto' (embedded for the label space 'scenes', otherwise IMAGENET1K_V1), 'scenes' (embedded), 'random',
            a name of torchvision's weights, or a weight file; vgg16_keras takes its weights from a file only. For
            mnist_cnn 'auto' is 'trained': on the data set's own images, when first needed.
        label_space: of the data set it is to classify.
        seed: of random weights.
        training: images (N, C, H, W) uint8 and labels (N,) to train on, from a data set that has them.

    Raises:
        UnknownName: no such architecture, or no such weights of it.
        BadConfig: the architecture has no embedded or no published weights, or nothing to be trained on.
        DataMissing: a weight file is not there, or cannot be downloaded.
        BadWeights: a weight file is unreadable or does not fit.
    """
    build = _builder(name)
    if name == _KERAS and weights == "auto":
        raise BadConfig(f"{name} takes its weights from a file: pass Keras' {keras.WEIGHT_FILE} as --weights")
    if weights == "auto" and name == _DIGITS:
        weights = "trained"
    if weights == "trained":
        return _classifier(name, _trained(name, training), weights, label_space=digits.LABEL_SPACE)
    if weights == "auto":
        weights = "scenes" if label_space == "scenes" else "IMAGENET1K_V1"
    if weights == "scenes":
        return _classifier(name, _embedded(name), weights, title=NARROW[name].title, label_space="scenes")
    if weights == "random":
        num_classes = digits.NUM_CLASSES if name == _DIGITS else _NUM_CLASSES
        return _classifier(name, _random(build, seed, num_classes), weights, label_space="")
    if Path(weights).suffix in SUFFIXES + keras.SUFFIXES or Path(weights).exists():
        file = Path(weights)
        weights = file.name
    else:
        file = _downloaded(name, weights)
    module = fitted(build, _state(name, file), f"{file} as weights of {name}")
    num_classes = module.get_parameter(last_weight(module)).shape[0]
    return _classifier(name, module, weights, label_space=_label_space(name, num_classes))


def input_size(name: str) -> int:
    """Side in pixels of the square input of an architecture.

    Raises:
        UnknownName: no such architecture.
    """
    MODELS.load(name)
    return {"inception_v3": 299, _DIGITS: digits.SIZE}.get(name, 224)


def _label_space(name: str, num_classes: int) -> str:
    if name == _DIGITS:
        return digits.LABEL_SPACE if num_classes == digits.NUM_CLASSES else ""
    return "imagenet" if num_classes == _NUM_CLASSES else ""


def _classifier(name: str, module: nn.Module, weights: str, *, label_space: str, title: str = "") -> Classifier:
    return Classifier(
        name=name,
        title=title or f"{name} ({weights})",
        weights=weights,
        digest=state_digest(module),
        module=module.eval().requires_grad_(requires_grad=False),
        label_space=label_space,
        size=input_size(name),
        **_NORMALISATION.get(name, {}),
    )


def _state(name: str, file: Path) -> dict[str, Tensor]:
    if name == _KERAS:
        return keras.keras_state(file)
    if file.suffix in keras.SUFFIXES:
        raise BadWeights(f"{file} is a file of Keras, which only {_KERAS} reads: {name} takes {', '.join(SUFFIXES)}")
    return read_state(file)


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


def _trained(name: str, training: Callable[[], tuple[Tensor, Tensor]] | None) -> nn.Module:
    if name != _DIGITS:
        raise BadConfig(f"{name} is not trained here, only {_DIGITS} is: pass a file as --weights")
    if training is None:
        raise BadConfig(f"{name} is trained on the images of mnist or digits: pass a file as --weights for other data")
    return digits.trained(*training())


def _random(build: Callable[[int], nn.Module], seed: int, num_classes: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(num_classes)


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

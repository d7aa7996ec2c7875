"""torchvision's architectures, and any function that is called as theirs are: published weights, random ones, files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from torch import Tensor, nn
from torchvision import models
from torchvision.models import ResNet50_Weights, WeightsEnum, get_model_weights

from rapbench.core.catalogue import nearest
from rapbench.core.errors import BadConfig, BadWeights, UnknownName
from rapbench.core.types import Classifier, Training
from rapbench.models.building import built, network_of
from rapbench.models.checkpoint import KERAS_SUFFIXES, SUFFIXES, count_classes, fitted, names_file, read_state
from rapbench.models.downloads import cached, download

_REFUSED = {
    "scenes": "has no embedded weights for scenes: vgg16, resnet50 and vit_b_16 have",
    "trained": "is not trained here, only mnist_cnn is: pass a file as --weights",
}


def imagenet_classes() -> tuple[str, ...]:
    """Name of each of ImageNet's 1000 classes."""
    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A family whose networks are built by a function of torchvision's form.

    Attributes:
        name: what it is called on the command line.
        function: `weights=None` and `num_classes` -> network with initial weights.
        options: what else the function is given.
        size: side in pixels of the square input.
        mean: per-channel mean that normalisation subtracts, in [0, 1].
        std: per-channel divisor of the normalisation.
        num_classes: outputs of the network as published.
        label_space: whose classes these are.
        classes: their names, asked for when needed.
        known: names of weights besides torchvision's, of which a typo may be one.
    """

    name: str
    function: Callable[..., nn.Module]
    options: Mapping[str, object] = field(default_factory=dict)
    size: int = 224
    mean: tuple[float, ...] = Classifier.mean
    std: tuple[float, ...] = Classifier.std
    num_classes: int = 1000
    label_space: str = "imagenet"
    classes: Callable[[], tuple[str, ...]] = imagenet_classes
    known: tuple[str, ...] = ("auto", "random")

    def default_weights(self, label_space: str) -> str:
        """Embedded ones for scenes, which most have not; else what torchvision published first."""
        return "scenes" if label_space == "scenes" else next(iter(self._published()), "IMAGENET1K_V1")

    def absent(self, weights: str) -> str:
        """The address and the place of published weights that no run has downloaded yet."""
        published = {} if names_file(weights) else self._published()
        if weights not in published or (file := cached(PurePosixPath(published[weights].url).name)).exists():
            return ""
        return f"weights are not here: a run downloads {published[weights].url}; offline, put it at {file}"

    def load(self, weights: str, *, seed: int, training: Training | None = None) -> Classifier:
        """The network with random weights, published ones, or those in a file.

        Raises:
            UnknownName: torchvision publishes no such weights.
            BadConfig: it publishes none, or the function raises or returns no network.
            DataMissing: a weight file is not there, or cannot be downloaded.
            BadWeights: a weight file is unreadable or does not fit.
        """
        if weights in _REFUSED:
            raise BadConfig(f"{self.name} {_REFUSED[weights]}")
        if weights == "random":
            return self.with_weights(self.build(self.num_classes, seed), weights)
        if not names_file(weights):
            file = self._downloaded(weights)
            return self.filled(read_state(file), file, weights)
        file = Path(weights)
        if file.suffix in KERAS_SUFFIXES:
            raise BadWeights(
                f"{file} is a file of Keras, which only vgg16_keras reads: {self.name} takes {', '.join(SUFFIXES)}"
            )
        return self.filled(read_state(file), file, file.name)

    def filled(self, state: Mapping[str, Tensor], file: Path, weights: str) -> Classifier:
        """The network with the weights of a file, under the name `weights`.

        Raises:
            BadWeights: they do not fit.
        """
        return self.with_weights(fitted(self.build, state, f"{file} as weights of {self.name}"), weights)

    def with_weights(self, module: nn.Module, weights: str) -> Classifier:
        """The classifier of a network; its classes are known where it was trained and has as many as were published."""
        known = weights != "random" and count_classes(module) == self.num_classes
        return Classifier(
            module=module,
            weights=weights,
            label_space=self.label_space if known else "",
            classes=self.classes() if known else (),
            mean=self.mean,
            std=self.std,
        )

    def build(self, num_classes: int, seed: int = 0) -> nn.Module:
        """The network with initial weights.

        Raises:
            BadConfig: the function raises, or returns no network.
        """
        options = {**self.options, "weights": None, "num_classes": num_classes}
        return network_of(self.name, built(self.name, self.function, options, seed))

    def _published(self) -> dict[str, WeightsEnum]:
        """Torchvision's weights for this network and its size of input, by name; none for functions of others."""
        found = _weights(self.function)
        return {entry.name: entry for entry in found if entry.transforms().crop_size == [self.size]}

    def _downloaded(self, weights: str) -> Path:
        """The file of published weights in PyTorch's cache, downloaded if it is not there."""
        published = self._published()
        if not published:
            raise BadConfig(f"{self.name} has no published weights: pass a file or random as --weights")
        if weights not in published:
            hint = nearest(weights, [*published, *self.known])
            raise UnknownName(f"no weights named {weights!r} of {self.name}, and no such file: {hint}")
        url = published[weights].url
        file = cached(PurePosixPath(url).name)
        if not file.exists():
            download(url, file, f"{weights} of {self.name}", checksum=file.stem.rpartition("-")[2])
        return file


def architecture(
    name: str, function: Callable[..., nn.Module], options: Mapping[str, object] | None = None
) -> Architecture:
    """The architecture of a function, with the input that torchvision's weights are published for if there are some.

    Where these are for several sizes, it takes the smallest.

    Args:
        name: what it is called on the command line.
        function: of torchvision's form.
        options: what else it is given.
    """
    inputs = [entry.transforms() for entry in _weights(function)]
    if not inputs:
        return Architecture(name=name, function=function, options=options or {})
    usual = min(inputs, key=lambda one: one.crop_size[0])
    size, mean, std = usual.crop_size[0], tuple(usual.mean), tuple(usual.std)
    return Architecture(name=name, function=function, options=options or {}, size=size, mean=mean, std=std)


def _weights(function: Callable[..., nn.Module]) -> list[WeightsEnum]:
    """The classifiers' weights that torchvision publishes for one of its functions; none for those of others."""
    try:
        return [entry for entry in get_model_weights(function) if entry.meta["categories"]]
    except ValueError:
        return []


def _inception(name: str, function: Callable[..., nn.Module], size: int) -> Architecture:
    """Trained on inputs in [-1, 1]. torchvision converts to them inside the network; here normalisation does it."""
    options = {"aux_logits": False, "transform_input": False, "init_weights": True}
    half = (0.5, 0.5, 0.5)
    return Architecture(name=name, function=function, options=options, size=size, mean=half, std=half)


GOOGLENET = _inception("googlenet", models.googlenet, 224)
INCEPTION_V3 = _inception("inception_v3", models.inception_v3, 299)

"""VGG-16 with the weights of its authors, which Caffe and Keras ship: read from Keras' HDF5, turned into torchvision's.

The weights expect channels in the order blue, green, red. Reversing the input channels of the first convolution once
makes a network that takes RGB and gives the same logits; relevance differs in the order of its channels only.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models

from rapbench.core.errors import BadConfig, BadWeights, first_line
from rapbench.core.types import Classifier, Training
from rapbench.models.checkpoint import KERAS_SUFFIXES, names_file, read_state, refuse_no_archive, refuse_too_large
from rapbench.models.zoo import Architecture

WEIGHT_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
"""The weight file as Keras distributes it."""
MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
STD = (1 / 255, 1 / 255, 1 / 255)
"""Caffe's preprocessing: pixels in 0..255 less the mean colour, in RGB."""

_STAGES = {1: (0, 2), 2: (5, 7), 3: (10, 12, 14), 4: (17, 19, 21), 5: (24, 26, 28)}
_CONVOLUTIONS = {
    f"block{block}_conv{number}": f"features.{position}"
    for block, positions in _STAGES.items()
    for number, position in enumerate(positions, start=1)
}
_DENSE = {"fc1": "classifier.0", "fc2": "classifier.3", "predictions": "classifier.6"}
_LAYERS = _CONVOLUTIONS | _DENSE
"""Keras' names of layers -> torchvision's."""
_PARAMETER = re.compile(
    rf"(?:.*/)?(?P<layer>{'|'.join(_LAYERS)})[/_](?:.*[/_])?(?P<kind>kernel|bias|W|b)(?:_\d+)?(?::0)?"
)
"""`fc1/fc1_W_1:0` in files of Keras 1, `fc1/fc1/kernel:0` in those of Keras 2."""
_KINDS = {"W": "kernel", "b": "bias"}
_SHOWN = 5

Arrays = Mapping[tuple[str, str], np.ndarray]
"""(layer, 'kernel' or 'bias') -> values as Keras has them: kernels (H, W, C, D) and (C, D) from C to D channels."""


def vgg16_keras(weights: None = None, num_classes: int = 1000) -> nn.Module:
    """VGG-16 with initial weights; see `keras_state` for those of its authors.

    Source: Simonyan and Zisserman 2015, Table 1, column D.
    """
    net: nn.Module = models.vgg16(weights=weights, num_classes=num_classes)
    return net


@dataclass(frozen=True, kw_only=True)
class Keras:
    """A family whose weights come from a file of Keras, or from one with the same weights under torchvision's names.

    Attributes:
        network: the architecture, with the preprocessing that belongs to these weights.
    """

    network: Architecture

    @property
    def size(self) -> int:
        return self.network.size

    def default_weights(self, label_space: str) -> str:
        """There are none without a file."""
        raise BadConfig(f"{self.network.name} takes its weights from a file: pass Keras' {WEIGHT_FILE} as --weights")

    def absent(self, weights: str) -> str:
        return self.network.absent(weights)

    def load(self, weights: str, *, seed: int, training: Training | None = None) -> Classifier:
        """The network with the weights of a file, or with random ones."""
        if not names_file(weights):
            return self.network.load(weights, seed=seed, training=training)
        file = Path(weights)
        return self.network.filled(keras_state(file), file, file.name)


VGG16_KERAS = Keras(network=Architecture(name="vgg16_keras", function=vgg16_keras, mean=MEAN, std=STD))


def keras_state(file: Path) -> dict[str, Tensor]:
    """State dict under torchvision's names, for RGB, of a file whose first convolution takes blue, green, red.

    The file is Keras' HDF5, or holds torchvision's keys in one of the other formats.

    Raises:
        DataMissing: no such file.
        BadWeights: the file cannot be read or lacks a layer; the message lists what it holds.
    """
    state = torchvision_state(_arrays(file), file) if file.suffix in KERAS_SUFFIXES else read_state(file)
    first = next(iter(_CONVOLUTIONS.values())) + ".weight"
    return {key: tensor.flip(1) if key.endswith(first) else tensor for key, tensor in state.items()}


def torchvision_state(arrays: Arrays, source: object) -> dict[str, Tensor]:
    """Keras' arrays under torchvision's names and with its axes, of a VGG-16 of any width; channels stay in order.

    Raises:
        BadWeights: an array is not shaped as its layer's are.
    """
    last = next(reversed(_CONVOLUTIONS))
    state = {}
    for layer, name in _LAYERS.items():
        kernel = arrays[layer, "kernel"]
        if kernel.ndim != (4 if layer in _CONVOLUTIONS else 2):
            raise BadWeights(f"{source} does not fit: the kernel of {layer} has the shape {kernel.shape}")
        if layer == "fc1":
            kernel = _channels_first(kernel, len(arrays[last, "bias"]), source)
        weight = kernel.transpose(3, 2, 0, 1) if layer in _CONVOLUTIONS else kernel.T
        state[f"{name}.weight"] = _float32(weight)
        state[f"{name}.bias"] = _float32(arrays[layer, "bias"])
    return state


def _channels_first(kernel: np.ndarray, channels: int, source: object) -> np.ndarray:
    """Kernel whose rows are flattened (H, W, channels) -> rows in the order of flattened (channels, H, W)."""
    rows, outputs = kernel.shape
    side = isqrt(rows // channels)
    if side * side * channels != rows:
        raise BadWeights(f"{source} does not fit: the {rows} inputs of fc1 are no square map of {channels} channels")
    return kernel.reshape(side, side, channels, outputs).transpose(2, 0, 1, 3).reshape(rows, outputs)


def _float32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _arrays(file: Path) -> Arrays:
    """The arrays of every layer; a whole saved model holds them under `model_weights`."""
    refuse_no_archive(file)
    try:
        with h5py.File(file, "r", locking=False) as content:
            held = _datasets(content.get("model_weights", content))
            found = [(key, path) for path in held for key in _keys(path)]
            _check([key for key, _ in found], held, file)
            refuse_too_large(sum(held[path].nbytes for _, path in found), file)
            return {key: held[path][()] for key, path in found}
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        raise BadWeights(f"cannot read weights from {file}: {first_line(error)}") from error


def _datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Path -> data set, of every array of numbers below a group that is not merely declared."""
    held = {}

    def collect(path: str, member: object) -> None:
        if isinstance(member, h5py.Dataset) and member.dtype.kind in "fiu" and member.id.get_storage_size():
            held[path] = member

    group.visititems(collect)
    return held


def _keys(path: str) -> list[tuple[str, str]]:
    """The layer and the kind of array that a path names; none where it names another."""
    match = _PARAMETER.fullmatch(path)
    return [(match["layer"], _KINDS.get(match["kind"], match["kind"]))] if match else []


def _check(keys: list[tuple[str, str]], held: Mapping[str, object], file: Path) -> None:
    wanted = [(layer, kind) for layer in _LAYERS for kind in ("kernel", "bias")]
    faults = {
        "lacks": [" ".join(key) for key in wanted if key not in keys],
        "has more than one": [" ".join(key) for key, count in Counter(keys).items() if count > 1],
    }
    told = [f"{fault} {_some(names)}" for fault, names in faults.items() if names]
    if told:
        raise BadWeights(f"{file} {'; '.join(told)}: it holds {_some(list(held)) or 'nothing'}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")

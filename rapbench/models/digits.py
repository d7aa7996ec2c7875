"""The MNIST network of the DeepLIFT paper, trained when it is first needed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.cache import cache_folder, refuse_unwritable
from rapbench.core.errors import BadConfig, BadWeights
from rapbench.core.stages import advance, stage
from rapbench.core.types import Classifier, Training
from rapbench.core.writing import write_whole
from rapbench.models.checkpoint import fitted, read_state, state_digest
from rapbench.models.zoo import Architecture

_RECIPE = 1
"""Raised whenever a change to this file changes the weights."""
_BATCH, _EPOCHS, _FEWEST_STEPS = 128, 12, 1200
_SEED = 0


def mnist_cnn(*, weights: None = None, num_classes: int = 10) -> nn.Module:  # noqa: ARG001 - torchvision's form
    """Two strided convolutions, two dense layers: 239,594 parameters for ten classes.

    Args:
        weights: no others than initial ones.
        num_classes: outputs.

    Source: Shrikumar et al. 2017, Section 4.1, and its published code; dropout rates are ours.
    """
    return nn.Sequential(
        nn.Conv2d(1, 32, 4, stride=2), nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(), nn.Dropout(0.25), nn.Flatten(),
        nn.Linear(64 * 5 * 5, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, num_classes),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A family that is trained on the images of the data set it is to classify.

    Attributes:
        network: the architecture.
    """

    network: Architecture

    @property
    def size(self) -> int:
        return self.network.size

    def default_weights(self, label_space: str) -> str:
        return "trained"

    def absent(self, weights: str) -> str:
        if weights == "trained":
            return "weights are trained on the data set's images, in a minute or two, unless an earlier run has done so"
        return self.network.absent(weights)

    def load(self, weights: str, *, seed: int, training: Training | None = None) -> Classifier:
        """The network as `trained` gives it, with random weights, or with those in a file."""
        if weights != "trained":
            return self.network.load(weights, seed=seed, training=training)
        if training is None:
            name = self.network.name
            raise BadConfig(
                f"{name} is trained on the images of mnist or digits: pass a file as --weights for other data"
            )
        return self.network.with_weights(trained(*training()), weights)


MNIST_CNN = Trained(
    network=Architecture(
        name="mnist_cnn",
        function=mnist_cnn,
        size=28,
        mean=(0.0,),  # the input is the grey image itself: a black pixel is 0
        std=(1.0,),
        num_classes=10,
        label_space="digits",
        classes=tuple,
    )
)


def trained(images: Tensor, labels: Tensor) -> nn.Module:
    """The network trained on these images, to evaluate; from the cache where it has been trained before.

    The cache is the folder that RAPBENCH_CACHE names, `~/.cache/rapbench` by default.

    Args:
        images: (N, 1, 28, 28) uint8.
        labels: (N,) int64.

    Raises:
        BadWeights: the cached file is damaged; the message says to delete it.
        BadConfig: the cache cannot be written.
    """
    key = hashlib.sha256(f"{_RECIPE}".encode() + images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()[:16]
    file = cache_folder() / f"mnist_cnn-{key}.safetensors"
    if file.exists():
        return _cached(file)
    refuse_unwritable(file.parent, "name another folder in RAPBENCH_CACHE")
    module = _train(images, labels)
    write_whole(file, save(module.state_dict(), {"digest": state_digest(module)}))
    return module


def _cached(file: Path) -> nn.Module:
    try:
        with safe_open(file, "pt") as content:
            digest = (content.metadata() or {}).get("digest")
        module = fitted(lambda num_classes: mnist_cnn(num_classes=num_classes), read_state(file), str(file))
    except (OSError, SafetensorError, BadWeights) as error:
        raise BadWeights(f"cannot read the cached weights {file}: delete it to train again ({error})") from error
    if state_digest(module) != digest:
        raise BadWeights(f"the cached weights {file} are not those that were saved: delete it to train again")
    return module.eval()


def _train(images: Tensor, labels: Tensor) -> nn.Module:
    """Adam with a rate that falls to 0, on shuffled batches, in float32 on the CPU."""
    steps = max(_EPOCHS * len(labels) // _BATCH, _FEWEST_STEPS)
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), stage("training mnist_cnn", steps * _BATCH):
        torch.manual_seed(_SEED)
        module = mnist_cnn()
        optimiser = torch.optim.Adam(module.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        order = torch.cat([torch.randperm(len(labels)) for _ in range(1 + steps * _BATCH // len(labels))])
        for step in range(steps):
            some = order[step * _BATCH : (step + 1) * _BATCH]
            optimiser.zero_grad()
            torch.autograd.backward(functional.cross_entropy(module(images[some].float() / 255), labels[some]))
            optimiser.step()
            schedule.step()
            advance(_BATCH)
    return module.eval()

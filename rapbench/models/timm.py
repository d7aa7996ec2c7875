"""timm's networks, each with the input that it was trained on and the weights that are kept of it on Hugging Face."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from rapbench.core.catalogue import nearest
from rapbench.core.errors import BadConfig, UnknownName
from rapbench.core.types import Classifier, Training
from rapbench.models.checkpoint import names_file, read_state
from rapbench.models.downloads import cached, download
from rapbench.models.zoo import Architecture, imagenet_classes

try:
    import timm
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from timm.data import resolve_data_config
except ImportError as error:
    raise BadConfig('networks of timm need timm: pip install "rapbench[timm]"') from error

_PRETRAINED = "pretrained"
_FILE = "model.safetensors"
"""What weights are called in a repository on Hugging Face."""


@dataclass(frozen=True, kw_only=True)
class Timm:
    """A family of one of timm's networks.

    Attributes:
        network: the architecture.
        repository: where its weights are on Hugging Face; empty where there are none.
    """

    network: Architecture
    repository: str

    @property
    def size(self) -> int:
        return self.network.size

    def default_weights(self, label_space: str) -> str:
        return _PRETRAINED

    def absent(self, weights: str) -> str:
        if weights != _PRETRAINED or not self.repository or (file := self._file()).exists():
            return ""
        return f"weights are not here: a run downloads {self._url()}; offline, put it at {file}"

    def load(self, weights: str, *, seed: int, training: Training | None = None) -> Classifier:
        """The network with random weights, those that timm has for it, or those in a file.

        Raises:
            UnknownName: weights of another name.
            BadConfig: timm has no weights for it.
            DataMissing: a weight file is not there, or cannot be downloaded.
            BadWeights: a weight file is unreadable or does not fit.
        """
        return replace(self._loaded(weights, seed), source=f"timm {timm.__version__}")

    def _loaded(self, weights: str, seed: int) -> Classifier:
        if weights == _PRETRAINED:
            file = self._downloaded()
            return self.network.filled(read_state(file), file, weights)
        if weights != "random" and not names_file(weights):
            hint = nearest(weights, ["auto", _PRETRAINED, "random"])
            raise UnknownName(f"no weights named {weights!r} of {self.network.name}, and no such file: {hint}")
        return self.network.load(weights, seed=seed)

    def _downloaded(self) -> Path:
        if not self.repository:
            raise BadConfig(f"{self.network.name} has no pretrained weights: pass a file or random as --weights")
        file = self._file()
        if not file.exists():
            download(self._url(), file, f"{_PRETRAINED} weights of {self.network.name}, {self._url()}")
        return file

    def _file(self) -> Path:
        """The weights where timm itself has kept them, else where they are downloaded to."""
        kept = try_to_load_from_cache(self.repository, _FILE)
        return Path(kept) if isinstance(kept, str) else cached(f"{self.repository.replace('/', '-')}.safetensors")

    def _url(self) -> str:
        return str(hf_hub_url(self.repository, _FILE))


def timm_family(name: str) -> Timm:
    """The family of `timm:NAME`.

    Raises:
        UnknownName: timm has no such network; the message offers the nearest.
        BadConfig: it is no classifier of square images.
    """
    own = name.partition(":")[2]
    try:
        about = timm.get_pretrained_cfg(own, allow_unregistered=False)
    except RuntimeError as error:
        close = get_close_matches(own, [*timm.list_models(), *timm.list_pretrained()], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() lists them"
        raise UnknownName(f"timm has no network named {own!r}: {hint}") from error
    if not about.num_classes:
        raise BadConfig(f"{name} has no classes: it computes features")
    return Timm(network=_architecture(name, own, about), repository=about.hf_hub_id or "")


def _architecture(name: str, own: str, about: Any) -> Architecture:
    seen = resolve_data_config({}, pretrained_cfg=about.to_dict())
    size = seen["input_size"][1:]
    if size[0] != size[1]:
        raise BadConfig(f"{name} takes images of {size[0]} x {size[1]} pixels: only square ones are supported")
    space, classes = ("imagenet", imagenet_classes) if about.num_classes == Architecture.num_classes else ("", tuple)
    return Architecture(
        name=name,
        function=partial(_created, own),
        size=size[0],
        mean=tuple(seen["mean"]),
        std=tuple(seen["std"]),
        num_classes=about.num_classes,
        label_space=space,
        classes=classes,
    )


def _created(name: str, *, weights: None, num_classes: int) -> nn.Module:  # noqa: ARG001 - torchvision's form
    found: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
    return found

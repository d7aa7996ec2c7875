"""A data set, a network and methods that behave as a test needs, named on the command line as code from outside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from rapbench.core.errors import BadData
from rapbench.core.types import Need, Sample
from rapbench.methods.rap import RAP


def tiny(weights: None = None, num_classes: int = 1000) -> nn.Module:
    """A network of two weighted layers that is quick at 224 x 224."""
    return nn.Sequential(nn.Conv2d(3, 4, 16, stride=16), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, num_classes))


class Opaque(nn.Module):
    """A network whose path depends on values, so that it cannot be traced."""

    def __init__(self, weights: None = None, num_classes: int = 1000) -> None:
        super().__init__()
        self.inner = tiny(weights, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if float(x.sum()) > 0 else self.inner(-x)


class Undecided(nn.Module):
    """A network without a number for inputs that are brighter than some, or darker than some, in the mean."""

    def __init__(self, weights: None = None, num_classes: int = 1000) -> None:
        super().__init__()
        self.inner = tiny(weights, num_classes)
        self.register_buffer("bounds", torch.tensor([-torch.inf, torch.inf]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        brightness = x.mean((1, 2, 3)).unsqueeze(1)
        within = (brightness > self.bounds[0]) & (brightness < self.bounds[1])
        return torch.where(within, self.inner(x), torch.nan)


class OwnRAP(RAP):
    """RAP, brought from outside."""


@dataclass(frozen=True, kw_only=True)
class Squares:
    """Bright squares on noise, with box and mask; chosen images cannot be read."""

    name: ClassVar[str] = "squares"
    label_space: ClassVar[str] = ""
    provides: ClassVar[frozenset[Need]] = frozenset({"boxes", "mask"})
    default_limit: ClassVar[int | None] = None
    full_size: ClassVar[int | None] = None

    data_root: Path | None = None
    size: int = 224
    count: int = 40
    unreadable_every: int = 0
    grey_every: int = 0

    @property
    def fingerprint(self) -> str:
        return "1"

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"square-{n}" for n in range(self.count))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if self.unreadable_every and index % self.unreadable_every == 1:
            raise BadData("unreadable image", f"square-{index}.png")
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(3, self.size, self.size, generator=generator) / 2
        mask = torch.zeros(self.size, self.size, dtype=torch.uint8)
        start = 20 + index % 60
        mask[start : start + 80, start : start + 80] = 1
        box = torch.tensor([[start, start, start + 80, start + 80]])
        note = "converted from grey" if self.grey_every and index % self.grey_every == 0 else ""
        return Sample(id=self.ids[index], image=image + mask / 2, boxes=box, mask=mask, note=note)


@dataclass(frozen=True, kw_only=True)
class Unlabelled(Squares):
    """The same without annotations."""

    provides: ClassVar[frozenset[Need]] = frozenset()

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return Sample(id=sample.id, image=sample.image)


@dataclass(frozen=True, kw_only=True)
class Labelled(Squares):
    """The same with a label, in terms of its own."""

    label_space: ClassVar[str] = "sizes"

    def __getitem__(self, index: int) -> Sample:
        return replace(super().__getitem__(index), label=0)


@dataclass(frozen=True, kw_only=True)
class Unreadable(Squares):
    """The same, of which no image can be read."""

    def __getitem__(self, index: int) -> Sample:
        raise BadData("unreadable image", f"square-{index}.png")


@dataclass(frozen=True, kw_only=True)
class Counting:
    """The input itself as its relevance; counts what it explained."""

    title: ClassVar[str] = "Counting"
    signed: ClassVar[bool] = True
    explained: ClassVar[list[int]] = []

    shift: float = 0.0

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        self.explained.append(len(x))
        return x + self.shift


@dataclass(frozen=True, kw_only=True)
class Hungry:
    """Needs more memory than there is for more than `fits` images."""

    title: ClassVar[str] = "Hungry"
    signed: ClassVar[bool] = True
    sizes: ClassVar[list[int]] = []

    fits: int = 3

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Returns a value that is not finite for every image whose seed is even."""

    title: ClassVar[str] = "Broken"
    signed: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        return torch.where((seeds % 2 == 0).view(-1, 1, 1, 1), torch.nan, x)


@dataclass(frozen=True, kw_only=True)
class OfWeights:
    """The image's channels times the first weights of the network."""

    title: ClassVar[str] = "Of weights"
    signed: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        return x * next(model.parameters()).detach().flatten()[:3].view(3, 1, 1)

"""The values that flow through a run and the protocols of what plugs into it.

Shape letters, used in every docstring: N images of a batch, C channels, H rows, W columns, K classes, B boxes of an
image, L perturbation steps, S statistics of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from rapbench.core.errors import BadConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor, nn

VOID = 255
"""Mask value of pixels that count neither as object nor as background."""

Direction = Literal["lower", "higher"]
Need = Literal["boxes", "box_classes", "mask", "cells", "digits"]
"""What a metric may ask of a data set: annotations, or that its classes are the ten digits."""
Statistics = Literal["keep", "reset"]
"""What becomes of a batch norm's running statistics where its parameters are drawn anew."""
Disconnection = Literal["difull", "dipart"]
"""What a head that classifies one cell of a grid of pictures sees: the feature maps that this picture has by itself, or
their part of the maps of the whole grid."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image with its annotations, all in the same pixel frame.

    Attributes:
        id: the data set's own name of the image.
        image: (C, H, W) float32 in [0, 1], not normalised: RGB, or one channel of grey.
        label: class index in the data set's label space, None where it has none.
        boxes: (B, 4) int64 rows (col0, row0, col1, row1), half open, inside the image; None where there is no box.
        box_classes: (B, K) bool, which of the K classes of the data set's objects each box shows, at most one; (0, K)
            where there is no box. None where the data set does not tell.
        mask: (H, W) uint8, 1 object, 0 background, 255 void; None where there is none.
        cells: (n, n) int64 class indices of the pictures of which the image is a grid of equal cells; None where it is
            one picture.
        note: what is unusual about the files though they could be used, for example 'converted from CMYK'; a run counts
            such images by their note.
    """

    id: str
    image: Tensor
    label: int | None = None
    boxes: Tensor | None = None
    box_classes: Tensor | None = None
    mask: Tensor | None = None
    cells: Tensor | None = None
    note: str = ""


class Dataset(Protocol):
    """Labelled images in a fixed order. Reading image i may raise BadData, which a run counts and steps over."""

    name: ClassVar[str]
    label_space: ClassVar[str]
    """Whose class indices `Sample.label` uses: 'imagenet', 'scenes', 'digits', or '' where images have no class."""
    default_limit: ClassVar[int | None]
    """How many images a run takes unless told otherwise; None means all."""

    @property
    def provides(self) -> frozenset[Need]:
        """What samples can hold; said by the class, or by `Varied.provided` where it depends on parameters."""
        ...

    @property
    def full_size(self) -> int | None:
        """How many images the data set has as published; None where it is generated or the user's own."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the images do: enters the key of every result."""
        ...

    @property
    def ids(self) -> tuple[str, ...]:
        """Every image's id, in the order of the data set."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A network with everything that belongs to its weights.

    A family leaves `name`, `digest`, `source` and `size` to `models.load_classifier`, and `title` where the usual one
    will do.

    Attributes:
        module: maps normalised images (N, C, H, W) to logits (N, K); in evaluation mode.
        weights: name of the weights, for example 'IMAGENET1K_V1', 'scenes', 'random' or a file's name.
        label_space: whose class indices the logits use, as in `Dataset.label_space`; empty where that is not known.
        classes: name of each class index; empty where the classes have no names.
        mean: per-channel mean that normalisation subtracts, in [0, 1]; as many as the network has input channels.
        std: per-channel divisor of the normalisation.
        name: catalogue name, for example 'vgg16'.
        title: what tables print, for example 'vgg16 (width 1/8, scenes weights)'.
        digest: SHA-256 over the state dict; enters the key of every result.
        source: digest of its code where that is from outside the package, or the library it is of with its version.
        size: side in pixels of the square input.
    """

    module: nn.Module
    weights: str = ""
    label_space: str = ""
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    name: str = ""
    title: str = ""
    digest: str = ""
    source: str | None = None
    size: int = 224

    def normalised(self, images: Tensor) -> Tensor:
        """Network input (N, C, H, W) of images in [0, 1].

        Raises:
            BadConfig: they have more or fewer channels than the network takes.
        """
        if images.shape[1] != len(self.mean):
            raise BadConfig(f"{self.name} takes images of {len(self.mean)} channels, and these have {images.shape[1]}")
        mean, std = (images.new_tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return (images - mean) / std

    def example(self) -> Tensor:
        """Noise (2, C, H, W) of the shape, type and device of what the network takes."""
        import torch

        like = next(self.module.parameters())
        shape = (2, len(self.mean), self.size, self.size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(like)

    def black(self) -> tuple[float, ...]:
        """What a black pixel is in network space, per channel."""
        return tuple(-m / s for m, s in zip(self.mean, self.std, strict=True))


Training = Callable[[], "tuple[Tensor, Tensor]"]
"""Images (N, C, H, W) uint8 and labels (N,) int64 that a data set offers to train on, read when called."""


@runtime_checkable
class Family(Protocol):
    """Networks of one name: which weights they can have, and where these come from."""

    @property
    def size(self) -> int:
        """Side in pixels of the square input."""
        ...

    def default_weights(self, label_space: str) -> str:
        """The weights that 'auto' stands for on images of that label space."""
        ...

    def absent(self, weights: str) -> str:
        """Where weights come from that are not on this machine yet, in a sentence; empty where they are."""
        ...

    def load(self, weights: str, *, seed: int, training: Training | None = None) -> Classifier:
        """The network with those weights.

        Args:
            weights: a name, or a weight file.
            seed: of random weights.
            training: what the data set offers to train on, None where it offers nothing.
        """
        ...


class Method(Protocol):
    """An attribution method; a frozen dataclass whose fields are its hyperparameters.

    `signed` tells whether negative relevance means evidence against the class; an unsigned map is thresholded at its
    mean and scored by its positive part.
    """

    title: ClassVar[str]

    @property
    def signed(self) -> bool:
        """Said by the class, or a parameter."""
        ...

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        """Relevance (N, C, H, W) of each input element for the logit of `target` (N,) int64; `seeds` (N,) int64."""
        ...


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images with their annotations, as a network takes them. A new annotation is one field.

    Attributes:
        ids: the data set's names of the images.
        x: (N, C, H, W) normalised input.
        boxes: per image (B, 4) or None.
        box_classes: per image (B, K) bool or None.
        mask: per image (H, W) uint8 or None.
        cells: per image (n, n) int64 or None; None where their classes are not in the network's terms.
        label: (N,) int64, -1 where unknown; None where no label is in the network's terms.
        seeds: (N,) int64, one an image, of everything random about it.
    """

    ids: tuple[str, ...]
    x: Tensor
    boxes: tuple[Tensor | None, ...]
    box_classes: tuple[Tensor | None, ...]
    mask: tuple[Tensor | None, ...]
    cells: tuple[Tensor | None, ...]
    label: Tensor | None
    seeds: Tensor

    def head(self, count: int) -> Batch:
        """The first `count` images."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        first: dict[str, Any] = {name: value if value is None else value[:count] for name, value in values}
        return Batch(**first)


Explain = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""x (M, C, H, W), target (M,), seeds (M,) -> relevance (M, C, H, W) by the method that is scored."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a metric may ask of the network that was explained.

    Attributes:
        classify: (M, C, H, W) -> logits (M, K) of any number of inputs, without gradients, in batches that fit.
        explain: other inputs, or for other classes, by the method that is scored.
        layers: names of its layers with parameters, from the logits to the input.
        randomised: names of some of these -> the same method on a copy of the network in which their parameters are
            drawn anew; the copy is gone when what is returned is.
        disconnected: a disconnection, n and the number of a corner cell, 0 or n² - 1 -> the same method on the network
            whose head classifies grids of n x n pictures by the feature maps of that cell alone.
        black: value of a black pixel per channel, in network space.
        std: per channel, how much of [0, 1] a step of 1 in network space is.
    """

    classify: Callable[[Tensor], Tensor]
    explain: Explain
    layers: Callable[[], tuple[str, ...]]
    randomised: Callable[[Sequence[str], Statistics], Explain]
    disconnected: Callable[[Disconnection, int, int], Explain]
    black: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A batch of images with the relevance one method gave them: what a metric sees.

    Attributes:
        batch: the images.
        network: what was explained.
        relevance: (N, C, H, W) signed relevance.
        logits: (N, K) of the clean input.
        scored: (N, K) the same as `network.classify` gives them; None where these are `logits`.
        target: (N,) int64, the explained class.
        total: (N,) what the relevance of an image should sum to, None where the method promises nothing.
    """

    batch: Batch
    network: Network
    relevance: Tensor
    logits: Tensor
    target: Tensor
    total: Tensor | None = None
    scored: Tensor | None = None

    def head(self, count: int) -> Explained:
        """The first `count` images."""
        return Explained(
            batch=self.batch.head(count),
            network=self.network,
            relevance=self.relevance[:count],
            logits=self.logits[:count],
            scored=None if self.scored is None else self.scored[:count],
            target=self.target[:count],
            total=None if self.total is None else self.total[:count],
        )

    @property
    def intact(self) -> Tensor:
        """Logits (N, K) of the clean input in the arithmetic of what `network.classify` gives, to compare with it."""
        return self.logits if self.scored is None else self.scored

    @property
    def pixels(self) -> Tensor:
        """Pixel map (N, H, W), float64: relevance summed over channels. Source: Nam et al. 2020, Figure 4."""
        return self.relevance.double().sum(1)


def first(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first statistic itself."""
    return means[..., 0]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One number of a metric, computed from the stored rows of all images.

    Attributes:
        direction: which end is better.
        statistics: rows -> (N, S) float64, what is averaged over images; NaN where undefined.
        value: means (..., S) -> (...), for example a ratio of sums; the mean itself by default.
        average: how images are combined; 'median' takes the median of a single statistic.
        undefined: reason -> which rows (N,) bool it drops; the first reason that holds is counted.
    """

    direction: Direction
    statistics: Callable[[DataFrame], NDArray[np.float64]]
    value: Callable[[NDArray[np.float64]], NDArray[np.float64]] = first
    average: Literal["mean", "median"] = "mean"
    undefined: Mapping[str, Callable[[DataFrame], NDArray[np.bool_]]]


class Metric(Protocol):
    """A score of explanations; a frozen dataclass whose fields are its parameters.

    Called on a batch it returns sufficient statistics, one entry per image, never a final ratio; `variants` then names
    the numbers that can be computed from them. Columns are (N,) or (N, L), on any device. Rows passed to a variant also
    hold `index`, `id`, `label` (-1 where unknown), `target`, and `predicted` where that may be another class.

    One that asks `Network.explain` for more maps says `explains = True`, as not every method has them, and one that
    asks `Network.randomised` for maps of other weights says `randomises = True` besides; one that asks
    `Network.disconnected` says for which in `disconnection`, as not every network has feature maps. One of the
    catalogue that costs much and tells little more than others says `only_when_asked = True`; one whose parameters
    depend on the run where nobody chooses them says which in `suited`, as `Suited` has it. One that needs images of a
    certain size refuses others in `check`, as `Bounded` has it.
    """

    headline: ClassVar[tuple[str, ...]]
    """The variants that a table on a terminal shows, in order; all of them are in every file."""

    @property
    def needs(self) -> frozenset[Need]:
        """What it asks of a data set; said by the class, or a parameter where it is taken only when asked for."""
        ...

    def __call__(self, explained: Explained) -> dict[str, Tensor]: ...

    def variants(self, *, signed: bool) -> Mapping[str, Variant]: ...

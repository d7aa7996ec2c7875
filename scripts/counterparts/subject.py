"""What both sides score: a network, photographs, the maps of one method; and what a comparison of two metrics says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rapbench.core.catalogue import parse_call
from rapbench.core.types import Batch, Explained, Metric, Network
from rapbench.datasets.voc import Voc
from rapbench.methods import METHODS
from rapbench.models import load_classifier
from rapbench.relprop.tracing.trace import trace
from rapbench.run.batches import Batches

Values = NDArray[np.float64]

NETWORK = "squeezenet1_1"
_RAMP = 1e-7
"""What breaks ties, in shares of a map's greatest magnitude."""


@dataclass(frozen=True)
class Subject:
    """A network and its explained images, as rapbench takes them and as the libraries do.

    Attributes:
        net: images (N, C, H, W) -> logits (N, K).
        raw: the maps as the method gives them.
        explained: the same with no two pixels of a map alike.
    """

    net: nn.Module
    raw: Explained
    explained: Explained

    @property
    def x(self) -> NDArray[np.float32]:
        """Images (N, C, H, W)."""
        return np.ascontiguousarray(self.raw.batch.x.numpy())

    @property
    def y(self) -> NDArray[np.int64]:
        """Explained classes (N,)."""
        return self.raw.target.numpy()

    @property
    def maps(self) -> Values:
        """Pixel maps (N, 1, H, W) without ties."""
        return pixel_maps(self.explained)

    @property
    def scored(self) -> dict[str, Any]:
        """What every metric of Quantus is called with."""
        return {"model": self.net, "x_batch": self.x, "y_batch": self.y, "a_batch": self.maps}

    def head(self, count: int) -> Subject:
        """The first so many images."""
        return Subject(self.net, self.raw.head(count), self.explained.head(count))

    def with_maps(self, relevance: Tensor) -> Subject:
        """The same with other maps (N, C, H, W), as they are."""
        other = replace(self.explained, relevance=relevance)
        return Subject(self.net, other, other)

    def grey(self) -> Subject:
        """The same photographs in one channel, for a network that takes one."""
        net, x = Grey(self.net), laid_out(self.raw.batch.x.mean(1, keepdim=True))

        def in_one(explained: Explained) -> Explained:
            network = replace(explained.network, classify=classifier(net), std=explained.network.std[:1])
            batch, logits = replace(explained.batch, x=x), network.classify(x)
            relevance = explained.relevance.sum(1, keepdim=True)
            return replace(explained, batch=batch, network=network, relevance=relevance, logits=logits)

        return Subject(net, in_one(self.raw), in_one(self.explained))


class Grey(nn.Module):
    """A network of three channels that sees one in each of them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.eval()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 1, H, W) -> logits (N, K)."""
        logits: Tensor = self.net(x.expand(-1, 3, -1, -1))
        return logits


@dataclass(frozen=True)
class Counterpart:
    """A metric of ours and one of a library that stands for the same.

    Attributes:
        ours: as it is typed.
        library: the module that holds the other one.
        theirs: its name there.
        settings: what makes it ours; empty where nothing does.
        differs: what is different as it comes, and who departs from the paper.
        apart: greatest difference from ours with these settings.
        usual: mean over images by our defaults.
        theirs_usual: mean over images as it comes.
    """

    ours: str
    library: str
    theirs: str
    settings: str
    differs: str
    apart: Callable[[Subject], float] | None = None
    usual: Callable[[Subject], float] | None = None
    theirs_usual: Callable[[Subject], float] | None = None


def subject(method: str, weights: Path, data_root: Path, count: int) -> Subject:
    """So many photographs of Pascal VOC that have boxes, explained by a method for the predicted class."""
    classifier_ = load_classifier(NETWORK, str(weights), label_space="imagenet", seed=0)
    dataset = Voc(data_root=data_root)
    boxed = (sample for sample in map(dataset.__getitem__, range(len(dataset))) if sample.boxes is not None)
    samples = list(islice(boxed, count))
    x = laid_out(classifier_.normalised(torch.stack([sample.image for sample in samples])))
    net = classifier_.module.to(memory_format=torch.channels_last)
    classify = classifier(net)
    logits, seeds = classify(x), torch.arange(count)
    relevance = METHODS.build(parse_call(method))(trace(net, x[:2]), x, logits.argmax(1), seeds=seeds)
    batch = Batch(
        ids=tuple(sample.id for sample in samples),
        x=x,
        boxes=tuple(sample.boxes for sample in samples),
        mask=tuple(sample.mask for sample in samples),
        cells=(None,) * count,
        label=None,
        seeds=seeds,
    )
    network = Network(
        classify=classify,
        explain=lambda x, *_: x,
        layers=lambda: (),
        randomised=lambda *_: lambda x, *_: x,
        black=classifier_.black(),
        std=classifier_.std,
    )
    raw = Explained(batch=batch, network=network, relevance=relevance.detach(), logits=logits, target=logits.argmax(1))
    return Subject(net, raw, untied(raw))


def laid_out(x: Tensor) -> Tensor:
    """As a run lays out images on a CPU."""
    return x.contiguous(memory_format=torch.channels_last)


def classifier(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """A network that takes any number of inputs, in batches as a run takes them."""
    batches = Batches(8)

    @torch.no_grad()
    def classify(x: Tensor) -> Tensor:
        return batches.map(net, x)

    return classify


def untied(explained: Explained) -> Explained:
    """The same maps plus noise that is small beside them, so that no two pixels are alike."""
    relevance = explained.relevance.double()
    drawn = torch.rand(relevance[:, :1].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first = relevance[:, :1] + _RAMP * relevance.abs().amax((1, 2, 3), keepdim=True) * drawn
    return replace(explained, relevance=torch.cat([first, relevance[:, 1:]], 1))


def pixel_maps(explained: Explained) -> Values:
    """Pixel maps (N, 1, H, W) of an explained batch."""
    return explained.pixels.unsqueeze(1).numpy()


def statistics(metric: Metric, explained: Explained, variant: str) -> Values:
    """What a variant averages over images (N,), given one number an image."""
    return metric.variants(signed=True)[variant].statistics(_rows(metric, explained))[:, 0]


def value(metric: Metric, explained: Explained, variant: str) -> float:
    """A variant over all images."""
    asked = metric.variants(signed=True)[variant]
    return float(asked.value(asked.statistics(_rows(metric, explained)).mean(0)))


def mean(metric: Metric, variant: str) -> Callable[[Subject], float]:
    """A variant of a metric on the maps as they are."""
    return partial(_mean, metric, variant)


def _mean(metric: Metric, variant: str, subject: Subject) -> float:
    return float(np.nanmean(statistics(metric, subject.raw, variant)))


def _rows(metric: Metric, explained: Explained) -> pd.DataFrame:
    columns = {name: column.numpy() for name, column in metric(explained).items()}
    rows = pd.DataFrame({name: list(column) if column.ndim > 1 else column for name, column in columns.items()})
    return rows.assign(label=-1, target=explained.target.numpy())


def furthest(ours: Tensor | Values, theirs: object) -> float:
    """Greatest difference of two arrays of one shape."""
    found, other = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if found.shape != other.shape:
        raise ValueError(f"shapes {found.shape} and {other.shape}")
    return float(np.abs(found - other).max())


def relatively(ours: Values, theirs: object) -> float:
    """Greatest difference of two arrays as a share of the second."""
    other = np.asarray(theirs, dtype=np.float64)
    return furthest(ours / other, np.ones_like(other))

"""ROAD, remove and debias: does the prediction depend on the pixels that a map names, once their traces are imputed?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from rapbench.core.ranges import Count
from rapbench.core.rows import vectors
from rapbench.core.types import Direction, Explained, Need, Variant
from rapbench.metrics.average_precision import scaled
from rapbench.metrics.draws import noise
from rapbench.metrics.imputation import imputed
from rapbench.metrics.masked import masked_scores, outcomes, ranks
from rapbench.metrics.undefined import FLAWS, flawless, flaws, labels, scattered, unlabelled

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

    from rapbench.metrics.masked import Replacement

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
_OUTCOMES = ("label_accuracy", "label_probability", "accuracy", "probability")
_DIRECTION: Mapping[str, Direction] = {"morf": "lower", "lerf": "higher"}
_NOISE = 0.01
"""Standard deviation of what is added to imputed pixels, in [0, 1]."""
_TIE_BREAKER = 1e-4
"""What one standard deviation of the tie-breaker weighs, in units of a map's range."""


@dataclass(frozen=True, kw_only=True)
class Road:
    """What is left of the prediction when pixels are removed and imputed from those around them, without retraining.

    MoRF at p removes the share p of most relevant pixels (the lower the better), LeRF at p keeps them and removes all
    others (the higher the better), for p of 10, 20, 30, 40, 50, 70 and 90 percent. A removed pixel becomes the weighted
    mean of its neighbours, removed ones included (see `imputed`), plus noise of standard deviation 0.01 in [0, 1],
    one picture of it an image. Pixels follow one another by relevance, scaled to a range of 1, plus 1e-4 times one
    field of N(0, 1) noise that is the same for all images, which breaks ties.

    Variants `O_V@p`, and `O_V` their mean over p, of the order O, `morf` or `lerf`, and V: `label_accuracy`, whether
    the label is the top class, and `label_probability`, of images whose label is known; `accuracy` and `probability`,
    the same of the explained class.

    Attributes:
        images: score only the first so many images of a run; all by default.

    Source: Rong et al. 2022, Sections 4 and 5.
    Departs: a map is scaled by its range as it is, where the published code adds 1e-5, so that its unit plays no part.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = (
        "morf_label_accuracy",
        "lerf_label_accuracy",
        "morf_accuracy",
        "lerf_accuracy",
    )
    only_when_asked: ClassVar[bool] = True
    """It takes 14 classifications and imputations an image, and tells much the same as perturbation."""

    images: Count | None = field(default=None, metadata={"selection": True})

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        found = flaws(explained.relevance, explained.pixels)
        images, label = flawless(found), labels(explained)
        curves = scattered(images, _curves(explained, images, label), len(label))
        curves[label < 0, ..., :2] = torch.nan
        names = [f"{order}_{outcome}" for order in _DIRECTION for outcome in _OUTCOMES]
        return dict(zip(names, curves.flatten(2).unbind(2), strict=True)) | found | {"labelled": (label >= 0).long()}

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        found: dict[str, Variant] = {}
        for order, direction in _DIRECTION.items():
            for outcome in _OUTCOMES:
                undefined = FLAWS | ({"unknown label": unlabelled} if outcome.startswith("label") else {})
                name = f"{order}_{outcome}"
                for suffix, points in _POINTS.items():
                    found[name + suffix] = Variant(
                        direction=direction, statistics=partial(_mean, name=name, points=points), undefined=undefined
                    )
        return found


_POINTS = {"": slice(None)} | {f"@{share}": slice(k, k + 1) for k, share in enumerate(SHARES)}


def _curves(explained: Explained, images: Tensor, label: Tensor) -> Tensor:
    """Outcomes (M, L, 2, 4) float64 of the chosen images at each share, MoRF and LeRF."""
    x, classes = explained.batch.x[images], torch.stack([label, explained.target])[:, images]
    size = explained.pixels[0].numel()
    counts = torch.tensor([int(share * size) for share in SHARES])
    none, every = torch.zeros_like(counts), torch.full_like(counts, size)
    scores = masked_scores(
        explained.network.classify,
        x,
        rank=ranks(_broken(explained.pixels[images]), descending=True),
        spans=(torch.stack([none, counts], 1).flatten(), torch.stack([counts, every], 1).flatten()),  # MoRF, LeRF
        replacement=_noisy(x, explained.batch.seeds[images.cpu()], explained.network.std),
        score=lambda logits, some: _outcomes(logits, classes[:, some]),
        num_scores=len(_OUTCOMES),
    )
    return scores.view(len(x), len(SHARES), 2, len(_OUTCOMES))


def _outcomes(logits: Tensor, classes: Tensor) -> Tensor:
    """Accuracy and probability (M, 4) of the label and of the explained class (2, M); nothing where it is unknown."""
    return torch.cat([outcomes(logits, asked.clamp(min=0))[:, :2] for asked in classes], 1)


def _broken(pixels: Tensor) -> Tensor:
    """Maps (M, H, W) of range 1 whose ties are broken, by the same noise in each."""
    shared = torch.randn(pixels.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return scaled(pixels) + _TIE_BREAKER * shared.to(pixels)


def _noisy(x: Tensor, seeds: Tensor, std: tuple[float, ...]) -> Replacement:
    """Noisy linear imputation of x (M, C, H, W); it is the same in network space but for the noise's scale."""
    added = noise(x, seeds, "road") * (_NOISE / torch.tensor(std).to(x)).view(-1, 1, 1)
    return lambda images, gone: imputed(x[images], gone) + added[images]


def _mean(rows: DataFrame, name: str, points: slice) -> NDArray[np.float64]:
    means: NDArray[np.float64] = vectors(rows, name)[:, points].mean(axis=1, keepdims=True)
    return means

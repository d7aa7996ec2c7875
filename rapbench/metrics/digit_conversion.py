"""Digit conversion: does erasing what speaks for one digit and not for another turn the one into the other?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch

from rapbench.core.errors import BadConfig
from rapbench.core.ranges import Count
from rapbench.core.rows import vectors
from rapbench.core.types import Explained, Need, Variant
from rapbench.metrics.undefined import labels, non_finite, num_non_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

Pair = tuple[int, int]
"""The digit that is converted and the digit that it should become."""


@dataclass(frozen=True, kw_only=True)
class DigitConversion:
    """What erasing pixels takes from the log-odds of an image's own digit against another; higher is better.

    For images of digit o and each digit t asked for, pixels are ranked by S = relevance for o less relevance for t, and
    those of the highest S > 0, at most `pixels`, are made black. D is the drop of logit_o - logit_t. Pixels that are
    black already are never counted among them; of pixels that tie with the first one to be spared none is erased.
    Variants: `log_odds@o-t` the median of D over images of the label o, `log_odds@o-t:mean` its mean, and
    `flipped@o-t` the percent of them that are told from t before and taken for t afterwards. Without `@o-t` an
    image counts with the mean of its pairs.

    Attributes:
        pairs: o-t, separated by spaces, or 'all' for the 90 pairs of ten digits.
        pixels: most pixels erased of an image; a fifth of 28 x 28.

    Source: Shrikumar et al. 2017, Section 4.1 and Figure 4.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"digits"})
    headline: ClassVar[tuple[str, ...]] = ("log_odds@8-3", "log_odds@8-6", "log_odds", "flipped")
    explains: ClassVar[bool] = True

    pairs: str = "8-3 8-6"
    pixels: Count = 157

    def __post_init__(self) -> None:
        _ = self.conversions

    @property
    def conversions(self) -> tuple[Pair, ...]:
        """The pairs of digits, each once."""
        if self.pairs == "all":
            return tuple((o, t) for o in range(10) for t in range(10) if o != t)
        return tuple(dict.fromkeys(_pair(text) for text in self.pairs.split()))

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        """Columns: `label` as the metric saw it, and log-odds (N, K) against each class before and after erasing."""
        num_classes = explained.logits.shape[1]
        if max(max(pair) for pair in self.conversions) >= num_classes:
            raise BadConfig(f"digit_conversion: {self.pairs} names a class that a network of {num_classes} lacks")
        label = labels(explained)
        scores = self._scores(explained, label)
        columns = {
            "origin": label.clone(),
            "log_odds": torch.full_like(explained.logits, torch.nan, dtype=torch.float64),
            "log_odds_erased": torch.full_like(explained.logits, torch.nan, dtype=torch.float64),
            "num_erased": torch.zeros_like(explained.logits, dtype=torch.int64),
            "num_non_finite": num_non_finite(explained.relevance) + num_non_finite(scores),
        }
        black = torch.tensor(explained.network.black).to(explained.batch.x).view(-1, 1, 1)
        for o, t in self.conversions:
            images = (label == o).nonzero().squeeze(1)
            if not len(images):
                continue
            x = explained.batch.x[images]
            gone = erased(scores[images, o] - scores[images, t], self.pixels, (x != black).any(1))
            logits = explained.network.classify(torch.where(gone.unsqueeze(1), black, x)).double()
            clean = explained.intact[images].double()
            columns["log_odds"][images, t] = clean[:, o] - clean[:, t]
            columns["log_odds_erased"][images, t] = logits[:, o] - logits[:, t]
            columns["num_erased"][images, t] = gone.sum((1, 2))
        return columns

    def _scores(self, explained: Explained, label: Tensor) -> Tensor:
        """Pixel maps (N, K, H, W) float64 of the classes that an image's conversions compare; 0 for others."""
        n, num_classes = explained.logits.shape
        scores = explained.pixels.new_zeros(n, num_classes, *explained.batch.x.shape[2:])
        for k in sorted({digit for pair in self.conversions for digit in pair}):
            origins = [o for o, t in self.conversions if k in {o, t}]
            images = torch.isin(label, label.new_tensor(origins)).nonzero().squeeze(1)
            if len(images):
                target = torch.full_like(images, k)
                relevance = explained.network.explain(
                    explained.batch.x[images], target, explained.batch.seeds[images.cpu()]
                )
                scores[images, k] = relevance.double().sum(1)
        return scores

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        every = {"": self.conversions} | {f"@{o}-{t}": ((o, t),) for o, t in self.conversions}
        found: dict[str, Variant] = {}
        for suffix, pairs in every.items():
            found[f"log_odds{suffix}"] = _variant(drops, pairs, "median")
            found[f"log_odds{suffix}:mean"] = _variant(drops, pairs, "mean")
            found[f"flipped{suffix}"] = _variant(_flipped, pairs, "mean")
        return found


def _pair(text: str) -> Pair:
    origin, _, target = text.partition("-")
    if not (origin.isdecimal() and target.isdecimal()) or int(origin) == int(target):
        raise ValueError(f"pairs must be two different digits o-t, separated by spaces, or all, not {text!r}")
    return int(origin), int(target)


def erased(scores: Tensor, pixels: int, lit: Tensor) -> Tensor:
    """Which pixels (N, H, W) bool are erased: the `pixels` of highest positive score among those that are lit.

    Args:
        scores: (N, H, W).
        pixels: most pixels erased; where more share the last score, none of them is erased.
        lit: (N, H, W) bool.
    """
    scores = torch.where(lit, scores, 0)
    if pixels >= scores[0].numel():
        return scores > 0
    highest, _ = scores.flatten(1).topk(pixels + 1)
    return scores > highest[:, -1].clamp(min=0).view(-1, 1, 1)


def drops(rows: DataFrame, pair: Pair) -> NDArray[np.float64]:
    """D (N,): what erasing took from the log-odds; NaN for images of other digits."""
    return _column(rows, "log_odds", pair) - _column(rows, "log_odds_erased", pair)


def _flipped(rows: DataFrame, pair: Pair) -> NDArray[np.float64]:
    """100 where the log-odds fell below 0 (N,), 0 where they did not; NaN for images of other digits and where NaN."""
    before, after = (_column(rows, name, pair) for name in ("log_odds", "log_odds_erased"))
    return np.where(np.isnan(before - after), np.nan, 100.0 * ((before > 0) & (after < 0)))


def _column(rows: DataFrame, name: str, pair: Pair) -> NDArray[np.float64]:
    origin, target = pair
    values = vectors(rows, name)[:, target]
    return np.where(rows["origin"] == origin, values, np.nan)


def _variant(
    statistic: Callable[[DataFrame, Pair], NDArray[np.float64]],
    pairs: tuple[Pair, ...],
    average: Literal["mean", "median"],
) -> Variant:
    """The mean of an image's pairs, averaged over the images of the pairs' digits."""

    def statistics(rows: DataFrame) -> NDArray[np.float64]:
        values = np.stack([statistic(rows, pair) for pair in pairs], axis=1)
        counts = np.isfinite(values).sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            means: NDArray[np.float64] = np.nansum(values, axis=1, keepdims=True) / counts
        return means

    origins = [o for o, _ in pairs]
    undefined = {
        "non-finite relevance": non_finite,
        "another digit": lambda rows: ~rows["origin"].isin(origins).to_numpy(),
    }
    return Variant(direction="higher", statistics=statistics, average=average, undefined=undefined)

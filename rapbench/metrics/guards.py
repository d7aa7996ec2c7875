"""Guards: is a map what it claims to be? Part of every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from rapbench.core.types import Explained, Need, Variant
from rapbench.metrics.undefined import constant, is_constant, non_finite, num_non_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Guards:
    """Conservation, finiteness, constant maps and ties; lower is better.

    `residual` is the median of |Σ R - total| / |total|, where total is what the method's relevance should sum to: the
    logit where it is conserved, the logit's difference from that of a reference where the method is complete. It is
    undefined for methods that promise no sum. `non_finite` and `constant` are percent of images; `ties` is the mean
    percent of a map's pixels that share their value with another, whose order is therefore arbitrary.

    Source: Bach et al. 2015, Eq. 2, for conservation; Sundararajan et al. 2017, Section 3, for completeness.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("residual", "non_finite", "constant", "ties")

    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        """Columns: sum of relevance and what it should be, the class's logit and probability, what is wrong."""
        pixels, logits, index = explained.pixels, explained.logits.double(), explained.target.unsqueeze(1)
        return {
            "relevance_sum": pixels.sum((1, 2)),
            "total": torch.full_like(logits[:, 0], torch.nan) if explained.total is None else explained.total.double(),
            "logit": logits.gather(1, index).squeeze(1),
            "probability": logits.softmax(1).gather(1, index).squeeze(1),
            "num_non_finite": num_non_finite(explained.relevance),
            "constant": is_constant(pixels).long(),
            "tie_share": tie_share(pixels),
        }

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        undefined = {"non-finite relevance": non_finite}
        return {
            "residual": Variant(
                direction="lower",
                average="median",
                statistics=_deviation,
                undefined=undefined
                | {
                    "no sum promised": lambda rows: rows["total"].isna().to_numpy(),
                    "total of zero": lambda rows: (rows["total"] == 0).to_numpy(),
                },
            ),
            "non_finite": Variant(direction="lower", statistics=_percent(non_finite), undefined={}),
            "constant": Variant(direction="lower", statistics=_percent(constant), undefined={}),
            "ties": Variant(
                direction="lower", statistics=_percent(lambda rows: rows["tie_share"].to_numpy()), undefined=undefined
            ),
        }


def tie_share(pixels: Tensor) -> Tensor:
    """Share (N,) of the pixels of maps (N, H, W) whose value occurs more than once."""
    ordered, _ = pixels.flatten(1).sort(dim=1)
    same = ordered[:, 1:] == ordered[:, :-1]
    edge = same.new_zeros(len(same), 1)
    return (torch.cat([edge, same], 1) | torch.cat([same, edge], 1)).double().mean(1)


def _deviation(rows: DataFrame) -> NDArray[np.float64]:
    """Distance (N, 1) of the relevance's sum from the total it should have, relative to that."""
    total = rows[["total"]].to_numpy(dtype=np.float64)
    deviation: NDArray[np.float64] = np.abs((rows[["relevance_sum"]].to_numpy() - total) / total)
    return deviation


def _percent(
    shares: Callable[[DataFrame], NDArray[np.float64 | np.bool_]],
) -> Callable[[DataFrame], NDArray[np.float64]]:
    return lambda rows: 100 * shares(rows).astype(np.float64)[:, np.newaxis]

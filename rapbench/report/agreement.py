"""Ranks among methods, and how far metrics, or images, agree on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_ROUNDING = 1e-12
"""Relative difference up to which two values are equal: sums of the same numbers in another order."""


def gap(ours: Floats, theirs: Floats) -> Floats:
    """How much ours are above theirs, exactly 0 where they are equal but for rounding."""
    gaps = np.asarray(ours - theirs)
    return np.where(np.abs(gaps) <= _ROUNDING * np.maximum(np.abs(ours), np.abs(theirs)), 0.0, gaps)


def ranks_among(values: Floats, methods: NDArray[np.bool_]) -> Floats:
    """Rank of each value (..., J) among those of the methods (J,) bool, 1 the lowest; ties share their mean rank.

    It is half of 1 + the number of methods that are lower or equal + the number that are lower, for whatever is a
    method itself. What is none is ranked by the same count and moves no method: 1/2 is ahead of all of them. What has
    no value, not a number, has no rank and takes part in none.
    """
    rivals = values[..., methods]
    center = (np.isfinite(rivals).sum(axis=-1) + 1) / 2
    balances = [
        np.where(np.isfinite(one[..., 0]), np.nansum(np.sign(gap(one, rivals)), axis=-1), np.nan)
        for one in np.split(values, values.shape[-1], axis=-1)
    ]
    return np.stack([center + balance / 2 for balance in balances], axis=-1)


def kendall_w(ranks: Floats) -> Floats:
    """Kendall's coefficient of concordance (...) of ranks (..., m, k) that m judges give k things, corrected for ties.

    1 where all judges agree, 0 where the sums of ranks are equal; not a number where no judge tells any things apart.

    Source: Kendall and Smith 1939; Kendall 1948, chapter 6, for ties.
    """
    center = (ranks.shape[-1] + 1) / 2
    between = (ranks.sum(axis=-2) - ranks.shape[-2] * center) ** 2
    within = (ranks - center) ** 2
    with np.errstate(invalid="ignore"):
        found: Floats = between.sum(axis=-1) / (ranks.shape[-2] * within.sum(axis=(-2, -1)))
    return found


def kendall_tau_b(ours: Floats, theirs: Floats) -> Floats:
    """Kendall's rank correlation (...) of values (..., k) and (..., k), corrected for ties.

    Not a number where one of the two tells no things apart.

    Source: Kendall 1945.
    """
    one, other = _orders(ours), _orders(theirs)
    with np.errstate(invalid="ignore"):
        found: Floats = (one * other).sum(axis=-1) / np.sqrt((one**2).sum(axis=-1) * (other**2).sum(axis=-1))
    return found


def _orders(values: Floats) -> Floats:
    """Of each pair (..., k (k - 1) / 2) of values (..., k): -1, 0 or 1."""
    first, second = np.triu_indices(values.shape[-1], 1)
    return np.sign(values[..., first] - values[..., second])


def friedman_p(ranks: Floats) -> float | None:
    """p-value of the Friedman test that n images rank k methods at random, of ranks (n, k), corrected for ties.

    None with fewer than three methods or two images; 1 where no image tells any methods apart.

    Source: Friedman 1937; Demšar 2006, Section 3.2.2.
    """
    from scipy.special import chdtrc  # scipy.stats takes longer to import than most tables to compute

    n, k = ranks.shape
    if n < 2 or k < 3:
        return None
    concordance = float(kendall_w(ranks))
    return float(chdtrc(k - 1, n * (k - 1) * concordance)) if np.isfinite(concordance) else 1.0

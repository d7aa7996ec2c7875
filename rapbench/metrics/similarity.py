"""How alike two maps of an image are, and how much a map varies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from scipy.stats import rankdata
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 11
"""Side in pixels of the window of `ssim`."""
_SIGMA, _K1, _K2, _RANGE = 1.5, 0.01, 0.03, 2.0


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Rank correlation (N,) of maps (N, H, W), equal values sharing their average rank; NaN where one is constant."""
    return spearman_with(a)(b)


def spearman_with(a: Tensor) -> Callable[[Tensor], Tensor]:
    """Rank correlation of maps (N, H, W) with others, for which they are ranked once."""
    ranks = _unit_ranks(a)
    return lambda b: (ranks * _unit_ranks(b)).sum(1)


def _unit_ranks(maps: Tensor) -> Tensor:
    """Ranks (N, H · W) of pixels less their mean, of length 1."""
    flat = maps.flatten(1)
    ranks = torch.from_numpy(rankdata(flat.cpu().numpy(), axis=1)) - (flat.shape[1] + 1) / 2
    return (ranks / ranks.square().sum(1, keepdim=True).sqrt()).to(maps)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (N,) of maps (N, H, W) float64, each divided by its greatest magnitude.

    SSIM = (2 μ_a μ_b + C1) (2 σ_ab + C2) / ((μ_a² + μ_b² + C1) (σ_a² + σ_b² + C2)), with C1 = (0.01 · 2)² and C2 =
    (0.03 · 2)², as the maps range from -1 to 1; means and variances are under a Gaussian window of 11 × 11 pixels with
    σ = 1.5, and SSIM is averaged over the windows that lie in the image.

    Source: Wang et al. 2004, Eq. 13-17.
    """
    a, b = (m / m.abs().amax((1, 2), keepdim=True) for m in (a, b))
    mean_a, mean_b, aa, bb, ab = _windowed(torch.stack([a, b, a * a, b * b, a * b])).unbind()
    c1, c2 = (_K1 * _RANGE) ** 2, (_K2 * _RANGE) ** 2
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    likeness = (2 * product + c1) * (2 * (ab - product) + c2) / ((squares + c1) * (aa + bb - squares + c2))
    found: Tensor = likeness.mean((1, 2))
    return found


def _windowed(maps: Tensor) -> Tensor:
    """Means (S, N, H - 10, W - 10) of maps (S, N, H, W) under the window."""
    offsets = torch.arange(WINDOW).to(maps) - WINDOW // 2
    bell = (-offsets.square() / (2 * _SIGMA**2)).exp()
    down = (bell / bell.sum()).view(1, 1, WINDOW, 1)
    means = functional.conv2d(functional.conv2d(maps.flatten(0, 1).unsqueeze(1), down), down.mT)
    return means.view(*maps.shape[:2], *means.shape[2:])


def entropy(values: Tensor, num_bins: int) -> Tensor:
    """Entropy () in nats of a histogram of values (M,), of so many equal bins between the least and the greatest."""
    low, high = values.min(), values.max()
    places = ((values - low) / (high - low) * num_bins).long().clamp(0, num_bins - 1)
    found: Tensor = torch.special.entr(torch.bincount(places).double() / len(values)).sum()
    return found


def freedman_diaconis(values: Tensor) -> int:
    """Number of bins of the histogram of values (M,): range / (2 IQR M^(-1/3)), within 10 and 200; 100 where IQR is 0.

    Source: Freedman and Diaconis 1981; the limits are those of the code of Hedström et al. 2024.
    """
    lower, upper = torch.quantile(values, values.new_tensor([0.25, 0.75]))
    if upper == lower:
        return 100
    width = 2 * (upper - lower) * len(values) ** (-1 / 3)
    return int(((values.max() - values.min()) / width).clamp(10, 200))

"""Equality up to rounding."""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDINGS = 2**12
"""Units in the last place, of the largest value, by which two ways to compute the same may differ."""
_COARSEST = 0.1
"""The same as a share of the largest value, for types of few digits."""


def is_close(found: Tensor, expected: Tensor) -> bool:
    """Whether two tensors are the same up to rounding; values that are not finite must be the same ones."""
    found, expected = found.detach(), expected.detach()
    if found.shape != expected.shape or torch.equal(found, expected):
        return found.shape == expected.shape
    if not expected.is_floating_point():
        return False
    share = min(_ROUNDINGS * torch.finfo(expected.dtype).eps, _COARSEST)
    found, expected = found.double(), expected.double()
    scale = expected[expected.isfinite()].abs().amax() if expected.isfinite().any() else 0.0
    return torch.allclose(found, expected, rtol=0, atol=float(scale) * share, equal_nan=True)

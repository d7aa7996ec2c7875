"""What methods that sample need around captum's sampling: seeds, references, patches, a regression."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from rapbench.core.errors import BadConfig


@contextmanager
def drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the global generators of torch and numpy, from which captum draws, for the time being."""
    state = np.random.get_state()  # noqa: NPY002 - captum's generator
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def references(x: Tensor, count: int) -> Tensor:
    """Zero and `count - 1` images of standard normal noise, (count, C, H, W), for an image (1, C, H, W)."""
    noise = torch.randn(count - 1, *x.shape[1:]).to(x)
    return torch.cat([torch.zeros_like(x), noise]).detach()


def patches(x: Tensor, side: int) -> Tensor:
    """Number of the square patch that each pixel lies in, (1, 1, H, W); those at two edges may be smaller."""
    rows, columns = (torch.arange(n, device=x.device) // side for n in x.shape[2:])
    numbers = rows.unsqueeze(1) * (columns.max() + 1) + columns
    if numbers.max() == 0:
        raise BadConfig(f"patch={side} makes one patch of a whole {x.shape[2]}x{x.shape[3]} image")
    return numbers.view(1, 1, *x.shape[2:])


class Ridge:
    """Weighted linear regression with an intercept and an L2 penalty, solved exactly; what captum asks of a model."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty
        self.coefficients = torch.empty(0)

    def fit(self, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Coefficients from features (n, f), values (n,) and weights (n,); the least where several fit alike."""
        z, y, weight = (part.double().cpu() for part in next(iter(batches)))
        share = weight / weight.sum()
        z, y = z - share @ z, y - share @ y
        root = weight.sqrt()
        rows = torch.cat([root.unsqueeze(1) * z, self.penalty**0.5 * torch.eye(z.shape[1], dtype=z.dtype)])
        values = torch.cat([root * y, y.new_zeros(z.shape[1])])
        self.coefficients = torch.linalg.pinv(rows) @ values

    def representation(self) -> Tensor:
        """One coefficient a feature."""
        return self.coefficients

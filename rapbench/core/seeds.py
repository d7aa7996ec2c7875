"""Seeds per image, so that no number depends on batch size, order or how a run is shared."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def image_seed(run_seed: int, image_id: str) -> int:
    """Seed of one image's random draws: 63 bits of SHA-256 over the run's seed and the image's id."""
    digest = hashlib.sha256(f"{run_seed}:{image_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is drawn meanwhile from the generators of Python, NumPy and torch is the seed's; then they are as before."""
    import torch

    pythons, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002 - what a network's own code may draw from
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(pythons)
            np.random.set_state(numpys)  # noqa: NPY002

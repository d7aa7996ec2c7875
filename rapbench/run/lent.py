"""What code from outside is given, and what of it must be as it was afterwards.

Images and maps are lent as copies. A network is lent as a copy that is compared with the original after each use, and
thrown away if it was changed; so no method can touch another's numbers.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rapbench.core.errors import BadConfig
from rapbench.core.types import Explained
from rapbench.relprop.graph import Graph


class Lent:
    """A copy of a network, and what it is traced to where a method looks at that."""

    def __init__(self, original: nn.Module) -> None:
        self._original = original
        self.module = deepcopy(original)
        self.graph: Graph | None = None

    def change(self) -> str:
        """What is not as it was, '' where everything is: weights and buffers by value, modes and hooks."""
        return _difference(_tensors(self.module), _tensors(self._original)) or _difference(
            _settings(self.module), _settings(self._original)
        )


def _tensors(module: nn.Module) -> Mapping[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _settings(module: nn.Module) -> Mapping[str, object]:
    """What decides besides tensors how a network runs, by what a message calls it."""
    found: dict[str, object] = {f"requires_grad of {name}": p.requires_grad for name, p in module.named_parameters()}
    for name, part in module.named_modules():
        where = name or "the network"
        found[f"training mode of {where}"] = part.training
        found[f"hooks of {where}"] = sum(len(held) for key, held in vars(part).items() if key.endswith("_hooks"))
    return found


def _difference(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """The first name whose value is another, or that only one of the two has."""
    names = (*before, *now)
    return next((n for n in names if n not in now or n not in before or not _same(now[n], before[n])), "")


def _same(one: object, other: object) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return one == other
    return torch.equal(one, other) or torch.equal(one.nan_to_num(), other.nan_to_num())


def copied(explained: Explained) -> Explained:
    """Explained images with copies of all their tensors, those of annotations included."""
    copies = {name: deepcopy(value) for name, value in vars(explained).items() if name != "network"}
    return replace(explained, **copies)


def _bytes(state: Any) -> bytes:
    return pickle.dumps(state.numpy() if isinstance(state, Tensor) else state)


_GENERATORS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "torch": (torch.get_rng_state, torch.set_rng_state),
    "numpy": (np.random.get_state, np.random.set_state),
    "random": (random.getstate, random.setstate),
}
_ON_CUDA = {"torch.cuda": (torch.cuda.get_rng_state, torch.cuda.set_rng_state)}


@contextmanager
def leaving_no_trace(device: torch.device) -> Iterator[None]:
    """Within it no gradients are recorded; afterwards they are or not as before, and so are the global generators.

    Raises:
        BadConfig: numbers were drawn from a global generator: what is computed depends on what ran before.
    """
    generators = {**_GENERATORS, **(_ON_CUDA if device.type == "cuda" else {})}
    before = {name: get() for name, (get, _) in generators.items()}
    try:
        with torch.no_grad():
            yield
        drawn = [name for name, (get, _) in generators.items() if _bytes(get()) != _bytes(before[name])]
    finally:
        for name, (_, put) in generators.items():
            put(before[name])
    if drawn:
        raise BadConfig(
            f"draws from the global generator of {drawn[0]}, so that its numbers depend on what ran before; "
            "draw from a generator of your own, seeded by each image's seed"
        )

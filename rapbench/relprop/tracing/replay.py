"""Recorded operations, run again on other values and in other types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rapbench.relprop.tracing.templates import Ref, leaves, mapped


@dataclass(frozen=True)
class Multiple:
    """Stands for a multiple of one of a layer's values, the number of images."""

    slot: int
    times: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """What a recorded operation makes of a layer's values; what it writes into is copied first.

    Attributes:
        function: PyTorch's function.
        args: its arguments by position: a `Ref` for each of the layer's values, constants, and `Multiple`s.
        kwargs: the others.
        written: the values it writes into.
        pick: the n-th tensor it returns, or the value it has written into.
        casts: whether it does nothing but convert to another floating type.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    written: frozenset[Ref] = frozenset()
    pick: int | Ref = 0
    casts: bool = False

    def __call__(self, *values: Any) -> Tensor:
        """The value of the layer."""
        copies = {slot: values[slot].clone() for slot in self.written}

        def fill(a: Any) -> Any:
            if isinstance(a, Multiple):
                return values[a.slot] * a.times
            return copies.get(a, values[a]) if isinstance(a, Ref) else a

        result = self.function(*mapped(fill, self.args), **mapped(fill, self.kwargs))
        if isinstance(self.pick, Ref):
            return copies[self.pick]  # type: ignore[no-any-return]
        return [t for t in leaves(result) if isinstance(t, Tensor)][self.pick]

    def constants(self) -> Iterator[Tensor]:
        """The tensors among its arguments, and among those of the operations it is put together of."""
        for a in leaves((self.args, self.kwargs)):
            if isinstance(a, Replay):
                yield from a.constants()
            elif isinstance(a, Tensor):
                yield a

    def to(self, dtype: torch.dtype) -> Replay:
        """The same operation with its constants, and what it makes, in another floating type."""
        if self.casts:
            return replace(self, function=same, args=self.args[:1], kwargs={})

        def converted(a: Any) -> Any:
            if isinstance(a, Replay):
                return a.to(dtype)
            if isinstance(a, Tensor) and a.is_floating_point():
                return a.detach().to(dtype)
            return dtype if isinstance(a, torch.dtype) and a.is_floating_point else a

        return replace(self, args=mapped(converted, self.args), kwargs=mapped(converted, self.kwargs))


def chained(x: Tensor, steps: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """What is left of a value after one function of it after the other."""
    for step in steps:
        x = step(x)
    return x


def same(x: Tensor, *_: Any) -> Tensor:
    """What it is given first."""
    return x


OUT_OF_PLACE: dict[str, Callable[..., Tensor]] = {
    "add_": torch.add,
    "view": torch.Tensor.reshape,
    "detach": same,
    "detach_": same,
    "data": same,
}
"""What runs instead of operations that write, hold back gradients or depend on how values lie in memory."""

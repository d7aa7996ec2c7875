"""Which token holds which position of the image, as the layers between the input and the tokens tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import AveragePool, Concatenate, Convolution, Dense, Input, Layer, MaxPool, Rearrange

_ROW = 2**16
"""By how much marks of positions grow from one row of a grid to the next; 0 marks what holds none, NaN what may."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Which of the tokens of a value (N, T, C) or (N, C, T) hold the positions of a grid; class tokens hold none.

    Attributes:
        axis: of the tokens.
        order: (h · w,), those of the grid, row by row; empty where there are others alone.
        shape: rows h and columns w.
    """

    axis: int
    order: Tensor
    shape: tuple[int, int]

    def maps(self, value: Tensor) -> Tensor:
        """The grid's tokens as feature maps (N, C, h, w)."""
        picked = value.index_select(self.axis, self.order).movedim(self.axis, 2)
        return picked.reshape(*picked.shape[:2], *self.shape)

    def erased(self, value: Tensor) -> Tensor:
        """The value, not a number in the grid's tokens."""
        return value.index_fill(self.axis, self.order, torch.nan)


def marks(graph: Graph, values: Sequence[Any]) -> list[Any]:
    """For every element of each layer's value a mark of the position that it holds, None where a value is no tensor.

    Positions are those of the last convolution, pool or input before it. They are followed through rearrangements,
    concatenations and dense layers, in which a patch has the position of its corner. Whatever else keeps the shape
    keeps them, and so does a sum of which one term has them, such as a residual connection around attention.

    Args:
        graph: the network.
        values: of all its layers, of few images.
    """
    found: list[Any] = []
    for layer, value in zip(graph.layers, values, strict=True):
        sizes = [values[i] for i in layer.sizes]
        found.append(
            _marks(layer, value, [found[i] for i in layer.inputs], sizes) if isinstance(value, Tensor) else None
        )
    return found


def _marks(layer: Layer, value: Tensor, found: Sequence[Any], sizes: Sequence[Any]) -> Any:
    if isinstance(layer, Input | Convolution | MaxPool | AveragePool) and value.dim() == 4:
        rows, columns = (torch.arange(n, device=value.device, dtype=torch.float64) for n in value.shape[2:])
        return ((rows + 1).unsqueeze(1) * _ROW + columns).expand(value.shape)
    if isinstance(layer, Rearrange):
        return layer.function(*found, *sizes)
    if isinstance(layer, Concatenate):  # what is concatenated besides, such as class tokens, is the same both times
        return (layer.function(*found, *sizes) - layer.function(*(-mark for mark in found), *sizes)) / 2
    if isinstance(layer, Dense):
        return found[0].amin(-1, keepdim=True).expand(value.shape)
    unknown = torch.full((), torch.nan, device=value.device, dtype=torch.float64).expand(value.shape)
    return reduce(torch.fmax, [mark for mark in found if mark.shape == value.shape] or [unknown])


def tokens(found: Tensor) -> Tokens | None:
    """Which tokens hold what positions by the marks of a value (N, T, C) or (N, C, T), the same for all its channels.

    None where they are no grid, or nothing tells.
    """
    for axis, places in ((1, found[0, :, 0]), (2, found[0, 0])):
        order = places.argsort()[int((places == 0).sum()) :]
        held = places[order]
        rows, columns, total = (len(torch.unique(of)) for of in (held // _ROW, held % _ROW, held))
        even = bool((found[0] == places.unsqueeze(2 - axis)).all())
        if even and rows * columns == total == len(held) != 1:
            return Tokens(axis=axis, order=order, shape=(rows, columns))
    return None

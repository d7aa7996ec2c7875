"""Sums over the patches that units read, from which signal directions are estimated, without a matrix of patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import Convolution, Weighted

Regime = Literal["all", "plus", "minus"]
"""Which samples of a unit count: all, those with y > 0, those with y <= 0."""


def correlation(layer: Weighted, x: Tensor, r: Tensor) -> Tensor:
    """Σ of r_j times the patch that unit j reads, over images and positions; (J, ...) like J units' weights.

    It is the gradient of Σ r · y in the weights. `r` may hold several channels a unit, next to each other.
    """
    if not isinstance(layer, Convolution):
        return r.flatten(0, -2).t() @ x.flatten(0, -2)
    zeros, wanted = [0] * len(layer.stride), [False, True, False]
    weight = r.new_empty(r.shape[1], *layer.weight.shape[1:])
    gradient: Tensor = torch.ops.aten.convolution_backward(
        r,
        layer.padded(x),
        weight,
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        False,
        zeros,
        layer.groups,
        wanted,
    )[1]
    return gradient


class Moments:
    """Running sums of one layer over its samples: (patch x, output y with bias) at every position of every image.

    Products are formed and added up in float64: covariances are small differences of large sums. Zero padding is part
    of a patch. O units in G groups, whose weights have the shape (O, ...):

    Attributes:
        count: () number of samples a unit.
        x: (G, ...) Σ x.
        y: (O,) Σ y.
        xy: (O, ...) Σ x y.
        count_on: (O,) samples with y > 0.
        x_on: (O, ...) Σ x over these.
        xy_on: (O, ...) Σ x y over these.
    """

    def __init__(self, layer: Weighted) -> None:
        self.layer = layer
        weight = layer.weight
        self.groups = layer.groups if isinstance(layer, Convolution) else 1
        shapes = {"count": (), "x": (self.groups, *weight.shape[1:]), "y": weight.shape[:1], "xy": weight.shape}
        shapes |= {"count_on": weight.shape[:1], "x_on": weight.shape, "xy_on": weight.shape}
        self.sums = {key: weight.new_zeros(shape, dtype=torch.float64) for key, shape in shapes.items()}

    @torch.no_grad()
    def add(self, x: Tensor, y: Tensor) -> None:
        """Counts a batch: inputs (N, ...) and outputs (N, ..., with the bias) of the layer."""
        x, y = x.double(), y.double()
        axis = 1 if isinstance(self.layer, Convolution) else y.dim() - 1
        on = (y > 0).to(y.dtype)
        terms = torch.stack([y, on, y * on], axis + 1).flatten(axis, axis + 1)
        xy, x_on, xy_on = correlation(self.layer, x, terms).view(-1, 3, *self.layer.weight.shape[1:]).unbind(1)
        whole = [size if i != axis else self.groups for i, size in enumerate(y.shape)]
        others = [i for i in range(y.dim()) if i != axis]
        found = {
            "count": torch.tensor(y.numel() // y.shape[axis]),
            "x": correlation(self.layer, x, y.new_ones(whole)),
            "y": y.sum(others, dtype=torch.float64),
            "count_on": on.sum(others, dtype=torch.float64),
        } | {"xy": xy, "x_on": x_on, "xy_on": xy_on}
        for key, value in found.items():
            self.sums[key] += value

    def fill(self, sums: Mapping[str, Tensor]) -> None:
        """Goes on from sums that were stored."""
        for key, value in self.sums.items():
            value.copy_(sums[key])

    def covariance(self, regime: Regime) -> Tensor:
        """E_g[x y] - E_g[x] E[y], (O, ...): E_g over the samples of a regime, E over all; 0 where it has none.

        Source: Kindermans et al. 2018, Eq. 5.
        """
        sums = self.sums
        everywhere = sums["x"].repeat_interleave(len(sums["y"]) // self.groups, 0)
        if regime == "all":
            count, x, xy = sums["count"].expand_as(sums["y"]), everywhere, sums["xy"]
        elif regime == "plus":
            count, x, xy = sums["count_on"], sums["x_on"], sums["xy_on"]
        else:
            count, x, xy = sums["count"] - sums["count_on"], everywhere - sums["x_on"], sums["xy"] - sums["xy_on"]
        mean_y = _per_unit(sums["y"] / sums["count"], xy)
        return (xy - x * mean_y) / _per_unit(count.clamp(min=1), xy)

    def silent(self) -> tuple[int, ...]:
        """Units that never fired."""
        return tuple((self.sums["count_on"] == 0).nonzero().flatten().tolist())


def _per_unit(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


def observed(graph: Graph, see: Callable[[Weighted, Tensor, Tensor], None]) -> Graph:
    """The same network, which shows every weighted layer's input and output while it runs; memory is freed as usual."""

    def shown(layer: Weighted) -> Weighted:
        def function(x: Tensor) -> Tensor:
            y: Tensor = layer.function(x)
            see(layer, x, y)
            return y

        return replace(layer, function=function)

    return Graph([shown(n) if isinstance(n, Weighted) else n for n in graph.layers], graph.output)

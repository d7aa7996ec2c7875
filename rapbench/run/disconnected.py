"""Networks whose head classifies one cell of a grid of pictures, by the feature maps of that cell alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from rapbench.core.errors import BadConfig, UnsupportedLayer
from rapbench.core.types import Classifier
from rapbench.methods.feature_maps import last_maps
from rapbench.relprop.axes import channel_axes
from rapbench.relprop.graph import Graph
from rapbench.relprop.idle import prepared
from rapbench.relprop.layers import Concatenate, Input, Layer, Rearrange, Size
from rapbench.relprop.tracing.lowering import input_layer
from rapbench.relprop.tracing.trace import trace


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where a network is cut in two: feature maps, and the head that pools and classifies them.

    Attributes:
        position: of the layer that gives the maps, the last ones before positions are pooled.
        axes: of the maps' rows and columns.
        size: how many rows and columns they have for one picture.
    """

    position: int
    axes: tuple[int, int]
    size: tuple[int, int]


@torch.no_grad()
def cut(graph: Graph, picture: Tensor) -> Cut:
    """Where Grad-CAM takes its maps: everything behind is the head.

    Args:
        graph: a network.
        picture: some of the pictures (N, C, H, W) that it takes.

    Raises:
        BadConfig: it has no such maps, or its head reads something else besides.
    """
    settled = prepared(graph, picture)
    values = settled.values(settled.sample(picture))
    try:
        position = last_maps(settled, values).position
    except UnsupportedLayer as error:
        raise BadConfig(f"has no feature maps that it pools and classifies ({error})") from error
    maps, channels = values[position], channel_axes(settled, values)[position]
    if not position or maps.dim() != 4 or not channels:
        raise BadConfig(f"has no feature maps that it pools and classifies: {graph.layers[position].where} gives none")
    _check_head(graph, position)
    rows, columns = (axis for axis in (1, 2, 3) if axis != channels)
    return Cut(position=position, axes=(rows, columns), size=(maps.shape[rows], maps.shape[columns]))


def _check_head(graph: Graph, position: int) -> None:
    """Whether what follows a position depends on that value alone, and on how many images there are."""
    counts = {n for n, layer in enumerate(graph.layers) if layer.function is len}  # of images: the same for any cell
    for n in {*range(position + 1, len(graph.layers))} - counts:
        layer = graph.layers[n]
        for i in {*layer.inputs, *layer.sizes} - counts:
            if i < position:
                raise BadConfig(
                    f"classifies more than the feature maps of {graph.layers[position].where}: {layer.where} reads "
                    f"{graph.layers[i].where}"
                )


def check(classifier: Classifier) -> None:
    """Refuses a network that cannot be cut; takes about four forward passes of an image.

    Raises:
        BadConfig: its line begins with the network's name.
    """
    x = classifier.example()
    try:
        cut(trace(classifier.module, x), x)
    except (BadConfig, UnsupportedLayer) as error:
        raise BadConfig(f"{classifier.name} {error}") from error


def difull(alone: Graph, picture: Tensor, n: int, cell: int) -> Graph:
    """The network of grids of n x n pictures that cannot see from one cell into another (fully disconnected).

    The maps of every cell come from a pass of its own and are put together to those of the grid, and the head
    classifies a cell by its own. No relevance goes to the passes of the others: they are held constant.

    Args:
        alone: the network for one picture.
        picture: some of the pictures (N, C, H, W) that it takes.
        n: pictures across and down.
        cell: which one is classified, 0 or n² - 1.

    Source: Rao et al. 2022, DiFull.
    """
    found, (channels, height, width) = cut(alone, picture), picture.shape[1:]
    layers: list[Layer] = [input_layer((channels, n * height, n * width), _images(alone))]
    seen = partial(cell_of, axes=(2, 3), size=(height, width), n=n)
    own = _passed(layers, alone, found.position, Rearrange, partial(seen, cell=cell))
    others = {
        k: _passed(layers, alone, found.position, Size, partial(_held, seen=partial(seen, cell=k)))[found.position]
        for k in range(n * n)
        if k != cell
    }
    parts = {**others, cell: own[found.position]}
    tiled = partial(_tiled, axes=found.axes, n=n)
    inputs = tuple(parts[k] for k in range(n * n))
    own[found.position] = _place(layers, Concatenate(name="grid", operation="cat", inputs=inputs, function=tiled))
    return _with_head(layers, alone, found, own, n=n, cell=cell)


def _passed(
    layers: list[Layer], alone: Graph, position: int, kind: type[Layer], seen: Callable[[Tensor], Tensor]
) -> dict[int, int]:
    """Where the layers up to a position are, once they have been appended behind what they see of a grid."""
    picture = _place(layers, kind(name="picture", operation="narrow", inputs=(0,), function=seen))
    return _appended(layers, alone, range(1, position + 1), {0: picture})


def dipart(alone: Graph, whole: Graph, picture: Tensor, n: int, cell: int) -> Graph:
    """The network of grids of n x n pictures whose head classifies a cell by its part of the grid's feature maps.

    Relevance may reach other cells through receptive fields (partially disconnected). Where the maps of the grid are
    larger than those of n x n pictures, as those of networks without padding, the head takes as many rows and columns
    as it does of one picture, from the cell's corner of the grid.

    Args:
        alone: the network for one picture.
        whole: the same for a grid.
        picture: some of the pictures (N, C, H, W).
        n: pictures across and down.
        cell: which one is classified, 0 or n² - 1.

    Raises:
        BadConfig: a grid takes other layers than a picture.

    Source: Rao et al. 2022, DiPart.
    """
    if [layer.where for layer in alone.layers] != [layer.where for layer in whole.layers]:
        raise BadConfig("the network runs other operations for a grid than for a picture")
    found = cut(alone, picture)
    layers = [*whole.layers[: found.position + 1]]
    return _with_head(layers, alone, found, {i: i for i in range(len(layers))}, n=n, cell=cell)


def _with_head(layers: list[Layer], alone: Graph, found: Cut, places: dict[int, int], *, n: int, cell: int) -> Graph:
    """The graph that goes on from the maps of a grid, in the place of a picture's, with the head of a cell."""
    function = partial(cell_of, axes=found.axes, size=found.size, n=n, cell=cell)
    maps = Rearrange(name="head", operation="narrow", inputs=(places[found.position],), function=function)
    places[found.position] = _place(layers, maps)
    return Graph(layers, _appended(layers, alone, range(found.position + 1, len(alone.layers)), places)[alone.output])


def _appended(layers: list[Layer], graph: Graph, positions: range, places: dict[int, int]) -> dict[int, int]:
    """Where layers of a graph are, once some of them have been appended to those that are at `places` already."""
    for n in positions:
        layer = graph.layers[n]
        inputs, sizes = (tuple(places[i] for i in sources) for sources in (layer.inputs, layer.sizes))
        places[n] = _place(layers, replace(layer, inputs=inputs, sizes=sizes))
    return places


def _place(layers: list[Layer], layer: Layer) -> int:
    """Where a layer is once it has been appended."""
    layers.append(layer)
    return len(layers) - 1


def cell_of(x: Tensor, *, axes: tuple[int, int], size: tuple[int, int], n: int, cell: int) -> Tensor:
    """The rows and columns of one cell, of a size, in a grid of n x n: those of corner cells begin or end with it."""
    for axis, length, place in zip(axes, size, divmod(cell, n), strict=True):
        if x.shape[axis] <= (n - 1) * length:
            raise BadConfig(
                f"feature maps of a grid have {x.shape[axis]} rows or columns, and those of one picture {length}"
            )
        x = x.narrow(axis, place * (x.shape[axis] - length) // (n - 1), length)
    return x


def _held(x: Tensor, *, seen: Callable[[Tensor], Tensor]) -> Tensor:
    return seen(x).detach()


def _tiled(*parts: Tensor, axes: tuple[int, int], n: int) -> Tensor:
    """Parts in the order of reading, put together."""
    rows, columns = axes
    return torch.cat([torch.cat(parts[at : at + n], columns) for at in range(0, n * n, n)], rows)


def _images(graph: Graph) -> int | None:
    """How many images a graph is for; None where any number."""
    return next(layer.images for layer in graph.layers if isinstance(layer, Input))

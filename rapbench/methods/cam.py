"""Class activation maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.catalogue import nearest
from rapbench.core.errors import BadConfig, UnsupportedLayer
from rapbench.methods.gradient import right_gradients
from rapbench.methods.guided import guided, with_rectifiers
from rapbench.relprop.axes import channel_axes
from rapbench.relprop.graph import Graph
from rapbench.relprop.idle import prepared
from rapbench.relprop.layers import AveragePool, Identity, MaxPool, Rearrange


def class_activation(graph: Graph, values: Sequence[Any], target: Tensor, layer: str = "") -> Tensor:
    """ReLU(Σ_k α_k A_k), (N, 1, h, w): A some feature maps, α_k the spatial mean of ∂f_target/∂A_k.

    Args:
        graph: the network.
        values: of all its layers in a forward pass, detached.
        target: (N,).
        layer: whose maps to take, see `GradCam`.

    Source: Selvaraju et al. 2017, Eq. 1 and 2.
    """
    position = _position(graph, values, layer)
    maps = values[position]
    with torch.enable_grad():
        leaf = maps.detach().requires_grad_()
        score = _logits(graph, values, position, leaf).gather(1, target.unsqueeze(1)).sum()
        (gradient,) = torch.autograd.grad(score, leaf)
    axis = channel_axes(graph, values)[position]
    maps, gradient = (tensor.movedim(axis or 1, 1) for tensor in (maps, gradient))
    weights = gradient.mean((2, 3), keepdim=True)
    activation: Tensor = (weights * maps).sum(1, keepdim=True)
    return activation.relu()


def _logits(graph: Graph, values: Sequence[Any], position: int, value: Tensor) -> Tensor:
    """The logits for another value of one layer, where what does not depend on it stays as it was."""
    changed: dict[int, Any] = {position: value}
    for n in range(position + 1, len(graph.layers)):
        layer = graph.layers[n]
        sources = (*layer.inputs, *layer.sizes)
        if changed.keys() & {*sources}:
            changed[n] = layer.function(*(changed.get(i, values[i]) for i in sources))
    if graph.output not in changed:
        raise BadConfig(f"Grad-CAM: the logits do not depend on layer {graph.layers[position].name}")
    logits: Tensor = changed[graph.output]
    return logits


def _position(graph: Graph, values: Sequence[Any], layer: str) -> int:
    if not layer:
        return last_maps(graph, values)
    names = {known.name: n for n, known in enumerate(graph.layers)}
    if layer not in names:
        raise BadConfig(f"Grad-CAM: no layer {layer!r}: {nearest(layer, list(names))}")
    return _grid(graph, values, names[layer])


def last_maps(graph: Graph, values: Sequence[Any]) -> int:
    """Position of the last maps that all paths pass, apart from those that are merely pooled or rearranged.

    Raises:
        UnsupportedLayer: what holds positions last is not a grid, for example the tokens of a transformer.
    """
    axes = channel_axes(graph, values)
    for n in reversed(graph.waists()):
        kind = isinstance(graph.layers[n], MaxPool | AveragePool | Identity | Rearrange)
        if n and not kind and _num_positions(values[n], axes[n]) > 1:
            return _grid(graph, values, n)
    raise UnsupportedLayer("Grad-CAM needs feature maps of more than one position, and the network has none")


def _num_positions(value: Tensor, axis: int | None) -> int:
    """Of each channel; more than one wherever the channels are not known."""
    if value.dim() < 3:
        return 1
    return value[0].numel() // value.shape[axis] if axis else value[0].numel()


def _grid(graph: Graph, values: Sequence[Any], n: int) -> int:
    """The position, if its value is a grid of feature maps."""
    value, layer = values[n], graph.layers[n]
    if isinstance(value, Tensor) and value.dim() == 4 and channel_axes(graph, values)[n]:
        return n
    found = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else "no tensor"
    raise UnsupportedLayer(
        f"Grad-CAM needs feature maps (N, C, H, W) or (N, H, W, C); those of {layer.operation} at node {layer.name!r} "
        f"are {found}"
    )


@dataclass(frozen=True, kw_only=True)
class GradCam:
    """Grad-CAM at the last feature maps, enlarged bilinearly and shared evenly by the input's channels.

    The last maps are those behind the last rectifier, batch norm or addition before the network pools over positions:
    of torchvision's families, `features.29` of VGG-16 (14 x 14), the last `relu` of ResNet's `layer4`, the class maps
    behind the rectifier in SqueezeNet's `classifier`, the rectified `features.norm5` of DenseNet, the last
    concatenation of Inception, the last addition in ConvNeXt's `features` and the last `norm` of Swin. Networks that
    hold tokens instead, such as ViT, are refused.

    Attributes:
        layer: whose output to take instead: a module, or a traced function's node. An unknown name is refused with the
            nearest known one.

    Source: Selvaraju et al. 2017, Eq. 1 and 2.
    """

    title: ClassVar[str] = "Grad-CAM"
    signed: ClassVar[bool] = False

    layer: str = ""

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        graph = prepared(model, x)
        with torch.no_grad():
            values = graph.values(x)
        with right_gradients(x):
            return _enlarged(class_activation(graph, values, target, self.layer), x) / x.shape[1]


@dataclass(frozen=True, kw_only=True)
class GuidedGradCam:
    """Grad-CAM times Guided Backprop; both share one forward pass.

    Attributes:
        layer: whose maps Grad-CAM takes, see `GradCam`.

    Source: Selvaraju et al. 2017, Section 3.2.
    """

    title: ClassVar[str] = "Guided Grad-CAM"
    signed: ClassVar[bool] = True

    layer: str = ""

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        graph = prepared(model, x)
        with torch.enable_grad(), right_gradients(x):
            leaf = x.detach().requires_grad_()
            values = with_rectifiers(graph, x, guided, self.title).values(leaf)
            score = values[graph.output].gather(1, target.unsqueeze(1)).sum()
            (gradient,) = torch.autograd.grad(score, leaf)
            kept = [value.detach() if isinstance(value, Tensor) else value for value in values]
            return _enlarged(class_activation(graph, kept, target, self.layer), x) * gradient


def _enlarged(cam: Tensor, x: Tensor) -> Tensor:
    """A map (N, 1, h, w) at the size of `x`, the same for every channel."""
    enlarged: Tensor = functional.interpolate(cam, x.shape[2:], mode="bilinear", align_corners=False)
    return enlarged.expand_as(x).clone()

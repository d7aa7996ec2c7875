"""Class activation maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.errors import UnsupportedLayer
from rapbench.methods.guided import GuidedBackprop
from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import AveragePool, Identity, MaxPool, Rearrange
from rapbench.relprop.trace import trace


def class_activation(graph: Graph, x: Tensor, target: Tensor) -> Tensor:
    """ReLU(Σ_k α_k A_k), (N, 1, h, w): A the last feature maps, α_k the spatial mean of ∂f_target/∂A_k.

    Source: Selvaraju et al. 2017, Eq. 1 and 2.
    """
    with torch.enable_grad():
        values = graph.values(x.detach().requires_grad_())
        maps = values[last_maps(graph, values)]
        score = values[graph.output].gather(1, target.unsqueeze(1)).sum()
        (gradient,) = torch.autograd.grad(score, maps)
    weights = gradient.mean((2, 3), keepdim=True)
    activation: Tensor = (weights * maps.detach()).sum(1, keepdim=True)
    return activation.relu()


def last_maps(graph: Graph, values: list[Tensor]) -> int:
    """Position of the last value with spatial extent that is not merely a pooled or rearranged one."""
    for n in reversed(graph.carrying()):
        maps = values[n].dim() == 4 and values[n].shape[2] * values[n].shape[3] > 1
        if maps and not isinstance(graph.layers[n], MaxPool | AveragePool | Identity | Rearrange):
            return n
    raise UnsupportedLayer("Grad-CAM needs feature maps (N, C, H, W), and the network has none")


@dataclass(frozen=True, kw_only=True)
class GradCam:
    """Grad-CAM at the last feature maps, enlarged bilinearly and shared evenly by the input's channels.

    Source: Selvaraju et al. 2017, Eq. 1 and 2.
    """

    title: ClassVar[str] = "Grad-CAM"
    signed: ClassVar[bool] = False

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        cam = class_activation(trace(model, x), x, target)
        enlarged = functional.interpolate(cam, x.shape[2:], mode="bilinear", align_corners=False)
        return (enlarged / x.shape[1]).expand_as(x).clone()


@dataclass(frozen=True, kw_only=True)
class GuidedGradCam:
    """Grad-CAM times Guided Backprop.

    Source: Selvaraju et al. 2017, Section 3.2.
    """

    title: ClassVar[str] = "Guided Grad-CAM"
    signed: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        graph = trace(model, x)
        cam = GradCam()(graph, x, target, seeds=seeds) * x.shape[1]
        return cam * GuidedBackprop()(graph, x, target, seeds=seeds)

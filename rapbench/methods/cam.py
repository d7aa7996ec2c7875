"""Class activation maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rapbench.methods.feature_maps import feature_maps
from rapbench.methods.gradient import right_gradients
from rapbench.methods.guided import guided, with_rectifiers
from rapbench.relprop.graph import Graph
from rapbench.relprop.idle import prepared


@dataclass(frozen=True, kw_only=True)
class GradCam:
    """Grad-CAM at the last feature maps, enlarged bilinearly and shared evenly by the input's channels.

    The last maps are those behind the last rectifier, batch norm or addition before the network pools over positions:
    of torchvision's families, `features.29` of VGG-16 (14 x 14), the last `relu` of ResNet's `layer4`, the class maps
    behind the rectifier in SqueezeNet's `classifier`, the rectified `features.norm5` of DenseNet, the last
    concatenation of Inception, the last addition in ConvNeXt's `features` and the last `norm` of Swin.

    Tokens are maps where each holds a position; those that hold none, such as class tokens, count for nothing. Behind
    the last attention a class token alone reaches the logits, so that the last maps of ViT are what enters the last
    block: the sum behind the block before it. Its normalised form is another layer, which can be named:
    `encoder.layers.encoder_layer_11.ln_1` of torchvision's ViT-B, `blocks.11.norm1` of timm's.

    Attributes:
        layer: whose output to take instead: a module, of which that is what runs last in it, or a traced function's
            node. An unknown name is refused with the nearest known one.

    Source: Selvaraju et al. 2017, Eq. 1 and 2.
    """

    title: ClassVar[str] = "Grad-CAM"
    signed: ClassVar[bool] = False

    layer: str = ""

    def weights(self, maps: Tensor, gradient: Tensor) -> Tensor:
        """How much maps A count, (N, C, 1, 1) or (N, C, h, w), by the gradients at them: the mean over positions."""
        return gradient.mean((2, 3), keepdim=True)

    def activation(self, graph: Graph, values: Sequence[Any], target: Tensor) -> Tensor:
        """ReLU(Σ_k α_k A_k), (N, 1, h, w): A the maps, α their weights.

        Args:
            graph: the network.
            values: of all its layers in a forward pass, detached.
            target: (N,).

        Source: Selvaraju et al. 2017, Eq. 2.
        """
        found = feature_maps(graph, values, self.layer)
        with torch.enable_grad():
            leaf = values[found.position].detach().requires_grad_()
            score = graph.continued(values, found.position, leaf).gather(1, target.unsqueeze(1)).sum()
            (gradient,) = torch.autograd.grad(score, leaf)
        maps, gradient = found.maps(leaf.detach()), found.maps(gradient)
        return (self.weights(maps, gradient) * maps).sum(1, keepdim=True).relu()

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        graph = prepared(model, x)
        with torch.no_grad():
            values = graph.values(x)
        with right_gradients(x):
            return enlarged(self.activation(graph, values, target), x) / x.shape[1]


@dataclass(frozen=True, kw_only=True)
class GradCamPlusPlus(GradCam):
    """Grad-CAM++: positive gradients alone, weighted position by position as if the score were exp(f_c).

    Source: Chattopadhay et al. 2018, Eq. 19.
    Departs: without the factor exp(f_c), which is the same for the whole map of an image.
    """

    title: ClassVar[str] = "Grad-CAM++"

    def weights(self, maps: Tensor, gradient: Tensor) -> Tensor:
        """Σ α ReLU(g) over positions, g the gradient and α = g² / (2 g² + g³ Σ A)."""
        alpha = 1 / (2 + gradient * maps.sum((2, 3), keepdim=True))
        return torch.where(gradient > 0, alpha * gradient, 0).sum((2, 3), keepdim=True)


@dataclass(frozen=True, kw_only=True)
class LayerCam(GradCam):
    """LayerCAM, ReLU(Σ_k ReLU(∂f_c/∂A_k) · A_k): every position of every map has its own weight.

    Source: Jiang et al. 2021.
    """

    title: ClassVar[str] = "LayerCAM"

    def weights(self, maps: Tensor, gradient: Tensor) -> Tensor:
        """ReLU(∂f_c/∂A)."""
        return gradient.relu()


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
            return enlarged(GradCam(layer=self.layer).activation(graph, kept, target), x) * gradient


def enlarged(cam: Tensor, x: Tensor) -> Tensor:
    """A map (N, 1, h, w) at the size of `x`, the same for every channel."""
    return bilinear(cam, x).expand_as(x).clone()


def bilinear(maps: Tensor, x: Tensor) -> Tensor:
    """Maps (N, C, h, w) at the size of `x`, pixels' centres apart evenly from edge to edge."""
    return functional.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=False)

"""Every propagation method on every family of torchvision's CNNs, with untrained weights, and what is refused."""

from __future__ import annotations

import pytest
import torch
from networks import ATTENTION
from torch import Tensor, nn
from torchvision.models import get_model

from rapbench.core.catalogue import Call
from rapbench.core.errors import UnsupportedLayer
from rapbench.methods import METHODS

FAMILIES = [
    *("alexnet", "vgg11_bn", "resnet18", "resnext50_32x4d", "squeezenet1_0", "densenet121"),
    *("googlenet", "inception_v3", "mobilenet_v2", "mnasnet0_5", "shufflenet_v2_x0_5"),
]
MODERN = {
    **dict.fromkeys(("mobilenet_v3_small", "efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf"), 64),
    "convnext_tiny": 64,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vit_b_32": 224,
}
"""Families, and the side of the pictures they are shown."""
NORMALISING = {"convnext_tiny", "swin_t", "swin_v2_t", "vit_b_32"}
"""Families that normalise an image by its own values."""
RULES = ["rap", "lrp_epsilon", "lrp_a2b1", "lrp_epsilon_gamma_box", "lrp_flat", "deeplift_rescale", "input_gradient"]
FEW = {
    "integrated_gradients": {"steps": "1"},
    "smooth_grad": {"samples": "1"},
    "smooth_grad_squared": {"samples": "1"},
    "rise": {"masks": "8"},
}


def network(family: str) -> nn.Module:
    options = {"init_weights": True, "aux_logits": True} if family in {"googlenet", "inception_v3"} else {}
    net: nn.Module = get_model(family, weights=None, **options)
    for parameter in net.parameters():
        if not parameter.any():  # as the head of torchvision's ViT, whose relevance would be 0
            nn.init.normal_(parameter, std=0.02)
    return net.eval()


def pictures(side: int) -> Tensor:
    return torch.randn(1, 3, side, side, dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_explains_the_family(family: str) -> None:
    net, x, target = network(family), torch.randn(1, 3, 80, 80), torch.tensor([3])
    signals = {
        "signal_w",
        "pattern_net",
        "pattern_attribution",
        "pattern_attribution_a",
    }  # of networks without additions
    left_out = signals | {"maps", "score_cam", *ATTENTION}  # score_cam takes a pass for each of many maps
    for name in [name for name in METHODS if name not in left_out]:
        relevance = METHODS.build(Call(name, FEW.get(name, {})))(net, x, target, seeds=torch.tensor([1]))
        assert relevance.shape == x.shape, name
        assert relevance.isfinite().all(), name


@pytest.mark.slow
@pytest.mark.parametrize("family", MODERN)
def test_families_with_gates_attention_and_other_activations_are_explained(family: str) -> None:
    net, x, target = network(family).double(), pictures(MODERN[family]), torch.tensor([3])
    for name in RULES:
        if family in NORMALISING and name in {"rap", "deeplift_rescale"}:
            with pytest.raises(
                UnsupportedLayer, match=r"no rule for (LayerNorm|layer_norm) .*normalised by its own values"
            ):
                METHODS.build(Call(name, {}))(net, x, target, seeds=torch.tensor([1]))
            continue
        relevance = METHODS.build(Call(name, {}))(net, x, target, seeds=torch.tensor([1]))
        assert relevance.isfinite().all(), name
        assert relevance.any(), name

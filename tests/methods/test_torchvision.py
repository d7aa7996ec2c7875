"""Every propagation method on every family of torchvision's CNNs, with untrained weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from rapbench.core.catalogue import Call
from rapbench.methods import METHODS

FAMILIES = [
    *("alexnet", "vgg11_bn", "resnet18", "resnext50_32x4d", "squeezenet1_0", "densenet121"),
    *("googlenet", "inception_v3", "mobilenet_v2", "mnasnet0_5", "shufflenet_v2_x0_5"),
]
FEW = {"integrated_gradients": {"steps": "1"}, "smooth_grad": {"samples": "1"}, "smooth_grad_squared": {"samples": "1"}}


def network(family: str) -> nn.Module:
    options = {"init_weights": True, "aux_logits": True} if family in {"googlenet", "inception_v3"} else {}
    return get_model(family, weights=None, **options).eval()


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
    for name in [name for name in METHODS if name not in signals | {"maps"}]:
        relevance = METHODS.build(Call(name, FEW.get(name, {})))(net, x, target, seeds=torch.tensor([1]))
        assert relevance.shape == x.shape, name
        assert relevance.isfinite().all(), name

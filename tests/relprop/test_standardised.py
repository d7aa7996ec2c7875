"""Convolutions whose weights are standardised when they run, as timm's normaliser-free networks have them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import rapbench


class Standardised(nn.Conv2d):
    """A convolution with weights of mean 0 and variance 1, by a batch norm over each filter."""

    def standard(self) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        norm = functional.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6)
        return norm.reshape_as(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.standard(), self.bias, self.stride, self.padding)


@pytest.mark.parametrize(
    "method", ["rap", "lrp_epsilon", "lrp_a2b1", "deeplift_rescale", "guided_backprop", "grad_cam"]
)
def test_a_standardised_convolution_is_a_convolution_with_those_weights(method: str) -> None:
    torch.manual_seed(0)
    rest = nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    net = nn.Sequential(Standardised(3, 4, 3), *rest).double().eval()
    plain = nn.Conv2d(3, 4, 3).double()
    with torch.no_grad():
        plain.weight.copy_(net[0].standard())
        plain.bias.copy_(net[0].bias)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = rapbench.attribute(nn.Sequential(plain, *rest).eval(), x, target=1, method=method)
    assert torch.allclose(rapbench.attribute(net, x, target=1, method=method), expected, rtol=1e-9, atol=1e-12)

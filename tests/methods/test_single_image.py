"""A single image has the relevance that it has in a batch, also where PyTorch's own gradient of batch norm is wrong."""

from __future__ import annotations

import pytest
import torch
from networks import relative
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.catalogue import Call
from rapbench.methods import METHODS

FEW = {"integrated_gradients": {"steps": "2"}, "smooth_grad": {"samples": "2"}, "smooth_grad_squared": {"samples": "2"}}
GRADIENTS = ("gradient", "input_gradient", *FEW, "guided_backprop", "deconvnet", "guided_grad_cam", "lrp_zero", "rap")


class Permuted(nn.Module):
    """Batch norm of maps that were tokens a moment ago: the strides of a single image do not tell their order."""

    def __init__(self, *, as_function: bool) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Linear(8, 5)
        self.norm, self.as_function = nn.BatchNorm2d(8), as_function
        self.norm.running_mean.normal_()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x)).flatten(2).transpose(1, 2)
        x = x.permute(0, 2, 1).reshape(x.size(0), 8, 6, 6)
        norm = self.norm
        x = (
            functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
            if self.as_function
            else norm(x)
        )
        x = torch.relu(x.flatten(2).transpose(1, 2)).permute(0, 2, 1).reshape(x.size(0), 8, 6, 6)
        return self.last(torch.relu(self.second(x)).mean((2, 3)))


@pytest.mark.parametrize("as_function", [False, True])
@pytest.mark.parametrize("name", GRADIENTS)
def test_a_single_image_has_the_map_that_it_has_in_a_batch(name: str, as_function: bool) -> None:
    torch.manual_seed(0)
    net = Permuted(as_function=as_function).double().eval()
    x, classes, seeds = torch.randn(2, 3, 12, 12, dtype=torch.float64), torch.tensor([1, 2]), torch.tensor([3, 4])
    method = METHODS.build(Call(name, FEW.get(name, {})))
    expected = method(net, x, classes, seeds=seeds)[:1]
    assert relative(method(net, x[:1], classes[:1], seeds=seeds[:1]), expected) < 1e-9

"""Images in float64 and a network in float32: what rounding leaves of maps where branches cancel."""

from __future__ import annotations

import pytest
import torch
from networks import images, network
from torch import Tensor, nn

from rapbench.core.types import Method
from rapbench.methods.lrp import LRPAlpha1Beta0, LRPFlat, LRPWSquare
from rapbench.methods.rap import RAP
from rapbench.relprop.tracing.trace import trace

CLASSES = torch.tensor([0, 1, 2])
DIVIDING: list[Method] = [RAP(), RAP(batch_norm="fold"), LRPWSquare(), LRPFlat()]


def rounded(kind: str) -> nn.Module:
    """A float64 network whose weights float32 holds exactly."""
    return network(kind).float().double()


def explained(method: Method, net: nn.Module, x: Tensor) -> Tensor:
    return method(net, x, CLASSES, seeds=CLASSES)


def l1(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().sum() / expected.abs().sum())


@pytest.mark.parametrize("method", DIVIDING, ids=str)
@pytest.mark.parametrize("kind", ["bottleneck", "basic_block"])
def test_errors_of_methods_that_divide_by_sums_are_those_of_the_forward_pass(kind: str, method: Method) -> None:
    x = images().float().double()
    expected = explained(method, rounded(kind), x)
    single = rounded(kind).float()
    found = explained(method, single, x)
    assert found.dtype == torch.float32
    assert l1(found, expected) < 2e-5
    assert l1(explained(method, single, x.float()), expected) > 10 * l1(found, expected)


def test_values_are_rounded_once_they_have_been_used() -> None:
    graph = trace(network("bottleneck"), images())
    values = graph.values(images(), kept=torch.float32)
    read = {i for layer in graph.layers for i in layer.inputs} | {graph.output}
    assert {values[i].dtype for i in read} == {torch.float32}


def test_the_wider_network_is_made_once_for_each_state_of_the_weights() -> None:
    net = network("bottleneck").float()
    graph = trace(net, images().float()).folded()
    wide = graph.widened(torch.float64)
    assert graph.widened(torch.float64) is wide
    assert wide.dtype == torch.float64
    with torch.no_grad():
        net.fc.bias.add_(1)  # type: ignore[union-attr, operator]
    again = trace(net, images().float()).folded().widened(torch.float64)
    assert torch.allclose(again(images()), net.double()(images()))


def test_batch_norms_are_folded_in_the_wider_type() -> None:
    net = network("bottleneck").float()
    expected = trace(network("bottleneck").float().double(), images()).folded()(images())
    assert torch.allclose(trace(net, images().float()).folded().widened(torch.float64)(images()), expected, rtol=1e-13)


def test_a_method_that_needs_no_wider_forward_pass_takes_one_all_the_same() -> None:
    x = images().float().double()
    expected = explained(LRPAlpha1Beta0(), rounded("vgg"), x)
    assert l1(explained(LRPAlpha1Beta0(), rounded("vgg").float(), x), expected) < 1e-6

"""A graph that is not the network is refused, and the first layer that differs is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from networks import NETWORKS, images, network
from torch import Tensor, nn

import rapbench
from rapbench.core.errors import UnsupportedLayer
from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import Convolution, Layer
from rapbench.relprop.tracing.checked import verify
from rapbench.relprop.tracing.trace import trace


def logits(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x.clone())


def changed(graph: Graph, name: str, change: Callable[[Layer], Layer]) -> Graph:
    return Graph([change(layer) if layer.name == name else layer for layer in graph.layers], graph.output)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_its_graph(name: str, dtype: torch.dtype) -> None:
    net, x = network(name).to(dtype), images(2).to(dtype)
    verify(trace(net, x), net, x, logits(net, x))


def test_a_layer_that_computes_something_else_is_named() -> None:
    net, x = network("bottleneck"), images(2)
    graph = trace(net, x)
    wrong = changed(graph, "layer2.0.conv2", lambda layer: replace(layer, function=lambda x: 1.001 * layer.function(x)))
    with pytest.raises(UnsupportedLayer, match=r"differs from the network's at Conv2d at node 'layer2\.0\.conv2'$"):
        verify(wrong, net, x, logits(net, x))


def test_a_function_that_computes_something_else_is_named_with_its_line() -> None:
    net, x = network("functional"), images(2)
    wrong = changed(trace(net, x), "add", lambda layer: replace(layer, function=torch.sub))
    with pytest.raises(UnsupportedLayer, match=r"add at node 'add' \(Functional, networks\.py line \d+\)"):
        verify(wrong, net, x, logits(net, x))


def test_a_product_that_is_not_the_layer_is_named() -> None:
    def other(layer: Layer) -> Layer:
        assert isinstance(layer, Convolution)
        return replace(layer, weight=layer.weight * 1.01)

    net, x = network("vgg"), images(2)
    with pytest.raises(UnsupportedLayer, match="Conv2d at node '2' is not the product of its weights and its input"):
        verify(changed(trace(net, x), "2", other), net, x, logits(net, x))


class Quantised(nn.Module):
    """Rounds by an operation without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.fc(y.mul(8).to(torch.int32).to(y.dtype).mean((2, 3)))


@pytest.mark.parametrize("method", ["gradient", "guided_backprop", "grad_cam", "integrated_gradients"])
def test_an_operation_that_no_gradient_passes_is_refused(method: str) -> None:
    with pytest.raises(UnsupportedLayer, match=r"no gradient passes to at node 'to_1' \(Quantised, test_checked"):
        rapbench.attribute(Quantised().double(), images(2), method=method)


class Gate(nn.Module):
    """Looks at values, and holds back a gradient."""

    def __init__(self, *, detached: bool) -> None:
        super().__init__()
        self.conv, self.fc, self.detached = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), detached

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = y if y[0, 0, 0, 0] > -1e9 else -y
        return self.fc((y.detach() + y if self.detached else y + y).relu().mean((2, 3)))


def test_a_network_that_cannot_be_followed_is_explained_by_its_own_gradient_if_that_is_whole() -> None:
    net, x = Gate(detached=False).double(), images(2)
    found = rapbench.attribute(net, x, target=1, method="input_gradient")
    inputs = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(inputs)[:, 1].sum(), inputs)
    assert torch.allclose(found, x * gradient)
    with pytest.raises(UnsupportedLayer, match="depends on the values"):
        rapbench.attribute(net, x, method="rap")
    with pytest.raises(UnsupportedLayer, match=r"no gradient passes detach at Gate, test_checked\.py line"):
        rapbench.attribute(Gate(detached=True).double(), x, method="gradient")


def test_without_the_check_a_graph_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UnsupportedLayer("checked")

    monkeypatch.setattr("rapbench.backends.attribution.verify", refuse)
    expected = rapbench.attribute(network("vgg"), images(2), check=False)
    with pytest.raises(UnsupportedLayer, match="checked"):
        rapbench.attribute(network("vgg"), images(2))
    assert expected.isfinite().all()

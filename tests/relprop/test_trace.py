"""The traced graph is the network: same logits, same gradients, and the network is left alone."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import NETWORKS, images, network, relative
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from rapbench.core.errors import UnsupportedLayer
from rapbench.methods.gradient import InputGradient
from rapbench.methods.lrp import LRPZero
from rapbench.methods.rap import RAP
from rapbench.relprop.layers import BatchNorm, Convolution, Dense, Rearrange, Size, Unsupported
from rapbench.relprop.tracing.trace import trace

ZOO = [
    *("alexnet", "vgg11_bn", "resnet18", "resnet50", "resnext50_32x4d", "squeezenet1_0", "densenet121"),
    *("mobilenet_v2", "mnasnet0_5", "shufflenet_v2_x0_5"),
    *("mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny"),
]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_gives_the_networks_logits_and_gradients(name: str) -> None:
    net, x = network(name), images()
    x.requires_grad_()
    expected, found = net(x.clone()), trace(net, x)(x)
    assert relative(found, expected) < 1e-12
    gradients = [torch.autograd.grad(logits.sum(), x)[0] for logits in (expected, found)]
    assert relative(gradients[1], gradients[0]) < 1e-12


@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_torchvision_networks_are_traced_with_every_operation_known(name: str) -> None:
    net = models.get_model(name, weights=None).eval()
    x = torch.randn(1, 3, 64, 64)
    graph = trace(net, x)
    assert relative(graph(x), net(x.clone())) < 1e-5
    assert not [n for n in graph.carrying() if isinstance(graph.layers[n], Unsupported)]


@pytest.mark.parametrize("name", NETWORKS)
def test_tracing_and_explaining_leave_the_network_as_it_was(name: str) -> None:
    net = network(name).train()
    before = copy.deepcopy(net.state_dict())
    flags = [(m.training, getattr(m, "inplace", None), len(m._forward_hooks)) for m in net.modules()]
    x = images()
    RAP()(net, x.clone(), torch.zeros(3, dtype=torch.int64), seeds=torch.zeros(3))
    after = net.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert flags == [(m.training, getattr(m, "inplace", None), len(m._forward_hooks)) for m in net.modules()]
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(x, images())


@pytest.mark.parametrize("name", ["bottleneck", "basic_block", "dense"])
@torch.no_grad()
def test_folding_batch_norms_keeps_the_logits(name: str) -> None:
    x = images()
    graph = trace(network(name), x)
    folded = graph.folded()
    assert relative(folded(x), graph(x)) < 1e-12
    kept = [layer for layer in folded.layers if isinstance(layer, BatchNorm)]
    assert len(kept) == (3 if name == "dense" else 0), "a norm that no convolution alone feeds stays"


class WritesInPlace(nn.Module):
    """What is read again after an operation wrote into it is the result of that operation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv(x)
        b = self.relu(a)
        c = self.conv(x)
        c.add_(a)
        functional.relu(c, inplace=True)
        d = self.conv(x)
        d += c
        return self.fc(torch.relu(a + b + c + d).mean([2, 3]))


def test_values_written_in_place_are_read_as_the_network_reads_them() -> None:
    net, x = WritesInPlace().double(), images()
    logits = net(x.clone()).detach()
    assert relative(trace(net, x)(x).detach(), logits) < 1e-12
    relevance = RAP()(net, x, torch.zeros(3, dtype=torch.int64), seeds=torch.zeros(3))
    assert relative(relevance.sum((1, 2, 3)), logits[:, 0]) < 1e-9


@pytest.mark.parametrize("padding", ["same", "valid", 1, (2, 0)])
def test_functional_convolutions_know_their_geometry(padding: str | int | tuple[int, int]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.fc = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.LazyLinear(2)

        def forward(self, x: Tensor) -> Tensor:
            y = functional.conv2d(x, self.weight, padding=padding)
            return self.fc(torch.relu(y).flatten(1))

    net, x = Net(), images().float()
    logits = net(x)
    relevance = RAP()(net, x, torch.zeros(3, dtype=torch.int64), seeds=torch.zeros(3))
    assert relative(relevance.sum((1, 2, 3)), logits[:, 0]) < 1e-4


def test_first_and_last_weighted_layers_are_found() -> None:
    graph = trace(network("fire"), images())
    assert [graph.layers[n].name for n in graph.first()] == ["0"]
    assert [graph.layers[n].name for n in graph.last()] == ["5"]
    assert isinstance(graph.layers[max(graph.last())], Convolution)
    graph = trace(network("bottleneck"), images())
    assert [graph.layers[n].name for n in graph.last()] == ["fc"]
    assert isinstance(graph.layers[max(graph.last())], Dense)


def test_only_values_behind_a_rectifier_count_as_nonnegative() -> None:
    graph = trace(network("functional"), images())
    for layer, known in zip(graph.layers, graph.nonnegative, strict=True):
        if isinstance(layer, Convolution | Dense) or layer.operation == "input":
            assert not known
        elif not isinstance(layer, Size) and layer.name != "cat":
            assert known, layer.name


def test_pooled_pixels_are_not_taken_for_nonnegative() -> None:
    graph = trace(nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 3)), images().float())
    assert not any(graph.nonnegative)


def test_a_graph_is_its_own_trace() -> None:
    graph = trace(network("vgg"), images())
    assert trace(graph, images()) is graph


class Weighing(nn.Module):
    """An operation that no rule covers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.fc = nn.Conv2d(3, 4, 3), nn.Softmax(1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.gate(self.conv(x)).mean([2, 3]))


def test_a_layer_without_a_rule_is_refused_with_node_operation_and_method() -> None:
    with pytest.raises(UnsupportedLayer, match="RAP has no rule for Softmax at node 'gate'"):
        RAP()(Weighing(), torch.randn(1, 3, 8, 8), torch.tensor([0]), seeds=torch.tensor([0]))


class Branching(nn.Module):
    """A forward pass that depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced_is_refused_by_name() -> None:
    with pytest.raises(
        UnsupportedLayer, match=r"cannot follow __bool__ at Branching, test_trace.py line \d+: .* depends on the values"
    ):
        trace(Branching(), images())


def test_two_outputs_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(UnsupportedLayer, match="one tensor of logits"):
        trace(Two(), images())


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_padding_of_copies_sends_relevance_back_to_what_was_copied(mode: str) -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode)
    net = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 32 * 32, 2)).double()
    x, target, seeds = images(), torch.tensor([0, 1, 1]), torch.zeros(3)
    graph = trace(net, x)
    assert [type(layer) for layer in graph.layers[1:3]] == [Rearrange, Convolution]
    found = LRPZero()(net, x, target, seeds=seeds)
    assert relative(found, InputGradient()(net, x, target, seeds=seeds)) < 1e-9
    logits = net(x).detach().gather(1, target.unsqueeze(1)).squeeze(1)
    assert relative(RAP()(net, x, target, seeds=seeds).sum((1, 2, 3)), logits) < 1e-9


def test_large_maps_propagated_one_by_one_give_the_same_relevance(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, target = network("vgg"), images(), torch.tensor([0, 1, 2])
    together = RAP()(net, x, target, seeds=torch.zeros(3))
    monkeypatch.setattr("rapbench.relprop.propagation._LARGE", 1)
    assert relative(RAP()(net, x, target, seeds=torch.zeros(3)), together) < 1e-12


def test_rectifiers_in_a_row_are_computed_again_in_order() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ReLU6(), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 2)).double()
    logits = net(images()).detach()
    relevance = RAP()(net, images(), torch.zeros(3, dtype=torch.int64), seeds=torch.zeros(3))
    assert relative(relevance.sum((1, 2, 3)), logits[:, 0]) < 1e-9

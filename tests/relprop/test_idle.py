"""What does nothing to its input changes no map of any method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from networks import ATTENTION, NETWORKS, images, network, relative
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.catalogue import Call
from rapbench.methods import METHODS
from rapbench.methods.lrp import LRPFlat, LRPWSquare
from rapbench.methods.lrp_composites import LRPEpsilonPlus
from rapbench.methods.rap import RAP
from rapbench.relprop.graph import Graph
from rapbench.relprop.idle import prepared, settled
from rapbench.relprop.layers import AveragePool, BatchNorm, Identity, Layer, MaxPool, Rearrange
from rapbench.relprop.tracing.trace import trace

FEW = {
    "integrated_gradients": {"steps": "2"},
    "smooth_grad": {"samples": "2"},
    "smooth_grad_squared": {"samples": "2"},
    "rise": {"masks": "8"},
}
OTHERS = ("pattern_net", "pattern_attribution", "pattern_attribution_a", "random", "center", "edge", "maps", *ATTENTION)
EXPLAINING = [name for name in METHODS if name not in OTHERS and not name.startswith("all_")]
SIGNALLING = ("vgg", "fire")  # signals have no rule for additions and for batch norm that cannot be folded
FEWER = ("signal_w", "score_cam")  # which takes a forward pass for each of many maps in the others
CLASSES = torch.tensor([0, 1])

Insertion = tuple[type[Layer], Callable[[Tensor], Tensor]]
POOLED: list[Insertion] = [(MaxPool, lambda x: functional.max_pool2d(x, 1))]
AVERAGED: list[Insertion] = [(AveragePool, lambda x: functional.avg_pool2d(x, 1))]
ADAPTED: list[Insertion] = [(AveragePool, lambda x: functional.adaptive_avg_pool2d(x, x.shape[2:]))]
PERMUTED: list[Insertion] = [(Rearrange, lambda x: x.permute(0, 2, 3, 1)), (Rearrange, lambda x: x.permute(0, 3, 1, 2))]
SCALED: list[Insertion] = [(BatchNorm, lambda x: x)]
IDLE = {"pool of 1": POOLED, "average of 1": AVERAGED, "adaptive": ADAPTED, "permuted": PERMUTED, "scaled": SCALED}


def inserted(graph: Graph, x: Tensor, choice: Callable[[int], list[Insertion]]) -> Graph:
    """The same network with layers that do nothing behind every layer that gives maps, the input included."""
    values, layers, moved = graph.values(x), [], {}
    for n, layer in enumerate(graph.layers):
        positions = {"inputs": tuple(moved[i] for i in layer.inputs), "sizes": tuple(moved[i] for i in layer.sizes)}
        layers.append(replace(layer, **positions))
        if isinstance(values[n], Tensor) and values[n].dim() == 4:
            for kind, function in choice(n):
                layers.append(built(kind, function, len(layers) - 1, values[n]))
        moved[n] = len(layers) - 1
    return Graph(layers, moved[graph.output])


def built(kind: type[Layer], function: Callable[[Tensor], Tensor], source: int, value: Tensor) -> Layer:
    common: dict[str, Any] = {"name": f"idle{source}", "operation": "idle", "inputs": (source,)}
    if kind is not BatchNorm:
        return kind(**common, function=function)
    mean, var = value.new_zeros(value.shape[1]), value.new_ones(value.shape[1])
    norm = BatchNorm(**common, function=function, running_mean=mean, running_var=var, weight=None, bias=None, eps=0.0)
    return replace(norm, function=norm.applied)


def explained(name: str, model: nn.Module) -> Tensor:
    return METHODS.build(Call(name, FEW.get(name, {})))(model, images(2), CLASSES, seeds=CLASSES)


def assert_unchanged(name: str, kind: str, choice: Callable[[int], list[Insertion]]) -> None:
    graph = trace(network(kind), images(2))
    with torch.no_grad():
        longer = inserted(graph, images(2), choice)
    expected, found = explained(name, graph), explained(name, longer)
    assert torch.allclose(found, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max())), name


def every_kind(n: int) -> list[Insertion]:
    return list(IDLE.values())[n % len(IDLE)]


@pytest.mark.parametrize("name", [name for name in EXPLAINING if name not in FEWER])
def test_a_map_does_not_change_under_layers_that_do_nothing(name: str) -> None:
    assert_unchanged(name, "bottleneck", every_kind)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"), [pair for pair in product(EXPLAINING, NETWORKS) if pair[0] not in FEWER or pair[1] in SIGNALLING]
)
def test_a_map_does_not_change_whatever_does_nothing_and_wherever(name: str, kind: str) -> None:
    """One kind of idle layer everywhere, another for each network that a method explains."""
    place = list(EXPLAINING).index(name) + list(NETWORKS).index(kind)
    assert_unchanged(name, kind, lambda _: every_kind(place))


@pytest.mark.parametrize("method", [LRPFlat(), LRPWSquare(), RAP()], ids=lambda method: method.title)
def test_an_adaptive_pool_of_maps_that_have_its_size_loses_nothing(method: Any) -> None:
    def net(*middle: nn.Module) -> nn.Module:
        torch.manual_seed(0)
        last = nn.Linear(4 * 64, 5)
        return nn.Sequential(nn.Conv2d(3, 4, 5, 4, 2), nn.ReLU(), *middle, nn.Flatten(), last).double().eval()

    plain, pooled = net(), net(nn.AdaptiveAvgPool2d(8))
    expected = method(plain, images(2), CLASSES, seeds=CLASSES)
    assert relative(method(pooled, images(2), CLASSES, seeds=CLASSES), expected) < 1e-12


@pytest.mark.parametrize("between", [nn.Identity(), nn.Dropout(), nn.MaxPool2d(1), nn.AdaptiveAvgPool2d(30)])
def test_batch_norm_folds_through_what_does_nothing(between: nn.Module) -> None:
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 5)
    parts[1].running_mean.normal_()
    plain = nn.Sequential(*parts).double().eval()
    apart = nn.Sequential(parts[0], between, *parts[1:]).double().eval()
    expected = LRPEpsilonPlus()(plain, images(2), CLASSES, seeds=CLASSES)
    assert relative(LRPEpsilonPlus()(apart, images(2), CLASSES, seeds=CLASSES), expected) < 1e-12
    assert not any(isinstance(layer, BatchNorm) for layer in prepared(apart, images(2), fold=True).layers)


def test_a_pool_that_averages_is_not_taken_for_one_that_does_nothing() -> None:
    net = nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.Flatten(), nn.Linear(3072, 5)).double()
    constant = torch.ones(1, 3, 32, 32, dtype=torch.float64)
    assert not any(isinstance(layer, Identity) for layer in settled(trace(net, constant), constant).layers)


def test_what_was_made_of_a_graph_is_made_again_when_a_weight_changes() -> None:
    net = network("bottleneck")
    graph = trace(net, images(2))
    before = prepared(graph, images(2), fold=True)
    assert prepared(graph, images(2), fold=True) is before
    with torch.no_grad():
        net.conv1.weight.mul_(2)  # type: ignore[union-attr, operator]
    after = prepared(graph, images(2), fold=True)
    assert after is not before
    assert relative(after(images(2)), net(images(2))) < 1e-9

"""What every method of the catalogue promises, on every kind of network."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import NETWORKS, images, network
from torch import Tensor

from rapbench.core.catalogue import Call
from rapbench.core.types import Method
from rapbench.methods import METHODS

pytestmark = pytest.mark.parametrize("name", METHODS)
on_every_network = pytest.mark.parametrize("kind", NETWORKS)


def method(name: str) -> Method:
    built: Method = METHODS.build(Call(name, {"steps": "4"} if name == "integrated_gradients" else {}))
    return built


def explained(name: str, kind: str, x: Tensor, seeds: list[int]) -> Tensor:
    net = network(kind)
    return method(name)(net, x, net(x.clone()).argmax(1), seeds=torch.tensor(seeds))


@on_every_network
def test_relevance_has_the_inputs_shape_and_type_and_is_finite(name: str, kind: str) -> None:
    x = images()
    relevance = explained(name, kind, x, [1, 2, 3])
    assert relevance.shape == x.shape
    assert relevance.dtype == x.dtype
    assert relevance.isfinite().all()
    assert not relevance.requires_grad


@on_every_network
def test_an_images_relevance_does_not_depend_on_its_batch(name: str, kind: str) -> None:
    x = images()
    together = explained(name, kind, x, [1, 2, 3])
    alone = torch.cat([explained(name, kind, x[n : n + 1], [n + 1]) for n in range(3)])
    assert torch.allclose(together, alone, rtol=1e-9, atol=1e-12 * float(together.abs().max() + 1))


@on_every_network
def test_the_same_seeds_give_the_same_bytes(name: str, kind: str) -> None:
    x = images()
    assert torch.equal(explained(name, kind, x, [1, 2, 3]), explained(name, kind, x, [1, 2, 3]))


@on_every_network
def test_network_and_input_are_left_as_they_were(name: str, kind: str) -> None:
    net, x = network(kind), images()
    before = copy.deepcopy(net.state_dict())
    method(name)(net, x, torch.zeros(3, dtype=torch.int64), seeds=torch.tensor([1, 2, 3]))
    after = net.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(x, images())


def test_float32_agrees_with_float64(name: str) -> None:
    net, x = network("vgg"), images()
    if name == "random":
        return  # its draws are defined in single precision
    target, seeds = net(x).argmax(1), torch.tensor([1, 2, 3])
    double = method(name)(net, x, target, seeds=seeds)
    single = method(name)(net.float(), x.float(), target, seeds=seeds)
    assert float((single - double).abs().sum()) <= 5e-4 * float(double.abs().sum())


def test_the_title_and_sign_are_declared(name: str) -> None:
    assert method(name).title
    assert isinstance(method(name).signed, bool)

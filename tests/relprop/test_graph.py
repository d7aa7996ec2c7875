"""Looking at relevance on its way from the logits to the input."""

from __future__ import annotations

import pytest
import torch
from networks import NETWORKS, images, network
from torch import Tensor

from rapbench.methods.gradient import InputGradient
from rapbench.methods.lrp_composites import LRPEpsilonPlus
from rapbench.methods.rap import RAP
from rapbench.relprop.layers import Input
from rapbench.relprop.propagation import observing
from rapbench.relprop.tracing.trace import trace

SEEDS = torch.zeros(3, dtype=torch.int64)


def explained(method: RAP | LRPEpsilonPlus | InputGradient, name: str) -> tuple[Tensor, dict[int, Tensor]]:
    seen: dict[int, Tensor] = {}
    with observing(lambda n, relevance: seen.update({n: relevance.clone()})):
        relevance = method(network(name), images(), torch.tensor([0, 1, 2]), seeds=SEEDS)
    return relevance, seen


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_that_relevance_passes_is_seen_from_the_logits_to_the_input(name: str) -> None:
    graph = trace(network(name), images())
    relevance, seen = explained(RAP(), name)
    assert list(seen) == [*reversed(graph.carrying()), 0]
    values = graph.values(images())
    assert all(seen[n].shape == values[n].shape for n in seen)
    assert torch.equal(seen[0], relevance)
    assert torch.equal(seen[graph.output], graph(images()) * torch.eye(3, 5))


@pytest.mark.parametrize("name", NETWORKS)
def test_at_a_waist_the_whole_relevance_is_seen(name: str) -> None:
    graph = trace(network(name), images())
    _, seen = explained(RAP(), name)
    logit = graph(images()).gather(1, torch.tensor([[0], [1], [2]])).squeeze(1)
    for n in graph.waists():
        torch.testing.assert_close(seen[n].flatten(1).sum(1), logit)


@pytest.mark.parametrize("name", NETWORKS)
def test_waists_are_the_layers_without_which_the_input_cannot_reach_the_logits(name: str) -> None:
    graph = trace(network(name), images())

    def reached_without(missing: int) -> bool:
        reached = {n for n, layer in enumerate(graph.layers) if isinstance(layer, Input)} - {missing}
        for n, layer in enumerate(graph.layers):
            if n != missing and reached.intersection(layer.inputs):
                reached.add(n)
        return graph.output in reached

    assert graph.waists() == [n for n in range(len(graph.layers)) if not reached_without(n)]


def test_a_method_that_does_not_propagate_shows_nothing() -> None:
    assert explained(InputGradient(), "vgg")[1] == {}


def test_nobody_looks_outside_of_the_context() -> None:
    seen: list[int] = []
    with observing(lambda n, relevance: seen.append(n)):
        pass
    RAP()(network("vgg"), images(), SEEDS, seeds=SEEDS)
    assert seen == []


def test_an_observer_that_fails_is_gone_afterwards() -> None:
    def failing(position: int, relevance: Tensor) -> None:
        raise RuntimeError("looked away")

    with pytest.raises(RuntimeError, match="looked away"), observing(failing):
        RAP()(network("vgg"), images(), SEEDS, seeds=SEEDS)
    RAP()(network("vgg"), images(), SEEDS, seeds=SEEDS)


def test_looking_changes_no_number() -> None:
    unseen = LRPEpsilonPlus()(network("bottleneck"), images(), torch.tensor([0, 1, 2]), seeds=SEEDS)
    assert torch.equal(explained(LRPEpsilonPlus(), "bottleneck")[0], unseen)

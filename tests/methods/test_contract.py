"""What every method of the catalogue promises, on every kind of network."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from networks import ATTENTION, NETWORKS, images, network

from rapbench.core.catalogue import Call
from rapbench.core.types import Method
from rapbench.methods import METHODS

SIGNALS = ("signal_w", "pattern_net", "pattern_attribution", "pattern_attribution_a")
"""Methods of networks without additions; all but the first take patterns, and have the same laws in test_pattern.py."""
COMPUTED = [name for name in METHODS if name != "maps"]
"""All but what is read from files."""
ON_TRANSFORMERS = (
    *(*ATTENTION, "attn_lrp", "cp_lrp", "lrp_zero", "lrp_epsilon", "lrp_gamma", "lrp_alpha_beta", "lrp_a1b0"),
    *("lrp_a2b1", "lrp_z_plus", "lrp_z_beta", "lrp_w_square", "lrp_flat", "lrp_epsilon_plus", "lrp_epsilon_plus_flat"),
    *("lrp_epsilon_gamma_box", "deep_taylor", "gradient", "input_gradient", "integrated_gradients", "smooth_grad"),
    *("grad_cam", "grad_cam_plus_plus", "layer_cam", "score_cam", "rise"),
)
FEW = {
    "integrated_gradients": {"steps": "4"},
    "smooth_grad": {"samples": "2"},
    "smooth_grad_squared": {"samples": "2"},
    "rise": {"masks": "8"},
}


def method(name: str) -> Method:
    built: Method = METHODS.build(Call(name, FEW.get(name, {})))
    return built


MANY = {("score_cam", kind) for kind in ("bottleneck", "basic_block", "depthwise")}
"""Hundreds of maps, a forward pass for each."""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] if case in MANY else [])
        for case in [
            *product((name for name in COMPUTED if name not in (*SIGNALS, *ATTENTION)), NETWORKS),
            *((name, "transformer") for name in ON_TRANSFORMERS),
        ]
    ],
)
def test_a_method_keeps_its_contract_on_a_network(name: str, kind: str) -> None:
    net, x, seeds = network(kind), images(2), torch.tensor([1, 2])
    before = copy.deepcopy(net.state_dict())
    relevance = method(name)(net, x, torch.tensor([1, 4]), seeds=seeds)

    assert (relevance.shape, relevance.dtype) == (x.shape, x.dtype)
    assert relevance.isfinite().all()
    assert not relevance.requires_grad

    assert torch.equal(method(name)(network(kind), x, torch.tensor([1, 4]), seeds=seeds), relevance), "same seeds"
    alone = method(name)(net, x[1:], torch.tensor([4]), seeds=seeds[1:])
    tolerance = 1e-12 * float(relevance.abs().max() + 1)
    assert torch.allclose(alone, relevance[1:], rtol=1e-9, atol=tolerance), "an image alone"

    after = net.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before), "weights and statistics as they were"
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(x, images(2)), "the input as it was"


@pytest.mark.parametrize(
    "name", sorted(set(COMPUTED) - {"random", "smooth_grad", "smooth_grad_squared", *SIGNALS[1:], *ATTENTION})
)
def test_float32_agrees_with_float64(name: str) -> None:
    net, x, target, seeds = network("vgg"), images(), torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3])
    double = method(name)(net, x, target, seeds=seeds)
    single = method(name)(net.float(), x.float(), target, seeds=seeds)
    assert float((single - double).abs().sum()) <= 5e-4 * float(double.abs().sum())


@pytest.mark.parametrize("name", COMPUTED)
def test_the_title_and_sign_are_declared(name: str) -> None:
    assert method(name).title
    assert isinstance(method(name).signed, bool)

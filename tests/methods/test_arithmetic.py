"""In what arithmetic methods run unless told otherwise, and what it is worth."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from networks import NETWORKS, images, network
from torch import Tensor, nn

import rapbench
from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadConfig
from rapbench.methods import METHODS
from rapbench.methods.arithmetic import Demanding, explained, wanted
from rapbench.relprop.layers import Add
from rapbench.relprop.tracing.trace import trace

CLASSES = torch.tensor([0, 1, 2])


def of(method: str, kind: str) -> str:
    return wanted(METHODS.build(parse_call(method)), trace(network(kind), images()))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("method", ["rap", "lrp_w_square", "lrp_flat"])
def test_a_method_whose_relevance_does_not_vanish_with_a_sum_takes_a_float64_forward_pass(
    method: str, kind: str
) -> None:
    assert (of(method, kind) == "fp64-forward") == trace(network(kind), images()).has(Add)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        *(("gradient", "fp32"), ("deeplift_rescale", "fp32"), ("grad_cam", "fp32")),
        *(("lrp_a1b0", "fp32"), ("lrp_a2b1", "fp32"), ("lrp_gamma", "fp32"), ("lrp_gamma(batch_norm=rule)", "fp32")),
        *(("lrp_zero", "fp32"), ("lrp_epsilon", "fp32"), ("lrp_epsilon(batch_norm=rule)", "fp32")),
        *(("lrp_a2b1(bias=innvestigate)", "fp64"), ("lrp_a1b0(bias=innvestigate)", "fp64")),
        *(("lrp_a2b1(batch_norm=rule)", "fp64"), ("lrp_a1b0(batch_norm=rule)", "fp32")),
        ("lrp_w_square(batch_norm=rule)", "fp64-forward"),
    ],
)
def test_denominators_that_cancel_on_the_way_back_want_float64(method: str, expected: str) -> None:
    assert of(method, "bottleneck") == expected


@pytest.mark.parametrize("method", ["lrp_a1b0", "lrp_a2b1", "lrp_z_plus", "lrp_w_square", "lrp_flat"])
def test_sums_that_a_normalisation_follows_take_a_float64_forward_pass(method: str) -> None:
    assert of(method, "transformer") == "fp64-forward"


def test_without_batch_norms_and_additions_only_differences_of_parts_want_float64() -> None:
    assert of("lrp_a1b0(bias=innvestigate)", "vgg") == "fp32"
    assert of("lrp_a2b1(bias=innvestigate)", "vgg") == "fp64"
    assert of("lrp_a2b1(batch_norm=rule)", "vgg") == "fp32"


def l1(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().sum() / expected.abs().sum())


PROPAGATING = [name for name in METHODS if name.startswith(("rap", "lrp"))] + ["lrp_a2b1(bias=innvestigate)"]
ON_TRANSFORMERS = ["attn_lrp", "cp_lrp", *(name for name in PROPAGATING if name.startswith("lrp"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *product(PROPAGATING, ["vgg", "bottleneck", "basic_block", "depthwise", "dense"]),
        *product(ON_TRANSFORMERS, ["transformer"]),
    ],
)
def test_no_map_is_further_from_float64_than_rounding(name: str, kind: str) -> None:
    method: Any = METHODS.build(parse_call(name))
    assert isinstance(method, Demanding)
    single = network(kind).float()
    x = images().float()
    expected = method(network(kind).float().double(), x.double(), CLASSES, seeds=CLASSES)
    graph = trace(single, x)
    found = explained(method, graph, x, CLASSES, seeds=CLASSES, arithmetic=wanted(method, graph))
    # ε decides by the sign of sums that may be of its own size
    assert l1(found, expected) < (5e-4 if name in {"lrp_epsilon", "lrp_epsilon_gamma_box"} else 2e-5)


def residual() -> tuple[nn.Module, Tensor, Tensor]:
    x = images().float()
    expected = rapbench.attribute(network("bottleneck").float().double(), x.double(), CLASSES)
    return network("bottleneck").float(), x, expected


def test_a_call_takes_the_arithmetic_that_its_method_needs_unless_told_otherwise() -> None:
    net, x, expected = residual()
    found = rapbench.attribute(net, x, CLASSES)
    assert found.dtype == torch.float32
    assert l1(found, expected) < 1e-5 < l1(rapbench.attribute(net, x, CLASSES, precision="fp32"), expected)
    assert l1(rapbench.attribute(net, x, CLASSES, precision="fp64"), expected) < 1e-6


def test_a_precision_that_is_not_there_is_refused() -> None:
    net, x, _ = residual()
    with pytest.raises(BadConfig, match=r"no precision 'fp65': .*fp64"):
        rapbench.attribute(net, x, CLASSES, precision="fp65")


@pytest.mark.parametrize("method", ["deeplift", "gradient", "grad_cam"])
def test_a_forward_pass_alone_in_float64_is_refused_of_methods_that_do_not_propagate_relevance(method: str) -> None:
    net, x, _ = residual()
    with pytest.raises(
        BadConfig, match=f"'fp64-forward' is of methods that propagate relevance, and {method} does not"
    ):
        rapbench.attribute(net, x, method=method, precision="fp64-forward")

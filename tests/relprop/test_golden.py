"""Parity with arrays that the published RAP code returned (float64)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import relative
from torch import Tensor, nn

from rapbench.methods.lrp import LRPAlpha1Beta0, LRPAlpha2Beta1
from rapbench.methods.rap import RAP
from rapbench.relprop.graph import Node, Rule
from rapbench.relprop.rap_rules import PassNonzero, RAPFirst, RAPHidden
from rapbench.relprop.rules import AlphaBeta, Proportional, Route, ZBeta
from rapbench.relprop.tracing.trace import trace

FOLDER = Path(__file__).parents[1] / "golden"
ARRAYS = np.load(FOLDER / "rap_layers.npz")
CONVOLUTIONS = [c for c in ARRAYS["cases"].tolist() if c.startswith("conv") and "signed" not in c]
ZBETAS = [c for c in ARRAYS["cases"].tolist() if c.startswith("zbeta")]
POOLS = [c for c in ARRAYS["cases"].tolist() if c.startswith(("maxpool", "avgpool", "adaptive"))]


def array(case: str, field: str) -> Tensor:
    return torch.from_numpy(ARRAYS[f"{case}.{field}"])


def number(case: str, field: str) -> int:
    return int(ARRAYS[f"{case}.{field}"])


def weighted(case: str) -> nn.Module:
    weight = array(case, "weight")
    if weight.dim() == 2:
        module: nn.Module = nn.Linear(weight.shape[1], weight.shape[0])
    else:
        stride, padding = number(case, "stride"), number(case, "padding")
        module = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding)
    module.double().load_state_dict({"weight": weight, "bias": array(case, "bias")})
    return module


def pool(case: str) -> nn.Module:
    if case.startswith("adaptive"):
        return nn.AdaptiveAvgPool2d(number(case, "output"))
    if case.startswith("avgpool"):
        return nn.AvgPool2d(number(case, "kernel"), number(case, "stride"))
    geometry = (number(case, "kernel"), number(case, "stride"), number(case, "padding"))
    return nn.MaxPool2d(*geometry, ceil_mode=bool(number(case, "ceil_mode")))


@torch.no_grad()
def passed(rule: Rule, module: nn.Module, case: str, relevance: str = "R_out", *, nonnegative: bool = True) -> Tensor:
    x = array(case, "x")
    layer = trace(nn.Sequential(module), x).layers[-1]
    return rule(Node(layer, (x,), array(case, "y"), (), nonnegative), array(case, relevance))[0]


@pytest.mark.parametrize("case", [*CONVOLUTIONS, "linear_hidden"])
def test_hidden_layers_agree(case: str) -> None:
    module = weighted(case)
    assert relative(passed(RAPHidden(), module, case), array(case, "rap")) < 1e-12
    assert relative(passed(AlphaBeta(1, 0), module, case), array(case, "lrp_a1b0")) < 1e-12
    assert relative(passed(AlphaBeta(2, 1), module, case), array(case, "lrp_a2b1")) < 1e-12


@pytest.mark.parametrize("case", ["linear_first_poslogit", "linear_first_neglogit"])
def test_the_first_step_agrees(case: str) -> None:
    assert relative(passed(RAPFirst(), weighted(case), case, "R_out_lrp"), array(case, "rap")) < 1e-12


@pytest.mark.parametrize("case", ZBETAS)
def test_the_pixel_layer_agrees(case: str) -> None:
    found = passed(ZBeta(), weighted(case), case, nonnegative=False)
    assert relative(found, array(case, "rap")) < 1e-12
    assert relative(found, array(case, "lrp_a1b0")) < 1e-8


@pytest.mark.parametrize("case", POOLS)
def test_pools_agree(case: str) -> None:
    assert relative(passed(Proportional(), pool(case), case), array(case, "rap")) < 1e-12


def test_batch_norm_agrees() -> None:
    case = "batchnorm"
    module = nn.BatchNorm2d(array(case, "x").shape[1]).double()
    assert relative(passed(PassNonzero(), module, case), array(case, "rap")) < 1e-12


def test_a_sum_and_a_concatenation_agree() -> None:
    class Two(nn.Module):
        def __init__(self, *, add: bool) -> None:
            super().__init__()
            self.add = add

        def forward(self, x: Tensor) -> Tensor:
            halves = x.chunk(2, 1)
            return halves[0] + halves[1] if self.add else torch.cat([halves[0], halves[1]], 1)

    x1, x2 = array("add", "x1"), array("add", "x2")
    layer = trace(Two(add=True), torch.cat([x1, x2], 1)).layers[-1]
    found = Proportional()(Node(layer, (x1, x2), x1 + x2, (), False), array("add", "R_out"))
    assert max(relative(found[n], array("add", f"rap{n + 1}")) for n in (0, 1)) < 1e-12

    x1, x2 = array("cat", "x1"), array("cat", "x2")
    layer = trace(Two(add=False), torch.cat([x1, x2], 1)).layers[-1]
    found = Route()(Node(layer, (x1, x2), torch.cat([x1, x2], 1), (), False), array("cat", "R_out"))
    for n, x in enumerate((x1, x2)):
        assert relative(torch.where(x == 0, 0, found[n]), array("cat", f"rap{n + 1}")) < 1e-12


@pytest.fixture(scope="module")
def vgg_like() -> tuple[nn.Module, dict[str, Tensor]]:
    arrays = {key: torch.from_numpy(value) for key, value in np.load(FOLDER / "rap_vgg_like.npz").items()}

    def conv(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]

    net = nn.Sequential(
        *(*conv(3, 8), *conv(8, 8), nn.MaxPool2d(2), *conv(8, 16), *conv(16, 16), nn.MaxPool2d(2)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
    )
    net.double().load_state_dict({key[3:]: value for key, value in arrays.items() if key.startswith("sd.")})
    return net, arrays


def test_rap_agrees_on_a_whole_network(vgg_like: tuple[nn.Module, dict[str, Tensor]]) -> None:
    net, arrays = vgg_like
    x, seeds = arrays["x"], torch.zeros(2, dtype=torch.int64)
    assert relative(RAP()(net, x, arrays["target"], seeds=seeds), arrays["rap"]) < 1e-12
    assert relative(RAP()(net, x, arrays["target_neg"], seeds=seeds), arrays["rap_neg"]) < 1e-12


@pytest.mark.parametrize(("name", "method"), [("lrp_a1b0", LRPAlpha1Beta0), ("lrp_a2b1", LRPAlpha2Beta1)])
def test_lrp_agrees_on_a_whole_network(
    vgg_like: tuple[nn.Module, dict[str, Tensor]], name: str, method: type[LRPAlpha1Beta0 | LRPAlpha2Beta1]
) -> None:
    net, arrays = vgg_like
    found = method(pixels="z_beta")(net, arrays["x"], arrays["target"], seeds=torch.zeros(2))
    assert relative(found, arrays[name]) < 1e-9

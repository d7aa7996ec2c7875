"""Attention however a network calls it: recorded in steps that rules know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import images, relative
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from rapbench.methods.lrp import LRPEpsilon, LRPZero
from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import Attended
from rapbench.relprop.tracing.attention import taken_apart
from rapbench.relprop.tracing.trace import trace

TARGET, SEEDS = torch.tensor([1, 3]), torch.zeros(2)

Call = Callable[[Tensor, Tensor, Tensor], Tensor]
MIXING = nn.Linear(1, 1, bias=False).double().requires_grad_(requires_grad=False)
MIXING.weight.fill_(1.0)
MASK = torch.ones(16, 16, dtype=torch.bool).tril()
CALLS: dict[str, Call] = {
    "scaled dot product": functional.scaled_dot_product_attention,
    "with a scale": lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, scale=0.3),
    "causal": lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True),
    "with a mask": lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, attn_mask=MASK),
    "with a bias": lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, MASK.double()),
    "with a bias of minus infinity": lambda q, k, v: functional.scaled_dot_product_attention(
        q, k, v, torch.zeros(16, 16).double().masked_fill(~MASK, -torch.inf)
    ),
    "by hand": lambda q, k, v: (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v,
    "masked by hand": lambda q, k, v: (q @ k.mT).masked_fill(~MASK, -torch.inf).softmax(-1) @ v,
    "by sums of indices": lambda q, k, v: torch.einsum(
        "bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1), v
    ),
    "with heads mixed": lambda q, k, v: MIXING((q @ k.mT).softmax(-1).unsqueeze(-1)).squeeze(-1) @ v,
    "values first": lambda q, k, v: (v.mT @ (q @ k.mT).softmax(-1).mT).mT,
    "of unit vectors": lambda q, k, v: (
        (functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).mT).softmax(-1) @ v
    ),
}


class Attending(nn.Module):
    """One head over 16 patches, called as given."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.call, self.conv, self.qkv, self.fc = call, nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.conv(x).flatten(2).transpose(1, 2)).unsqueeze(1).chunk(3, -1)
        return self.fc(self.call(q, k, v).mean((1, 2)))


def attending(name: str) -> tuple[nn.Module, Graph]:
    net = Attending(CALLS[name]).double().eval()
    return net, trace(net, images(2))


@pytest.mark.parametrize("name", CALLS)
def test_attention_however_it_is_written_is_products_and_a_softmax(name: str) -> None:
    net, graph = attending(name)
    assert relative(graph(images(2)), net(images(2))) < 1e-12
    (product,) = (layer for layer in graph.layers if isinstance(layer, Attended))
    values = graph.values(images(2))
    v, a = (values[n].mT if name == "values first" else values[n] for n in product.inputs)
    assert relative(a.sum(-1), torch.ones(2, 1, 16).double()) < 1e-12
    found = values[graph.layers.index(product)]
    assert relative(found.mT if name == "values first" else found, a @ v) < 1e-12


@pytest.mark.parametrize("name", CALLS)
def test_values_take_all_relevance_where_attention_is_held_and_half_elsewhere(name: str) -> None:
    net, _ = attending(name)
    x = images(2).requires_grad_()
    held, half = (LRPZero(gate=gate)(net, images(2), TARGET, seeds=SEEDS) for gate in ("signal", "half"))
    q, k, v = net.qkv(net.conv(x).flatten(2).transpose(1, 2)).unsqueeze(1).chunk(3, -1)
    logits = net.fc(net.call(q.detach(), k.detach(), v).mean((1, 2)))
    (gradient,) = torch.autograd.grad(logits.gather(1, TARGET.unsqueeze(1)).sum(), x)
    assert relative(held, (x * gradient).detach()) < 1e-9
    assert relative(half, held) > 1e-3
    assert half.isfinite().all()


MULTI_HEAD: dict[str, dict[str, object]] = {
    "plain": {},
    "batch first": {"batch_first": True},
    "without biases": {"bias": False},
    "of keys and values of another size": {"kdim": 6, "vdim": 5},
}


@pytest.mark.parametrize("mask", [None, ~MASK, MASK.double(), torch.stack([~MASK, ~MASK.T, ~MASK, ~MASK.T])], ids=str)
@pytest.mark.parametrize("name", MULTI_HEAD)
@pytest.mark.parametrize("weights", [None, "mean", "each"])
def test_multi_head_attention_in_steps_is_multi_head_attention(
    name: str, mask: Tensor | None, weights: str | None
) -> None:
    torch.manual_seed(0)
    options = MULTI_HEAD[name]
    layer = nn.MultiheadAttention(8, 2, **options).double().eval()  # type: ignore[arg-type]
    shape = (2, 16) if options.get("batch_first") else (16, 2)
    q, k, v = (torch.randn(*shape, n).double() for n in (8, options.get("kdim", 8), options.get("vdim", 8)))  # type: ignore[misc]
    given = {"attn_mask": mask, "need_weights": weights is not None, "average_attn_weights": weights == "mean"}
    expected = layer(q, k, v, **given)
    with InSteps():
        found = layer(q, k, v, **given)
    assert relative(found[0], expected[0]) < 1e-12
    assert found[1] is expected[1] is None or relative(found[1], expected[1]) < 1e-12


class InSteps(TorchFunctionMode):
    """Within it, operations that can be taken apart are."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        steps = taken_apart(func.__name__, args, kwargs or {})
        return (steps or func)(*args, **(kwargs or {}))


def test_constants_that_are_written_into_are_constants_still() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.weight, self.bias = (
                nn.Conv2d(3, 4, 8, 8),
                nn.Parameter(torch.randn(5, 64)),
                nn.Parameter(torch.randn(5)),
            )

        def forward(self, x: Tensor) -> Tensor:
            bias = self.bias.clone()
            bias[1:3].zero_()
            return functional.linear(self.conv(x).flatten(1), self.weight, bias)

    assert LRPEpsilon()(Written().double().eval(), images(2), TARGET, seeds=SEEDS).any()


def test_true_in_a_mask_of_multi_head_attention_is_what_must_not_be_attended_to() -> None:
    layer, x = nn.MultiheadAttention(8, 2).double(), torch.randn(16, 2, 8).double()
    weights = (layer.in_proj_weight, layer.in_proj_bias, None, None, False, 0.0, layer.out_proj.weight, None)
    call = (x, x, x, 8, 2, *weights)
    expected, _ = functional.multi_head_attention_forward(*call, training=False, attn_mask=~MASK)
    with InSteps():
        found, _ = functional.multi_head_attention_forward(*call, training=False, attn_mask=~MASK)
    assert relative(found, expected) < 1e-12


def test_a_vector_of_zeros_has_no_direction() -> None:
    with InSteps():
        assert not functional.normalize(torch.zeros(2, 3)).any()

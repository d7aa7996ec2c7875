"""Which factor of a product is a gate, which divisor a deviation, and what relevance makes of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from networks import images, relative
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.errors import UnsupportedLayer
from rapbench.methods.lrp import LRPAlpha2Beta1, LRPEpsilon, LRPFlat, LRPWSquare, LRPZero
from rapbench.methods.rap import RAP
from rapbench.relprop.graph import Node
from rapbench.relprop.idle import prepared
from rapbench.relprop.layers import Activation, Affine, Gated, Layer, Norm, Product, Unsupported
from rapbench.relprop.rules import Epsilon, Halve, Pass
from rapbench.relprop.tracing.trace import trace

SEEDS = torch.zeros(2)


class Function(nn.Module):
    """A convolution, a function of its output, and a head."""

    def __init__(self, function: Callable[[Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.function, self.conv, self.side = function, nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.function(self.conv(x), self.side).mean((2, 3)))


def net(function: Callable[[Tensor, nn.Module], Tensor]) -> Function:
    return Function(function).double().eval()


def small() -> Tensor:
    return images(2)[:, :, :7, :6]


def kinds(function: Callable[[Tensor, nn.Module], Tensor]) -> list[type[Layer]]:
    graph = trace(net(function), small())
    return [type(graph.layers[n]) for n in graph.carrying()]


ALONE: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: getattr(functional, name) for name in ("silu", "gelu", "hardswish", "hardsigmoid", "elu", "leaky_relu")},
    **{name: getattr(functional, name) for name in ("mish", "softplus", "selu", "celu", "hardtanh", "sigmoid", "tanh")},
    "prelu": lambda y: functional.prelu(y, torch.full((8,), 0.2, dtype=y.dtype)),
    "clamp": lambda y: y.clamp(-1, 2),
    "square": lambda y: y * y,
    "squared ReLU": lambda y: y.relu() ** 2 * y.sigmoid(),
    "quick gelu": lambda y: y * torch.sigmoid(1.702 * y),
    "mish by functions": lambda y: y * functional.softplus(y).tanh(),
    "softsign by functions": lambda y: y / (1 + functional.leaky_relu(y, -1.0)),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_function_of_each_value_alone_is_one_activation_that_passes_relevance_on(name: str) -> None:
    model, x = net(lambda y, _: ALONE[name](y)), small()
    assert kinds(lambda y, _: ALONE[name](y))[1:2] == [Activation] or name in {"sigmoid", "hardsigmoid"}
    graph = trace(model, x)
    values = graph.values(x)
    rest = nn.Sequential(Mean(), model.fc)
    above = LRPEpsilon()(rest, values[graph.carrying()[1]].detach(), torch.tensor([1, 3]), seeds=SEEDS)
    (below,) = Epsilon(1e-6)(conv_node(graph, x), above)
    assert relative(LRPEpsilon()(model, x, torch.tensor([1, 3]), seeds=SEEDS), below) < 1e-9


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def conv_node(graph: Layer, x: Tensor) -> Node:
    values = [v.detach() for v in graph.values(x)]  # type: ignore[attr-defined]
    return Node(graph.layers[1], (values[0],), values[1], (), nonnegative=False)  # type: ignore[attr-defined]


GATES: dict[str, Callable[[Tensor, nn.Module], Tensor]] = {
    "squeeze and excite": lambda y, side: y * side(y.mean((2, 3), keepdim=True)).sigmoid(),
    "gate first": lambda y, side: functional.hardsigmoid(side(y)) * y,
    "expanded": lambda y, side: y * side(y).sigmoid().mean((2, 3), keepdim=True).expand_as(y),
    "shifted": lambda y, side: y * (1 + side(y).sigmoid()),
    "one map of positions": lambda y, side: y * side(y)[:, :1],
    "softmax over positions": lambda y, side: y * side(y).flatten(2).softmax(2).view_as(y),
    "softmax over branches": lambda y, side: (torch.stack([y, side(y)], 1) * torch.stack([y, y], 1).softmax(1)).sum(1),
}


@pytest.mark.parametrize("name", GATES)
def test_a_gate_is_the_factor_that_is_bounded_or_broadcast_and_counts_as_a_constant(name: str) -> None:
    graph = trace(net(GATES[name]), small())
    (n,) = (n for n, layer in enumerate(graph.layers) if isinstance(layer, Gated))
    values, layer = graph.values(small()), graph.layers[n]
    signal, gate = (values[i] for i in layer.inputs)
    assert torch.allclose(layer.function(2 * signal, gate), 2 * values[n])
    bounded = gate.min() >= 0 and gate.max() <= 2
    assert bounded or gate.numel() < signal.numel()
    held = prepared(graph, small(), hold=True)
    assert held.layers[n].inputs == (layer.inputs[0],)
    assert relative(held(small()), graph(small())) < 1e-12


def test_relevance_at_a_gate_goes_to_the_signal_or_half_to_either() -> None:
    graph = trace(net(GATES["squeeze and excite"]), small())
    n = next(n for n, layer in enumerate(graph.layers) if isinstance(layer, Gated))
    values = graph.values(small())
    r = torch.randn_like(values[n])
    layer, held = graph.layers[n], graph.held().layers[n]
    whole = Node(held, (values[held.inputs[0]],), values[n], (values[held.sizes[0]],), nonnegative=False)
    assert torch.equal(*Pass()(whole, r), r)
    signal, gate = Halve()(Node(layer, tuple(values[i] for i in layer.inputs), values[n], (), nonnegative=False), r)
    assert torch.equal(signal, r / 2)
    assert torch.allclose(gate, r.sum((2, 3), keepdim=True) / 2)


@pytest.mark.parametrize("gate", ["signal", "half"])
@pytest.mark.parametrize("name", ["squeeze and excite", "gate first", "one map of positions"])
def test_gates_keep_the_sum_of_relevance(name: str, gate: str) -> None:
    method = LRPAlpha2Beta1(one_sided="whole", gate=gate)  # type: ignore[arg-type]
    model, target = net(GATES[name]), torch.tensor([0, 4])
    promised = method.total(lambda x: model(x).detach(), small(), target)
    assert promised is not None
    assert relative(method(model, small(), target, seeds=SEEDS).sum((1, 2, 3)), promised) < 1e-9


@pytest.mark.parametrize("name", GATES)
def test_a_gate_without_relevance_needs_no_rules_behind_it(name: str) -> None:
    model, target = net(GATES[name]), torch.tensor([0, 4])
    logits = model(small()).detach().gather(1, target.unsqueeze(1)).squeeze(1)
    assert relative(RAP()(model, small(), target, seeds=SEEDS).sum((1, 2, 3)), logits) < 1e-9


REFUSED: dict[str, tuple[Callable[[Tensor, nn.Module], Tensor], str]] = {
    "two branches": (lambda y, side: y * side(y), "no rule for mul at node .*: neither of its factors is a gate"),
    "two gates": (
        lambda y, side: y.sigmoid() * side(y).sigmoid(),
        "no rule for mul at node .*: neither of its factors is a gate",
    ),
    "a quotient": (lambda y, side: y / side(y), "no rule for div at node .*: its divisor is no deviation"),
    "attention": (
        lambda y, _: (y.flatten(2).transpose(1, 2) @ y.flatten(2)).mean(2).view(2, 1, 5, 4).expand(-1, 8, -1, -1),
        "no rule for matmul at node .*: both of its factors depend on the image",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rap_refuses_other_products_with_the_reason(case: str) -> None:
    function, reason = REFUSED[case]
    with pytest.raises(UnsupportedLayer, match=reason):
        RAP()(net(function), small(), torch.tensor([0, 1]), seeds=SEEDS)


@pytest.mark.parametrize("case", ["two branches", "two gates", "attention"])
def test_lrp_halves_what_comes_back_through_other_products(case: str) -> None:
    model, x, target = net(REFUSED[case][0]), small().requires_grad_(), torch.tensor([0, 1])
    halved = net(lambda y, side: (z := REFUSED[case][0](y, side)).detach() + (z - z.detach()) / 2)
    linear = "sigmoid" not in case and case != "two gates"
    (gradient,) = torch.autograd.grad(halved(x).gather(1, target.unsqueeze(1)).sum(), x)
    found = LRPZero()(model, small(), target, seeds=SEEDS)
    assert relative(found, small() * gradient) < 1e-9 if linear else found.isfinite().all()


def test_lrp_refuses_a_quotient_of_two_branches() -> None:
    function, reason = REFUSED["a quotient"]
    with pytest.raises(UnsupportedLayer, match=reason):
        LRPEpsilon()(net(function), small(), torch.tensor([0, 1]), seeds=SEEDS)


def test_a_constant_that_makes_a_value_several_is_no_scale() -> None:
    found = kinds(lambda y, _: y.mean(1, keepdim=True) * torch.arange(8, dtype=y.dtype).view(8, 1, 1))
    assert Unsupported in found
    assert not {Affine, Product}.intersection(found)


# --- normalisations ---------------------------------------------------------------------------------------------------

WEIGHT, BIAS = torch.linspace(0.5, 2, 8).double(), torch.linspace(-1, 1, 8).double()
SCALE, SHIFT = (p.view(8, 1, 1).expand(8, 5, 4).contiguous() for p in (WEIGHT, BIAS))


def channels_last(y: Tensor) -> Tensor:
    return functional.layer_norm(y.permute(0, 2, 3, 1), (8,), WEIGHT, BIAS).permute(0, 3, 1, 2)


NORMS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "channels last": (channels_last, lambda y: y.var(1, unbiased=False, keepdim=True)),
    "whole image": (
        lambda y: functional.layer_norm(y, [8, 5, 4], SCALE, SHIFT, 1e-5),
        lambda y: y.var((1, 2, 3), unbiased=False, keepdim=True),
    ),
    "one group": (
        lambda y: functional.group_norm(y, 1, weight=WEIGHT, bias=BIAS),
        lambda y: y.var((1, 2, 3), unbiased=False, keepdim=True),
    ),
    "two groups": (
        lambda y: functional.group_norm(y, num_groups=2, weight=WEIGHT, bias=BIAS),
        lambda y: y.view(2, 2, 4, 5, 4).var((2, 3, 4), unbiased=False).repeat_interleave(4, 1).view(2, 8, 1, 1),
    ),
    "instances": (
        lambda y: functional.instance_norm(y, weight=WEIGHT, bias=BIAS),
        lambda y: y.var((2, 3), unbiased=False, keepdim=True),
    ),
}


def centred(name: str, y: Tensor) -> Tensor:
    if name == "channels last":
        return y - y.mean(1, keepdim=True)
    if name == "two groups":
        return y - y.view(2, 2, 4, 5, 4).mean((2, 3, 4)).repeat_interleave(4, 1).view(2, 8, 1, 1)
    return y - y.mean((2, 3) if name == "instances" else (1, 2, 3), keepdim=True)


@pytest.mark.parametrize("name", NORMS)
def test_a_normalisation_follows_lrp_zero_with_its_deviation_held_constant(name: str) -> None:
    function, variance = NORMS[name]
    model, x = net(lambda y, _: function(y)), small()
    graph = trace(model, x)
    assert relative(graph(x), model(x)) < 1e-12
    n = next(n for n, layer in enumerate(graph.layers) if isinstance(layer, Norm))
    values, layer = [v.detach() for v in graph.values(x)], graph.layers[n]
    assert [graph.layers[i].operation for i in layer.sizes] == ["deviation"]
    seen = Node(layer, (values[layer.inputs[0]],), values[n], tuple(values[i] for i in layer.sizes), nonnegative=False)
    r, y = torch.randn_like(values[n]), values[1]
    (found,) = Epsilon()(seen, r)
    if name == "channels last":
        found, r = found.permute(0, 3, 1, 2), r.permute(0, 3, 1, 2)
    deviation = (variance(y) + 1e-5).sqrt()

    def held(z: Tensor) -> Tensor:
        return centred(name, z) / deviation * WEIGHT.view(8, 1, 1) + BIAS.view(8, 1, 1)

    _, back = torch.autograd.functional.vjp(held, y, r / held(y))
    assert relative(found, y * back) < 1e-9


@pytest.mark.parametrize("name", NORMS)
def test_gradients_go_through_the_deviation_as_well(name: str) -> None:
    model, x = net(lambda y, _: NORMS[name][0](y).relu()), small().requires_grad_()
    gradients = [torch.autograd.grad(one(x)[:, 1].sum(), x)[0] for one in (model, trace(model, x))]
    assert relative(gradients[1], gradients[0]) < 1e-9


def test_root_mean_square_normalisation_subtracts_no_mean() -> None:
    model = net(lambda y, _: functional.rms_norm(y.permute(0, 2, 3, 1), (8,), WEIGHT).permute(0, 3, 1, 2))
    graph = trace(model, small())
    assert relative(graph(small()), model(small())) < 1e-12
    n = next(n for n, layer in enumerate(graph.layers) if isinstance(layer, Norm))
    values, layer = [v.detach() for v in graph.values(small())], graph.layers[n]
    sizes = tuple(values[i] for i in layer.sizes)
    r = torch.randn_like(values[n])
    (found,) = Epsilon()(Node(layer, (values[layer.inputs[0]],), values[n], sizes, nonnegative=False), r)
    assert torch.allclose(found, r)


def test_methods_without_bias_in_their_denominators_pass_relevance_through_a_normalisation() -> None:
    method = LRPAlpha2Beta1(one_sided="whole")
    model, target = net(lambda y, _: channels_last(y)), torch.tensor([0, 4])
    promised = method.total(lambda x: model(x).detach(), small(), target)
    assert promised is not None
    assert relative(method(model, small(), target, seeds=SEEDS).sum((1, 2, 3)), promised) < 1e-9


def test_rap_says_why_it_refuses_a_normalisation() -> None:
    with pytest.raises(UnsupportedLayer, match=r"RAP has no rule for layer_norm at node .* equations say nothing"):
        RAP()(net(lambda y, _: channels_last(y)), small(), torch.tensor([0, 1]), seeds=SEEDS)


def test_composed_layers_run_in_wider_arithmetic() -> None:
    def function(y: Tensor, side: nn.Module) -> Tensor:
        y = functional.group_norm(y, 2, WEIGHT.to(y.dtype), BIAS.to(y.dtype))
        return y * torch.full((8, 1, 1), 0.3, dtype=y.dtype).mul(y).sigmoid() * side(y).mean((2, 3), keepdim=True)

    narrow, x = net(function).float(), small().float()
    wide = trace(narrow, x).widened(torch.float64)
    assert relative(wide(x.double()), narrow.double()(x.double())) < 1e-7


# --- products with constants ------------------------------------------------------------------------------------------

MATRIX = torch.linspace(-1, 1, 8 * 6).view(8, 6).sin().double()
CONTRACTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "from the right": (
        lambda y: y.permute(0, 2, 3, 1) @ MATRIX,
        lambda y: functional.linear(y.permute(0, 2, 3, 1), MATRIX.T),
    ),
    "from the left": (
        lambda y: MATRIX.T @ y.flatten(2),
        lambda y: functional.conv1d(y.flatten(2), MATRIX.T.unsqueeze(2)),
    ),
    "by indices": (
        lambda y: torch.einsum("nchw, ck -> nkhw", y, MATRIX),
        lambda y: functional.conv2d(y, MATRIX.T[..., None, None]),
    ),
    "by indices, constant first": (
        lambda y: torch.einsum("ck,nchw->nkhw", MATRIX, y),
        lambda y: functional.conv2d(y, MATRIX.T[..., None, None]),
    ),
}


@pytest.mark.parametrize("name", CONTRACTIONS)
@pytest.mark.parametrize(
    "method", [LRPEpsilon(), LRPAlpha2Beta1(), LRPFlat(), LRPWSquare()], ids=["epsilon", "a2b1", "flat", "w square"]
)
def test_a_product_with_a_constant_is_a_weighted_layer(name: str, method: LRPEpsilon) -> None:
    target = torch.tensor([0, 4])
    product, layer = (
        net(lambda y, side, f=f: functional.pad(f(side(y)).flatten(1), (0, 8 * 20 - 120)).view(2, 8, 5, 4))
        for f in CONTRACTIONS[name]
    )
    assert relative(product(small()), layer(small())) < 1e-12
    assert relative(method(product, small(), target, seeds=SEEDS), method(layer, small(), target, seeds=SEEDS)) < 1e-9


def test_a_sum_over_an_index_that_the_constant_has_not_is_refused() -> None:
    model = net(lambda y, _: torch.einsum("nchw,ck->nkh", y, MATRIX).unsqueeze(3).expand(-1, -1, -1, 4)[:, :, :5])
    model.fc = nn.Linear(6, 5).double()
    with pytest.raises(UnsupportedLayer, match="no rule for einsum"):
        LRPEpsilon()(model, small(), torch.tensor([0, 4]), seeds=SEEDS)


def test_a_matrix_that_changes_with_the_number_of_images_is_no_constant() -> None:
    model = net(lambda y, _: (y.permute(0, 2, 3, 1) @ (MATRIX * torch.ones(len(y)).sum())).permute(0, 3, 1, 2)[:, :5])
    model.fc = nn.Linear(5, 5).double()
    with pytest.raises(UnsupportedLayer):
        LRPEpsilon()(model, small(), torch.tensor([0, 4]), seeds=SEEDS)

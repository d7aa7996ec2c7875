"""Every rule against its equation over a dense contribution matrix z_ij = x_i w_ij, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from networks import relative
from torch import Tensor, nn

from rapbench.relprop.graph import Node
from rapbench.relprop.layers import Weighted
from rapbench.relprop.rap_rules import PassNonzero, RAPFirst, RAPHidden
from rapbench.relprop.rules import AlphaBeta, Epsilon, Flat, Gamma, Proportional, Route, WSquare, ZBeta
from rapbench.relprop.tracing.trace import trace

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "3x3": lambda: nn.Conv2d(4, 5, 3, padding=1),
    "strided": lambda: nn.Conv2d(4, 5, 3, stride=2, padding=1),
    "1x1 without bias": lambda: nn.Conv2d(4, 5, 1, bias=False),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "dilated": lambda: nn.Conv2d(4, 5, 3, dilation=2, padding=(2, 1)),
    "same padding": lambda: nn.Conv2d(4, 5, 3, padding="same"),
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(4 * 7 * 6, 9)),
}


def node(module: nn.Module, x: Tensor, *, nonnegative: bool) -> Node:
    graph = trace(nn.Sequential(module), x)
    with torch.no_grad():
        values = graph.values(x)
    layer = graph.layers[-1]
    return Node(layer, tuple(values[i] for i in layer.inputs), values[-1], (), nonnegative)


@pytest.fixture(params=LAYERS)
def module(request: pytest.FixtureRequest) -> nn.Module:
    return LAYERS[request.param]().double()


@pytest.fixture(params=[True, False], ids=["after a ReLU", "signed input"])
def seen(request: pytest.FixtureRequest, module: nn.Module) -> Node:
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    return node(module, x.relu() if request.param else x, nonnegative=request.param)


@torch.no_grad()
def contributions(seen: Node) -> Tensor:
    """z (N, inputs, outputs), by pushing one input at a time through the layer."""
    layer, x = seen.layer, seen.inputs[0]
    assert isinstance(layer, Weighted)
    units = torch.eye(x[0].numel(), dtype=x.dtype).view(-1, *x.shape[1:])
    weights = layer.product(units, layer.weight).flatten(1)
    return x.flatten(1).unsqueeze(2) * weights


@torch.no_grad()
def bias(seen: Node) -> Tensor:
    layer = seen.layer
    assert isinstance(layer, Weighted)
    zero = torch.zeros_like(seen.output)
    return (zero + layer.bias_like(zero)).flatten(1).unsqueeze(1)


def divided(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b == 0, torch.zeros_like(a * b), a / b)


@pytest.mark.parametrize("handling", ["none", "signed", "innvestigate"])
@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (2, 1)])
@torch.no_grad()
def test_alpha_beta_is_its_equation_over_contributions(seen: Node, handling: str, alpha: int, beta: int) -> None:
    r, z, b = torch.randn_like(seen.output), contributions(seen), bias(seen)
    above, below = {
        "none": (0 * b, 0 * b),
        "signed": (b.clamp(min=0), b.clamp(max=0)),
        "innvestigate": (b, b),
    }[handling]
    up, down = z.clamp(min=0), z.clamp(max=0)
    share = alpha * divided(up, up.sum(1, keepdim=True) + above) - beta * divided(
        down, down.sum(1, keepdim=True) + below
    )
    expected = (share * r.flatten(1).unsqueeze(1)).sum(2)
    (found,) = AlphaBeta(alpha, beta, handling)(seen, r)  # type: ignore[arg-type]
    assert relative(found.flatten(1), expected) < 1e-12


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@torch.no_grad()
def test_epsilon_is_its_equation_with_the_bias_in_the_denominator(seen: Node, epsilon: float) -> None:
    r, z, b = torch.randn_like(seen.output), contributions(seen), bias(seen)
    total = z.sum(1, keepdim=True) + b
    total = total + epsilon * torch.where(total >= 0, 1, -1).to(total)  # a product with integers would be float32
    expected = (divided(z, total) * r.flatten(1).unsqueeze(1)).sum(2)
    assert relative(Epsilon(epsilon)(seen, r)[0].flatten(1), expected) < 1e-9


def test_the_sign_of_0_is_positive_in_the_epsilon_rule() -> None:
    cancelling = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        cancelling.weight.copy_(torch.tensor([[1.0, -1.0]]))
    seen = node(cancelling, torch.ones(1, 2, dtype=torch.float64), nonnegative=False)
    assert Epsilon(0.5)(seen, torch.ones(1, 1, dtype=torch.float64))[0].tolist() == [[2, -2]]


@pytest.mark.parametrize("gamma", [0.0, 0.25, 10.0])
@torch.no_grad()
def test_gamma_is_its_equation_with_contributions_of_the_outputs_sign_boosted(seen: Node, gamma: float) -> None:
    r, z, b = torch.randn_like(seen.output), contributions(seen), bias(seen)
    above = seen.output.flatten(1).unsqueeze(1) >= 0
    boosted = z + gamma * torch.where(above, z.clamp(min=0), z.clamp(max=0))
    total = boosted.sum(1, keepdim=True) + b + gamma * torch.where(above, b.clamp(min=0), b.clamp(max=0))
    expected = (divided(boosted, total) * r.flatten(1).unsqueeze(1)).sum(2)
    assert relative(Gamma(gamma)(seen, r)[0].flatten(1), expected) < 1e-9


@pytest.mark.parametrize("rule", [WSquare(), Flat()], ids=["w²", "flat"])
@torch.no_grad()
def test_rules_without_input_divide_by_weights_alone_and_conserve(seen: Node, rule: WSquare | Flat) -> None:
    layer, x, r = seen.layer, seen.inputs[0], torch.randn_like(seen.output)
    assert isinstance(layer, Weighted)
    units = torch.eye(x[0].numel(), dtype=x.dtype).view(-1, *x.shape[1:])
    weight = layer.weight**2 if isinstance(rule, WSquare) else torch.ones_like(layer.weight)
    w = layer.product(units, weight).flatten(1)
    expected = r.flatten(1) @ divided(w, w.sum(0, keepdim=True)).t()
    found = rule(seen, r)[0].flatten(1)
    assert relative(found, expected) < 1e-12
    assert torch.allclose(found.sum(1), r.flatten(1).sum(1))


@pytest.mark.parametrize("routing", ["official", "paper"])
@torch.no_grad()
def test_rap_is_its_equations_over_contributions(seen: Node, routing: str) -> None:
    r, z = torch.randn_like(seen.output), contributions(seen)
    flat = r.flatten(1).unsqueeze(1)
    up, down = z.clamp(min=0), -z.clamp(max=0)
    p, n = up.sum(1, keepdim=True), down.sum(1, keepdim=True)
    if routing == "official" and r.dim() == 4:
        c = up * divided(flat.clamp(min=0), p) + down * (divided(flat, p + n) + divided(flat.clamp(max=0), n))
    else:
        c = up * divided(flat, p) + down * divided(flat, p + n)
    c = c.sum(2)
    expected = []
    for image, relevance in zip(c, r, strict=True):
        reached = image != 0
        expected.append(torch.where(reached, image - (image.sum() - relevance.sum()) / reached.sum(), 0))
    (found,) = RAPHidden(routing)(seen, r)  # type: ignore[arg-type]
    assert relative(found.flatten(1), torch.stack(expected)) < 1e-12
    assert torch.allclose(found.flatten(1).sum(1), r.flatten(1).sum(1), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_rap_may_divide_pointwise_convolutions_by_magnitude_alone(seen: Node) -> None:
    r, z = torch.randn_like(seen.output), contributions(seen).abs()
    (found,) = RAPHidden("official", "proportional")(seen, r)
    if seen.layer.name != "0" or seen.layer.weight.shape[2:] != (1, 1):  # type: ignore[attr-defined]
        assert torch.equal(found, RAPHidden("official")(seen, r)[0])
        return
    expected = (divided(z, z.sum(1, keepdim=True)) * r.flatten(1).unsqueeze(1)).sum(2)
    assert relative(found.flatten(1), expected) < 1e-12


@torch.no_grad()
def test_rap_first_step_gives_every_unit_the_sign_of_the_total(seen: Node) -> None:
    r = torch.zeros_like(seen.output)
    r.flatten(1)[0, 3], r.flatten(1)[1, 1] = 2.0, -3.0
    z = contributions(seen)
    shares = (divided(z, z.sum(1, keepdim=True)) * r.flatten(1).unsqueeze(1)).sum(2)
    expected = shares.abs() * shares.sum(1, keepdim=True) / shares.abs().sum(1, keepdim=True)
    (found,) = RAPFirst()(seen, r)
    assert relative(found.flatten(1), expected) < 1e-12
    assert (found[0] >= 0).all()
    assert (found[1] <= 0).all()


@pytest.mark.parametrize(("low", "high"), [(None, None), (-2.5, 3.0)])
@torch.no_grad()
def test_z_beta_is_its_equation_with_padding_as_zero(seen: Node, low: float | None, high: float | None) -> None:
    layer, x, r = seen.layer, seen.inputs[0], torch.randn_like(seen.output)
    assert isinstance(layer, Weighted)
    units = torch.eye(x[0].numel(), dtype=x.dtype).view(-1, *x.shape[1:])
    w = layer.product(units, layer.weight).detach().flatten(1)
    expected = []
    for image, relevance in zip(x.flatten(1), r.flatten(1), strict=True):
        lo = image.min() if low is None else torch.tensor(low)
        hi = image.max() if high is None else torch.tensor(high)
        z = image.unsqueeze(1) * w - lo * w.clamp(min=0) - hi * w.clamp(max=0)
        expected.append((divided(z, z.sum(0, keepdim=True)) * relevance).sum(1))
    (found,) = ZBeta(low, high)(seen, r)
    assert relative(found.flatten(1), torch.stack(expected)) < 1e-12


@torch.no_grad()
def test_average_pooling_divides_relevance_in_proportion_to_the_input() -> None:
    x = torch.rand(2, 3, 6, 6, dtype=torch.float64)
    seen = node(nn.AvgPool2d(2), x, nonnegative=True)
    r = torch.randn_like(seen.output)
    (found,) = Proportional()(seen, r)
    for i in range(6):
        for j in range(6):
            window = x[:, :, i // 2 * 2 : i // 2 * 2 + 2, j // 2 * 2 : j // 2 * 2 + 2].sum((2, 3))
            assert torch.allclose(found[:, :, i, j], x[:, :, i, j] / window * r[:, :, i // 2, j // 2])


@torch.no_grad()
def test_a_sum_divides_relevance_with_sign_and_loses_it_where_the_terms_cancel() -> None:
    a, b = torch.tensor([[3.0, -1.0, 2.0]]), torch.tensor([[1.0, 4.0, -2.0]])

    class Sum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :3] + x[:, 3:]

    x = torch.cat([a, b], 1)
    graph = trace(Sum(), x)
    values = graph.values(x)
    layer = graph.layers[-1]
    seen = Node(layer, tuple(values[i] for i in layer.inputs), values[-1], (), False)
    first, second = Proportional()(seen, torch.tensor([[8.0, 6.0, 5.0]]))
    assert first.tolist() == [[6.0, -2.0, 0.0]]
    assert second.tolist() == [[2.0, 8.0, 0.0]]


@torch.no_grad()
def test_max_pooling_gives_all_to_the_first_winner_even_where_the_maximum_is_zero() -> None:
    x = torch.tensor([[[[0.0, 0.0], [0.0, 0.0]]], [[[1.0, 3.0], [3.0, 2.0]]]])
    seen = node(nn.MaxPool2d(2), x, nonnegative=True)
    r = torch.tensor([[[[5.0]]], [[[7.0]]]])
    assert Route()(seen, r)[0].flatten().tolist() == [5, 0, 0, 0, 0, 7, 0, 0]
    assert Proportional()(seen, r)[0].flatten().tolist() == [0, 0, 0, 0, 0, 7, 0, 0]


@torch.no_grad()
def test_batch_norm_passes_relevance_except_where_its_input_is_exactly_zero() -> None:
    x = torch.tensor([[[[0.0, 2.0]], [[-1.0, 0.0]]]])
    seen = node(nn.BatchNorm2d(2).eval(), x, nonnegative=False)
    assert PassNonzero()(seen, torch.ones_like(x))[0].flatten().tolist() == [0, 1, 1, 0]


@torch.no_grad()
def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha - beta"):
        AlphaBeta(2, 0)
    with pytest.raises(ValueError, match="epsilon"):
        Epsilon(-1)
    with pytest.raises(ValueError, match="gamma"):
        Gamma(-1)


class FromTheLeft(nn.Module):
    """A constant matrix times the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("oc,nchw->nohw", self.weight, x)


@torch.no_grad()
def test_the_flat_rule_counts_what_a_sum_over_an_index_reads() -> None:
    seen = node(FromTheLeft().double(), torch.randn(2, 4, 3, 2, dtype=torch.float64), nonnegative=False)
    r = torch.randn_like(seen.output)
    assert relative(Flat()(seen, r)[0], r.sum(1, keepdim=True).expand(-1, 4, -1, -1) / 4) < 1e-12

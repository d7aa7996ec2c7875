"""Networks of the years after ResNet: scales, gates, other activations, paddings and interpolation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import images, relative
from torch import Tensor, nn
from torch.nn import functional

from rapbench.backends import BACKENDS
from rapbench.core.catalogue import Call
from rapbench.core.errors import UnsupportedLayer
from rapbench.methods.cam import GradCam
from rapbench.methods.deeplift import DeepLift, DeepLiftRescale, DeepLiftRevealCancel
from rapbench.methods.gradient import InputGradient
from rapbench.methods.guided import GuidedBackprop
from rapbench.methods.lrp import LRPAlpha1Beta0, LRPAlpha2Beta1, LRPEpsilon, LRPZero
from rapbench.methods.rap import RAP
from rapbench.relprop.axes import channel_axes
from rapbench.relprop.layers import Gated, MaxPool
from rapbench.relprop.tracing.trace import trace

SEEDS, TARGET = torch.zeros(2), torch.tensor([0, 3])


def small() -> Tensor:
    return images(2)[:, :, :12, :10]


class Piecewise(nn.Module):
    """Piecewise linear without ReLUs: leaky activations, scales, shifts, uneven paddings, a difference, resizing."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 3, stride=2)
        self.scale, self.head = nn.Parameter(torch.linspace(-1, 2, 6).view(6, 1, 1)), nn.Linear(6, 5)
        self.prelu = nn.PReLU(6)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.a(x - 0.1))
        y = self.scale * functional.pad(self.prelu(self.b(x)), (1, 1, 2, 0))
        x = functional.max_pool2d(functional.pad(y - x, (0, 1, 0, 1), value=float("-inf")), 3, 2)
        x = functional.interpolate(x, scale_factor=2, mode="bilinear")
        x = functional.interpolate(self.c(x), size=(5, 4), mode="nearest") / 3 + 0.2
        return self.head(sum([x, 2 * x]).mean((2, 3)))


class Modern(nn.Module):
    """An inverted bottleneck with SiLU, squeeze and excite, and hard activations in its head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.depth, self.project = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.squeeze, self.excite = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.last, self.head = nn.Conv2d(8, 12, 1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.norm(self.stem(x)), inplace=True)
        y = functional.gelu(self.depth(x))
        gate = self.excite(functional.relu(self.squeeze(functional.adaptive_avg_pool2d(y, 1))))
        x = x + self.project(y * gate.sigmoid())
        x = functional.hardswish(self.last(x)).mean((2, 3))
        return self.head(torch.tanh(x))


def network(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = kind().double().eval()
    if isinstance(net, Modern):
        nn.init.constant_(net.norm.running_mean, 0.2)
    return net


def score(net: nn.Module, x: Tensor) -> Tensor:
    return net(x).detach().gather(1, TARGET.unsqueeze(1)).squeeze(1)


def test_lrp_zero_is_input_times_gradient_where_a_network_is_piecewise_linear() -> None:
    net, x = network(Piecewise), small()
    found = LRPZero()(net, x, TARGET, seeds=SEEDS)
    assert relative(found, InputGradient()(net, x, TARGET, seeds=SEEDS)) < 1e-9


@pytest.mark.parametrize(
    "method", [RAP(), LRPAlpha1Beta0(one_sided="whole"), LRPAlpha2Beta1(one_sided="whole")], ids=str
)
@pytest.mark.parametrize("kind", [Piecewise, Modern])
def test_what_promises_to_conserve_does_so_in_modern_networks(kind: type[nn.Module], method: Any) -> None:
    net = network(kind)
    found = method(net, small(), TARGET, seeds=SEEDS).sum((1, 2, 3))
    assert relative(found, score(net, small())) < 1e-9


EVERY = [RAP(), LRPEpsilon(), LRPEpsilon(gate="half"), LRPAlpha2Beta1(), DeepLiftRescale()]


@pytest.mark.parametrize("method", EVERY, ids=str)
@pytest.mark.parametrize("kind", [Piecewise, Modern])
def test_an_image_alone_has_the_map_it_has_beside_another_in_modern_networks(
    kind: type[nn.Module], method: Any
) -> None:
    net, x = network(kind), small()
    both = method(net, x, TARGET, seeds=SEEDS)
    assert relative(method(net, x[1:], TARGET[1:], seeds=SEEDS[1:]), both[1:]) < 1e-9


def test_gated_maps_have_their_channels_where_the_signal_has_them() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 5, 3), nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            gate = y.mean((2, 3)).view(len(y), 1, -1).sigmoid().view(len(y), -1, 1, 1)
            return self.head((y * gate.expand_as(y)).mean((2, 3)))

    net = Last().double()
    graph = trace(net, small())
    axes = channel_axes(graph, graph.values(small()))
    assert [axes[n] for n, layer in enumerate(graph.layers) if isinstance(layer, Gated)] == [1]
    assert GradCam()(net, small(), TARGET, seeds=SEEDS).isfinite().all()


def test_a_mean_over_channels_and_positions_has_no_channels() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).relu().mean((1, 2, 3)).unsqueeze(1)

    graph = trace(One().double(), small())
    axes = channel_axes(graph, graph.values(small()))
    assert axes[-2:] == [None, None]
    assert 1 in axes


@pytest.mark.parametrize("reference", [0.0, 0.3])
@pytest.mark.parametrize("kind", [Piecewise, Modern])
def test_rescale_is_complete_in_modern_networks(kind: type[nn.Module], reference: float) -> None:
    net, method = network(kind), DeepLiftRescale(reference=reference)
    found = method(net, small(), TARGET, seeds=SEEDS).sum((1, 2, 3))
    change = score(net, small()) - score(net, torch.full_like(small(), reference))
    assert relative(found, change) < 1e-9


def test_rescale_takes_the_derivative_of_an_activation_where_nothing_changes() -> None:
    class Curve(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.softplus(x.flatten(1))

    x = torch.tensor([[[[0.5, 0.5 + 1e-9, 2.0]]]], dtype=torch.float64)
    found = [DeepLiftRescale(reference=0.5)(Curve(), x, torch.tensor([k]), seeds=SEEDS[:1]).flatten() for k in range(3)]
    changed = functional.softplus(x.flatten()) - functional.softplus(torch.full((3,), 0.5, dtype=x.dtype))
    assert found[0][0] == 0
    assert torch.allclose(found[1][1], 1e-9 * x[0, 0, 0, 0].sigmoid(), rtol=1e-6, atol=0)
    assert torch.allclose(found[2][2], changed[2])


def test_rescale_shares_a_product_as_the_mean_of_both_orders() -> None:
    class Times(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0].flatten(1) * x[:, 1].flatten(1)

    x, reference = torch.tensor([[[[3.0]], [[5.0]]]], dtype=torch.float64), 2.0
    found = DeepLiftRescale(reference=reference)(Times(), x, torch.tensor([0]), seeds=SEEDS[:1]).flatten()
    assert found.tolist() == [(3 - 2) * (5 + 2) / 2, (5 - 2) * (3 + 2) / 2]


@pytest.mark.parametrize("method", [DeepLift(), DeepLiftRevealCancel()], ids=lambda m: m.title)
def test_reveal_cancel_takes_constant_scales_and_refuses_other_activations(method: DeepLift) -> None:
    scaled = nn.Sequential(nn.Conv2d(3, 4, 3), Scale(), nn.ReLU(), nn.Flatten(), nn.Linear(320, 5)).double()
    change = score(scaled, small()) - score(scaled, torch.zeros_like(small()))
    assert relative(method(scaled, small(), TARGET, seeds=SEEDS).sum((1, 2, 3)), change) < 1e-9
    folded = nn.Sequential(nn.Conv2d(3, 4, 3), *scaled[2:]).double()
    folded[0].weight.data, folded[0].bias.data = -2 * scaled[0].weight.data, 1 - 2 * scaled[0].bias.data
    expected = method(folded, small(), TARGET, seeds=SEEDS)
    assert relative(method(scaled, small(), TARGET, seeds=SEEDS), expected) < 1e-9
    with pytest.raises(UnsupportedLayer, match="no rule for silu at node"):
        method(network(Modern), small(), TARGET, seeds=SEEDS)


class Scale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1 - 2 * x


def test_guided_backprop_passes_other_activations_as_the_gradient_does() -> None:
    net, x = network(Modern), small()
    guided, plain = GuidedBackprop(times_input=True), InputGradient()
    assert relative(*(method(net, x, TARGET, seeds=SEEDS) for method in (guided, plain))) > 1e-6
    nn.init.zeros_(net.excite.weight)  # now no gradient reaches the only ReLU
    assert relative(*(method(net, x, TARGET, seeds=SEEDS) for method in (guided, plain))) < 1e-9


def test_a_maximum_never_picks_what_lies_around_a_map_at_minus_infinity() -> None:
    net = network(Piecewise)
    layers = [layer for layer in trace(net, small()).layers if isinstance(layer, MaxPool)]
    assert [layer.operation for layer in layers] == ["max_pool2d"]
    for method in (RAP(), LRPEpsilon(), DeepLiftRescale()):
        assert method(net, small(), TARGET, seeds=SEEDS).isfinite().all()


class Plane(nn.Module):
    """A negative constant beside rectified maps."""

    def __init__(self, *, given: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.given, self.conv, self.head = given, nn.Conv2d(4, 6, 3), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        if not self.given:
            x = functional.pad(x.relu(), (0, 0, 0, 0, 0, 1), value=-1.5)
        return self.head(self.conv(x).relu().mean((2, 3)))


@pytest.mark.parametrize("method", [LRPAlpha1Beta0(), LRPAlpha2Beta1()], ids=str)
def test_a_negative_constant_beside_rectified_maps_counts_as_negative(method: LRPAlpha1Beta0) -> None:
    x = small()
    with_plane = torch.cat([x.relu(), torch.full_like(x[:, :1], -1.5)], 1)
    expected = method(Plane(given=True).double(), with_plane, TARGET, seeds=SEEDS)[:, :3]
    assert relative(method(Plane(given=False).double(), x, TARGET, seeds=SEEDS), expected) < 1e-9


def test_constants_beside_maps_take_no_part_in_rescale() -> None:
    net = Plane(given=False).double()
    change = score(net, small()) - score(net, torch.zeros_like(small()))
    assert relative(DeepLiftRescale()(net, small(), TARGET, seeds=SEEDS).sum((1, 2, 3)), change) < 1e-9
    with pytest.raises(UnsupportedLayer, match="no rule for pad"):
        DeepLiftRevealCancel()(net, small(), TARGET, seeds=SEEDS)


def test_a_scale_that_is_written_to_changes_what_was_derived_of_the_network() -> None:
    net, x = network(Piecewise).float(), small().float()
    graph = trace(net, x)
    before = graph.widened(torch.float64)(small())
    with torch.no_grad():
        net.scale.mul_(2)
    assert relative(graph.widened(torch.float64)(small()), net(x)) < 1e-5
    assert relative(before, net(x)) > 1e-3


@pytest.mark.parametrize(("backend", "name"), [("captum", "deeplift_rescale"), ("zennit", "lrp_epsilon")])
def test_other_libraries_are_not_asked_for_layers_they_have_no_rules_for(backend: str, name: str) -> None:
    method = BACKENDS.load(backend).build(Call(name, {}))
    with pytest.raises(UnsupportedLayer, match="silu"):
        method(network(Modern), small(), TARGET, seeds=SEEDS)

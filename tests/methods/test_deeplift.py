"""DeepLIFT against a slow restatement of its rules, its laws, and references of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from networks import NETWORKS, images, network, relative
from torch import Tensor, nn

from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig, BadData, DataMissing, UnsupportedLayer
from rapbench.core.files import File
from rapbench.methods import METHODS
from rapbench.methods.deeplift import DeepLift, DeepLiftRescale, DeepLiftRevealCancel
from rapbench.methods.reference import Reference
from rapbench.models.digits import mnist_cnn
from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import Convolution
from rapbench.relprop.tracing.trace import trace

ALL = [DeepLiftRescale, DeepLift, DeepLiftRevealCancel]


def explained(method: Any, net: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    relevance: Tensor = method(net, x, target, seeds=torch.arange(len(x)))
    return relevance


def logits(net: nn.Module) -> Any:
    return lambda x: net(x).detach()


def seeded(*layers: nn.Module) -> nn.Sequential:
    """The layers in float64 with weights and biases that cancel often."""
    net = nn.Sequential(*layers).double().eval()
    generator = torch.Generator().manual_seed(4)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return net


def sparse(count: int, *shape: int) -> Tensor:
    """Images of which a third of the pixels equals the reference 0."""
    x = torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return x * (torch.rand(x.shape, generator=torch.Generator().manual_seed(6)) > 1 / 3)


# --- the rules, unit by unit ------------------------------------------------------------------------------------------


def dense(layer: nn.Module, shape: torch.Size) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and bias of a linear layer on inputs of that shape."""
    basis = torch.eye(shape.numel(), dtype=torch.float64).view(-1, *shape)
    bias = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten().detach()
    return (layer(basis).flatten(1) - bias).T.detach().numpy(), bias.numpy()


def slow_linear_back(w: np.ndarray, dx: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    m = np.zeros(len(dx))
    for j, row in enumerate(w):
        for i, weight in enumerate(row):
            sign = np.sign(weight * dx[i])
            m[i] += weight * {1: positive[j], -1: negative[j], 0: (positive[j] + negative[j]) / 2}[sign]
    return m


def slow_parts(w: np.ndarray, dx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    contributions = w * dx
    return (contributions * (contributions > 0)).sum(1), (contributions * (contributions < 0)).sum(1)


def quotient(a: float, b: float) -> float:
    return a / b if b else 0.0


def slow_deeplift(net: nn.Sequential, x: Tensor, x0: Tensor, target: int, reveals: list[bool]) -> np.ndarray:
    """Contributions (P,) for one image; `reveals` tells for each ReLU in order which rule it follows."""
    a, a0, shape, tape, rules = x.flatten().numpy(), x0.flatten().numpy(), x.shape, [], iter(reveals)
    for layer in net:
        if isinstance(layer, nn.ReLU):
            tape.append(("relu", (w, tape[-1][1][1], a0, a, next(rules))))  # noqa: F821 - a ReLU follows a linear layer
            a, a0 = np.maximum(a, 0), np.maximum(a0, 0)
        elif not isinstance(layer, nn.Flatten):
            w, b = dense(layer, shape)
            tape.append(("linear", (w, a - a0)))
            a, a0 = w @ a + b, w @ a0 + b
        shape = layer(torch.zeros(1, *shape, dtype=torch.float64))[0].shape
    positive = negative = np.eye(len(a))[target]
    for kind, held in reversed(tape):
        if kind == "linear":
            positive = negative = slow_linear_back(*held, positive, negative)
        else:
            positive, negative = slow_relu_back(*held, positive, negative)
    return positive * (x - x0).flatten().numpy()


def slow_relu_back(
    w: np.ndarray,
    dx: np.ndarray,
    h0: np.ndarray,
    h: np.ndarray,
    reveals: bool,
    positive: np.ndarray,
    negative: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    out = np.zeros((2, len(h)))
    for j, (p, n) in enumerate(zip(*slow_parts(w, dx), strict=True)):
        f = lambda value, start=h0[j]: max(start + value, 0.0)  # noqa: E731
        if not reveals:
            slope = (f(h[j] - h0[j]) - f(0)) / (h[j] - h0[j]) if abs(h[j] - h0[j]) >= 1e-7 else float(h[j] > 0)
            out[:, j] = positive[j] * slope, negative[j] * slope
            continue
        gained = ((f(p) - f(0)) + (f(p + n) - f(n))) / 2
        lost = ((f(n) - f(0)) + (f(p + n) - f(p))) / 2
        out[:, j] = positive[j] * quotient(gained, p), negative[j] * quotient(lost, n)
    return out[0], out[1]


@pytest.mark.parametrize(("method", "reveals"), [
    (DeepLiftRescale, [False] * 3), (DeepLift, [False, False, True]), (DeepLiftRevealCancel, [True] * 3),
])  # fmt: skip
@pytest.mark.parametrize("reference", [0.0, 0.4])
def test_every_rule_equals_its_restatement(method: Any, reveals: list[bool], reference: float) -> None:
    net = seeded(
        *(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3)),
    )
    x, target = sparse(3, 2, 6, 6), torch.tensor([0, 1, 2])
    found = explained(method(reference=reference), net, x, target)
    for n in range(3):
        expected = slow_deeplift(net, x[n], torch.full_like(x[n], reference), n, reveals)
        assert relative(found[n].flatten(), torch.from_numpy(expected)) < 1e-9


# --- the paper's examples and laws ------------------------------------------------------------------------------------


class Minimum(nn.Module):
    """o = i1 - max(i1 - i2, 0) = min(i1, i2) for inputs >= 0. Source: Shrikumar et al. 2017, Figure 3."""

    def __init__(self) -> None:
        super().__init__()
        self.difference, self.rest = nn.Linear(2, 1, bias=False), nn.Linear(3, 1, bias=False)
        self.difference.weight.data = torch.tensor([[1.0, -1.0]])
        self.rest.weight.data = torch.tensor([[1.0, 0.0, -1.0]])

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(x, 1)
        return self.rest(torch.cat([x, torch.relu(self.difference(x))], 1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("first", "second"), [(3.0, 1.0), (1.0, 4.0), (2.0, 2.0)])
def test_reveal_cancel_gives_half_of_a_minimum_to_each_input(first: float, second: float) -> None:
    x, net = torch.tensor([[first, second]], dtype=torch.float64).view(1, 1, 1, 2), Minimum().double()
    for method in (DeepLiftRevealCancel(), DeepLift()):
        found = explained(method, net, x, torch.tensor([0])).flatten()
        assert found.tolist() == pytest.approx([min(first, second) / 2] * 2)
    rescaled = explained(DeepLiftRescale(), net, x, torch.tensor([0])).flatten().tolist()
    assert rescaled == pytest.approx([min(first, second), 0] if first <= second else [0, min(first, second)])


def test_saturated_inputs_share_what_their_gradient_misses() -> None:
    """y = 1 - max(1 - i1 - i2, 0) at (1, 1). Source: Shrikumar et al. 2017, Figure 1."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    values = (torch.tensor([[-1.0, -1.0]]), torch.ones(1), -torch.ones(1, 1), torch.ones(1))
    for parameter, value in zip(net.parameters(), values, strict=True):
        parameter.data = value.double()
    x = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    for method in ALL:
        assert explained(method(), net, x, torch.tensor([0])).flatten().tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("kind", NETWORKS)
def test_contributions_sum_to_the_promised_total(kind: str, method: Any) -> None:
    net, x = network(kind), images()
    target = net(x).argmax(1)
    for options in ({}, {"reference": 0.3}, {"softmax_adjustment": True}):
        found = explained(method(**options), net, x, target)
        assert relative(found.sum((1, 2, 3)), method(**options).total(logits(net), x, target)) < 1e-8


def test_in_float32_contributions_of_the_digit_network_sum_to_the_change_of_the_logit() -> None:
    torch.manual_seed(0)
    net, x = mnist_cnn().eval(), torch.rand(8, 1, 28, 28) * (torch.rand(8, 1, 28, 28) > 0.7)
    for method in ALL:
        change = (net(x) - net(torch.zeros_like(x[:1]))).detach()[:, 3]
        found = explained(method(), net, x, torch.full((8,), 3))
        assert ((found.double().sum((1, 2, 3)) - change).abs() < 1e-5 * change.abs().clamp(min=1)).all()


@pytest.mark.parametrize("method", ALL)
def test_the_softmax_adjustment_subtracts_the_mean_over_classes(method: Any) -> None:
    net, x = network("vgg"), images()
    classes = [explained(method(), net, x, torch.full((3,), k)) for k in range(5)]
    found = explained(method(softmax_adjustment=True), net, x, torch.tensor([1, 1, 1]))
    assert relative(found, classes[1] - torch.stack(classes).mean(0)) < 1e-9


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_rescale_agrees_with_captum_on_the_digit_network() -> None:
    torch.manual_seed(0)
    net, x, target = mnist_cnn().double().eval(), sparse(3, 1, 28, 28), torch.tensor([8, 3, 6])
    baseline = torch.full_like(x[:1], 0.2)
    expected = captum.attr.DeepLift(net, eps=1e-7).attribute(
        x.clone().requires_grad_(), baselines=baseline, target=target
    )
    assert relative(explained(DeepLiftRescale(reference=0.2), net, x, target), expected) < 1e-9


class Branches(nn.Module):
    """A ReLU of two linear layers, added or concatenated."""

    def __init__(self, *, added: bool) -> None:
        super().__init__()
        self.added, self.a, self.b = added, nn.Linear(6, 5), nn.Linear(6, 5)
        self.c = nn.Linear(5 if added else 10, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(x, 1)
        a, b = self.a(x), self.b(x)
        return self.c(torch.relu(a + b if self.added else torch.cat([a, b], 1)))  # type: ignore[no-any-return]


def test_concatenated_parts_are_those_of_one_layer() -> None:
    joined = Branches(added=False).double()
    whole = nn.Sequential(nn.Flatten(), nn.Linear(6, 10), nn.ReLU(), joined.c).double()
    whole[1].weight.data = torch.cat([joined.a.weight, joined.b.weight]).data
    whole[1].bias.data = torch.cat([joined.a.bias, joined.b.bias]).data
    x, target = sparse(3, 1, 2, 3), torch.tensor([0, 1, 1])
    assert relative(*(explained(DeepLiftRevealCancel(), net, x, target) for net in (joined, whole))) < 1e-9


def test_added_parts_are_those_of_one_layer_that_reads_the_input_twice() -> None:
    joined = Branches(added=True).double()
    whole = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), joined.c).double()
    whole[1].weight.data = torch.cat([joined.a.weight, joined.b.weight], 1).data
    whole[1].bias.data = (joined.a.bias + joined.b.bias).data
    x, target = sparse(3, 1, 2, 3), torch.tensor([0, 1, 1])
    expected = explained(DeepLiftRevealCancel(), whole, torch.cat([x, x], 2), target)
    assert (
        relative(explained(DeepLiftRevealCancel(), joined, x, target), expected[:, :, :2] + expected[:, :, 2:]) < 1e-9
    )


class Mixed(nn.Module):
    """A ReLU of the sum of a dense layer's output, normalised, and a convolution's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.c = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Conv2d(1, 1, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.norm(self.a(torch.flatten(x, 1)))
        return self.c(torch.relu(a + torch.flatten(self.b(x), 1)))  # type: ignore[no-any-return]


def mixed() -> Mixed:
    net = Mixed().double().eval()
    net.norm.weight.data = torch.tensor([1.0, -2.0, -0.5, 1.5], dtype=torch.float64)
    return net


def test_a_negative_scale_of_a_batch_norm_swaps_the_parts_that_are_added_to_others() -> None:
    net, x, target = mixed(), sparse(3, 1, 2, 2), torch.tensor([0, 1, 1])
    scale = net.norm.weight / (net.norm.running_var + net.norm.eps).sqrt()
    whole = nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), net.c).double()
    each = net.b.weight.flatten() * torch.eye(4, dtype=torch.float64)
    whole[1].weight.data = torch.cat([net.a.weight * scale.unsqueeze(1), each], 1).data
    whole[1].bias.data = (net.a.bias * scale + net.norm.bias + net.b.bias).data
    expected = explained(DeepLiftRevealCancel(), whole, torch.cat([x, x], 2), target)
    found = explained(DeepLiftRevealCancel(), net, x, target)
    assert relative(found, expected[:, :, :2] + expected[:, :, 2:]) < 1e-9


def test_behind_a_dense_layer_and_a_convolution_the_default_is_rescale() -> None:
    net, x, target = mixed(), sparse(3, 1, 2, 2), torch.tensor([0, 1, 1])
    found, rescaled, revealed = (explained(method(), net, x, target) for method in (DeepLift, *ALL[::2]))
    assert torch.equal(found, rescaled)
    assert not torch.equal(found, revealed)


def test_a_batch_norm_counts_as_part_of_its_convolution() -> None:
    norm = nn.BatchNorm2d(4)
    net = seeded(nn.Conv2d(2, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    norm.running_var.uniform_(0.5, 2)
    assert (norm.weight < 0).any()
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    folded = nn.Conv2d(2, 4, 3).double()
    folded.weight.data = (net[0].weight * scale.view(-1, 1, 1, 1)).data
    folded.bias.data = ((net[0].bias - norm.running_mean) * scale + norm.bias).data
    x, target = sparse(3, 2, 6, 6), torch.tensor([0, 1, 2])
    expected = explained(DeepLiftRevealCancel(), nn.Sequential(folded, *net[2:]), x, target)
    assert relative(explained(DeepLiftRevealCancel(), net, x, target), expected) < 1e-9


def test_a_pool_between_layer_and_rectifier_keeps_the_sum() -> None:
    for pool in (nn.MaxPool2d(3, 2), nn.AvgPool2d(2), nn.MaxPool2d(2)):
        head = (nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
        net = seeded(nn.Conv2d(1, 4, 3, padding=1), pool, *head)
        x, target = sparse(3, 1, 9, 9), torch.tensor([0, 1, 2])
        total = DeepLiftRevealCancel().total(logits(net), x, target)
        found = explained(DeepLiftRevealCancel(), net, x, target)
        assert relative(found.sum((1, 2, 3)), total) < 1e-9
        assert relative(found, explained(DeepLiftRescale(), net, x, target)) > 1e-3


# --- references and refusals ------------------------------------------------------------------------------------------


def reference(path: Path) -> File[Reference]:
    return File(Reference, path)


def test_a_reference_image_comes_from_an_array_file(tmp_path: Path) -> None:
    net, x, target = network("vgg"), images(), torch.tensor([0, 1, 2])
    array = np.full((3, 32, 32), 0.25)
    np.save(tmp_path / "x0.npy", array)
    np.savez(tmp_path / "x0.npz", anything=array)
    expected = explained(DeepLift(reference=0.25), net, x, target)
    for name in ("x0.npy", "x0.npz"):
        method = METHODS.build(Call("deeplift", {"reference": str(tmp_path / name)}))
        assert torch.equal(explained(method, net, x, target), expected)
    np.save(tmp_path / "x0.npy", array + 1)
    other = DeepLift(reference=reference(tmp_path / "x0.npy"))
    assert not torch.equal(explained(other, net, x, target), expected)


def test_references_of_one_content_have_one_digest(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((3, 2, 2), 0.25))
    np.savez(tmp_path / "b.npz", np.full((3, 2, 2), 0.25, np.float32))
    np.save(tmp_path / "c.npy", np.full((3, 1, 4), 0.25))
    a, b, c = (reference(tmp_path / name).digest for name in ("a.npy", "b.npz", "c.npy"))
    assert a == b != c


def test_a_number_as_typed_is_a_number() -> None:
    assert METHODS.build(Call("deeplift_rescale", {"reference": "0.5"})) == DeepLiftRescale(reference=0.5)
    assert METHODS.build(Call("deeplift_rescale", {"reference": "0"})) == DeepLiftRescale()


def test_a_reference_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", np.zeros((3, 8, 8)))
    method = DeepLiftRescale(reference=reference(tmp_path / "small.npy"))
    with pytest.raises(BadConfig, match=r"small.npy has shape \(3, 8, 8\), the input \(3, 32, 32\)"):
        explained(method, network("vgg"), images(), torch.tensor([0, 1, 2]))


def test_files_that_hold_no_reference_are_refused(tmp_path: Path) -> None:
    (tmp_path / "damaged.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04")
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    np.save(tmp_path / "nan.npy", np.array([np.nan]))
    np.save(tmp_path / "text.npy", np.array(["0"]))
    for name in ("damaged.npy", "damaged.npz", "two.npz", "nan.npy", "text.npy"):
        with pytest.raises(BadData, match=name):
            METHODS.build(Call("deeplift", {"reference": str(tmp_path / name)}))
    with pytest.raises(DataMissing, match="no reference file"):
        METHODS.build(Call("deeplift", {"reference": str(tmp_path / "missing.npy")}))
    with pytest.raises(BadConfig, match="reference black is neither a number nor"):
        METHODS.build(Call("deeplift", {"reference": "black"}))
    with pytest.raises(BadConfig, match="reference=inf: Input should be finite"):
        METHODS.build(Call("deeplift", {"reference": "inf"}))


def test_a_layer_without_a_rule_is_named() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.Sigmoid(), nn.Linear(4, 5)).double()
    with pytest.raises(UnsupportedLayer, match=r"DeepLIFT \(RevealCancel\) has no rule for Sigmoid at node '2'"):
        explained(DeepLiftRevealCancel(), net, images(), torch.tensor([0, 1, 2]))


class GlobalMaximum(nn.Module):
    """A max-pool over whole maps, by the size of its input or by an adaptive pool."""

    def __init__(self, *, adaptive: bool) -> None:
        super().__init__()
        self.conv, self.last, self.adaptive = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), adaptive

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        function = nn.functional
        pooled = function.adaptive_max_pool2d(x, 1) if self.adaptive else function.max_pool2d(x, x.shape[2:])
        return self.last(pooled.flatten(1))


@pytest.mark.parametrize("method", [DeepLiftRescale(), DeepLiftRevealCancel(), DeepLift()], ids=lambda m: m.title)
def test_a_pool_may_take_its_size_from_the_shape_of_its_input(method: DeepLift) -> None:
    torch.manual_seed(0)
    net, twin = GlobalMaximum(adaptive=False).double(), GlobalMaximum(adaptive=True).double()
    twin.load_state_dict(net.state_dict())
    classes = torch.tensor([0, 1, 2])
    expected = method(twin, images(), classes, seeds=classes)
    assert relative(method(net, images(), classes, seeds=classes), expected) < 1e-12


@pytest.mark.parametrize("method", [DeepLiftRescale(), DeepLiftRevealCancel()])
def test_rounding_of_a_reference_of_one_colour_does_not_choose_the_winners_of_its_maxima(method: Any) -> None:
    layers = (nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.MaxPool2d(3, 2))
    net, x = seeded(*layers, nn.Flatten(), nn.Linear(8 * 16, 5)), torch.rand(2, 3, 27, 27).double() + 0.5
    graph, target, draw = trace(net, x), torch.tensor([0, 3]), torch.Generator().manual_seed(0)

    def rounded(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def other(*values: Tensor) -> Tensor:
            found = function(*values)
            return found * (1 + 1e-9 * torch.randn(found.shape, generator=draw).to(found))

        return other

    others = [replace(n, function=rounded(n.function)) if isinstance(n, Convolution) else n for n in graph.layers]
    seeds = torch.zeros(2)
    found = method(Graph(others, graph.output), x, target, seeds=seeds)
    assert relative(found, method(graph, x, target, seeds=seeds)) < 1e-6


@pytest.mark.parametrize("method", ALL)
def test_where_the_first_winner_of_a_reference_is_not_quite_its_maximum_the_sum_is_kept(
    tmp_path: Path, method: Any
) -> None:
    rising = np.linspace(0.5, 0.500002, 3 * 12 * 12).reshape(3, 12, 12)
    np.save(tmp_path / "x0.npy", rising)
    net = seeded(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 5))
    x, x0 = torch.rand(3, 3, 12, 12).double(), torch.from_numpy(rising)[None]
    relevance = explained(method(reference=reference(tmp_path / "x0.npy")), net, x, target := torch.tensor([0, 1, 2]))
    change = (logits(net)(x) - logits(net)(x0)).gather(1, target.unsqueeze(1)).squeeze(1)
    assert relative(relevance.sum((1, 2, 3)), change) < 1e-9

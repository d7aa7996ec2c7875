"""What a network does is followed, or refused where it is."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Callable

import pytest
import torch
from networks import images, network, relative
from torch import Tensor, nn
from torch.nn import functional

import rapbench
from rapbench.core.errors import RapbenchError, UnsupportedLayer
from rapbench.relprop.layers import Concatenate, Convolution, Dense, Rectifier
from rapbench.relprop.tracing.trace import trace


class Function(nn.Module):
    """A convolution, a function of its output, and a head."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.function, self.conv, self.fc = function, nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.function(self.conv(x)).mean((2, 3)))


def net(function: Callable[[Tensor], Tensor]) -> Function:
    return Function(function).double().eval()


class Straight(torch.autograd.Function):
    """A gradient of its own."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor], output: Tensor) -> None: ...

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


with warnings.catch_warnings(action="ignore"):
    SCRIPTED = torch.jit.script(nn.Sigmoid())
KEPT = torch.ones(8, 1, 1, dtype=torch.float64)


def replaced(y: Tensor) -> Tensor:
    y.data = y.relu()
    return y


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a branch on values": (lambda y: y if y.mean() > 0 else -y, "depends on the values"),
    "a number read": (lambda y: y * y.max().item(), "depends on the values"),
    "dropout": (lambda y: functional.dropout(y, 0.5), "draws random numbers"),
    "noise": (lambda y: y + torch.randn_like(y), "draws random numbers"),
    "batch statistics": (lambda y: functional.batch_norm(y, None, None, training=True), "normalises by the batch"),
    "the batch's mean": (
        lambda y: y - y.mean(0, keepdim=True),
        "alone than beside another: the first to differ is mean",
    ),
    "another answer each time": (lambda y: y * random.random(), "answers otherwise"),
    "code in another language": (lambda y: y * SCRIPTED(y), "code that cannot be seen"),
    "a write into what is kept": (lambda y: KEPT.mul_(y[:1, :, :1, :1].sign()[0].abs()) * y, "tensor that the network"),
    "replaced memory": (replaced, "replaces a tensor's memory"),
    "a gradient of its own": (Straight.apply, "with a gradient of its own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_followed_is_refused_in_one_line_that_names_the_place(case: str) -> None:
    function, reason = REFUSED[case]
    with pytest.raises(UnsupportedLayer, match=reason) as caught:
        trace(net(function), images(2))
    line = str(caught.value)
    assert "test_recording.py line" in line
    assert " at 0x" not in line
    assert len(line.splitlines()) == 1


class Gate(nn.Module):
    """Looks at values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else 2 * x


def test_a_refusal_names_the_path_and_the_class() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.ReLU(), Gate()), nn.Flatten(), nn.Linear(7200, 5))
    with pytest.raises(UnsupportedLayer, match=r"at 1\.1 \(Gate\), test_recording\.py line \d+: "):
        trace(model.double(), images(2))


def test_code_that_fails_says_where() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.ReLU(), nn.Linear(7, 5)))
    with pytest.raises(UnsupportedLayer, match=r"fails on \(2, 3, 32, 32\) float32: .*, at 1\.1 \(Linear\)$"):
        trace(model, images(2).float())


RECTIFIERS: dict[str, Callable[[Tensor], Tensor]] = {
    "clamp": lambda y: y.clamp(min=0),
    "clamp to six": lambda y: torch.clamp(y, 0, 6),
    "clip": lambda y: torch.clip(input=y, min=0.0),
    "threshold": lambda y: functional.threshold(y, 0.0, 0.0),
    "hardtanh": lambda y: functional.hardtanh(y, min_val=0.0, max_val=2.0),
    "anonymous": lambda y: nn.ReLU(inplace=True)(y),  # noqa: PLW0108 - made on the way
    "positional": lambda y: functional.relu(y, True),
    "statement": lambda y: (torch.relu_(y), y)[1],
    "operator": torch.ops.aten.relu.default,
}


@pytest.mark.parametrize("case", RECTIFIERS)
def test_rectifiers_are_known_however_they_are_written(case: str) -> None:
    model, x = net(RECTIFIERS[case]), images(2)
    graph = trace(model, x)
    assert [type(layer) for layer in graph.layers[2:3]] == [Rectifier]
    assert relative(graph(x), model(x.clone())) < 1e-12


@pytest.mark.parametrize("function", [lambda y: y.clamp(max=0), lambda y: y.clamp(-1, 1), functional.hardtanh])
def test_what_cuts_elsewhere_is_no_rectifier(function: Callable[[Tensor], Tensor]) -> None:
    assert not any(isinstance(layer, Rectifier) for layer in trace(net(function), images(2)).layers)


def test_a_graph_takes_any_number_of_images_unless_the_network_does_not() -> None:
    def looped(y: Tensor) -> Tensor:
        return torch.stack([one.relu() for one in y])

    free, bound, x = trace(net(lambda y: y.view(len(y), -1).view(y.size(0), 8, 30, 30)), images(2)), None, images(2)
    assert free(images(5)).shape == (5, 5)
    bound = trace(net(looped), x)
    assert relative(bound(x), net(looped)(x)) < 1e-12
    with pytest.raises(UnsupportedLayer, match=r"traced for images \(2, 3, 32, 32\), not \(3, 3, 32, 32\)"):
        bound(images(3))
    with pytest.raises(UnsupportedLayer, match=r"traced for images \(N, 3, 32, 32\), not \(2, 3, 16, 32\)"):
        free(x[:, :, :16])


def test_zeros_around_a_convolutions_input_are_its_padding() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=(0, 1)), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(functional.pad(x, (1, 1, 2, 2))).mean((2, 3)))

    model, x = Padded().double(), images(2)
    graph = trace(model, x)
    (conv,) = (layer for layer in graph.layers if isinstance(layer, Convolution))
    assert (conv.inputs, conv.padding) == ((0,), (2, 2))
    assert relative(graph(x), model(x)) < 1e-12


@pytest.mark.parametrize("sides", [(0, 1, 0, 1), (2, 0, 1, 2), (1, 1, 0, 2)])
def test_zeros_on_one_side_get_no_relevance(sides: tuple[int, int, int, int]) -> None:
    model = nn.Sequential(nn.ZeroPad2d(sides), nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    model, x = model.double(), images(2)[:, :, :9, :8]
    logits = model(x).detach()
    for method in ("rap", "lrp_a1b0", "lrp_flat", "lrp_w_square", "lrp_z_beta"):
        assert relative(rapbench.attribute(model, x, target=1, method=method).sum((1, 2, 3)), logits[:, 1]) < 1e-9
    weight, y = (
        model[1].weight.detach(),
        functional.conv2d(functional.pad(x, sides), model[1].weight, stride=2).detach(),
    )
    layer = next(layer for layer in trace(model, x).layers if isinstance(layer, Convolution))
    assert torch.allclose(layer.product(x, weight), y)
    dense = torch.autograd.functional.jacobian(lambda v: layer.product(v, weight).sum((0, 1)), x[:1])
    r = torch.ones_like(y[:1])
    assert torch.allclose(layer.adjoint(r, weight, x[:1]), dense.sum((0, 1)))


def test_a_write_through_a_view_puts_two_tensors_side_by_side() -> None:
    def written(y: Tensor) -> Tensor:
        y[:, :4].relu_()
        return y

    graph = trace(net(written), images(2))
    assert [type(layer) for layer in graph.layers if layer.operation == "overlaid"] == [Concatenate]


def test_a_layer_whose_weights_depend_on_the_image_is_no_layer_with_weights() -> None:
    def dynamic(y: Tensor) -> Tensor:
        return functional.linear(y, y.mean((0, 2, 3)).expand(30, 30, 8)[..., 0])

    with pytest.raises(UnsupportedLayer, match="alone than beside another"):
        trace(net(dynamic), images(2))
    graph = trace(net(lambda y: functional.linear(y, y[0, 0].abs())), images(1).expand(2, -1, -1, -1))
    assert not any(isinstance(layer, Dense) for layer in graph.layers[:-1])


class Constants(nn.Module):
    """Makes tensors on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(4, 8, 3), nn.Linear(8, 5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        plane = torch.linspace(0, 1, x.shape[-1]).expand(len(x), 1, *x.shape[2:])
        return self.fc(self.conv(torch.cat([x, plane.to(x)], 1)).relu().mean((2, 3)))


def saved(model: nn.Module) -> int:
    file = io.BytesIO()
    torch.save(model, file)
    return file.tell()


@pytest.mark.parametrize("make", [Constants, lambda: network("depthwise"), lambda: network("functional")])
def test_nothing_is_left_on_the_network(make: Callable[[], nn.Module]) -> None:
    model = make().double().train()
    state = torch.get_rng_state()
    before = saved(model), [set(vars(m)) for m in model.modules()]
    for _ in range(5):
        rapbench.attribute(model, images(2), target=1, method="rap")
    assert (saved(model), [set(vars(m)) for m in model.modules()]) == before
    assert all(m.training and not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_buffers_that_a_network_writes_into_are_as_they_were() -> None:
    model = net(lambda y: functional.batch_norm(y, MEAN, VARIANCE, training=True))
    model.register_buffer("mean", MEAN)
    for method in ("rap", "gradient"):
        with pytest.raises(RapbenchError):
            rapbench.attribute(model, images(2), method=method)
    assert not MEAN.any()


MEAN, VARIANCE = torch.zeros(8, dtype=torch.float64), torch.ones(8, dtype=torch.float64)

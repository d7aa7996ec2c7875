"""Networks put together at random from the ways people write them explain like the same network written plainly."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence

import pytest
import torch
from networks import relative
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.errors import UnsupportedLayer
from rapbench.core.types import Method
from rapbench.methods.deeplift import DeepLiftRescale
from rapbench.methods.gradient import InputGradient
from rapbench.methods.guided import GuidedBackprop
from rapbench.methods.lrp import LRPAlpha2Beta1, LRPEpsilon
from rapbench.methods.rap import RAP
from rapbench.relprop.graph import Graph
from rapbench.relprop.tracing.checked import verify
from rapbench.relprop.tracing.trace import trace

METHODS: Sequence[Method] = (
    *(RAP(), LRPEpsilon(), LRPAlpha2Beta1(), DeepLiftRescale(), GuidedBackprop(), InputGradient()),
)


class NormRectified(nn.BatchNorm2d):
    """Batch norm with its rectifier, as some libraries have it."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(super().forward(x))


class Centred(nn.Conv2d):
    """A convolution whose weights are centred on the way."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(x, weight, self.bias, padding=self.padding)


class Step(nn.Module):
    """One step of a network (N, 8, H, W) -> (N, 8, H, W); `plain` is the same function without its peculiarity."""

    plain = False

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, y: Tensor) -> Tensor:
        return self.plainly(y) if self.plain else self.peculiarly(y)


STEPS: list[type[Step]] = []


def step(plainly: Callable[[Step, Tensor], Tensor]) -> Callable[[Callable[[Step, Tensor], Tensor]], type[Step]]:
    """Adds a step, given as it may be written after as it is written plainly."""

    def added(peculiarly: Callable[[Step, Tensor], Tensor]) -> type[Step]:
        STEPS.append(type(peculiarly.__name__, (Step,), {"plainly": plainly, "peculiarly": peculiarly}))
        return STEPS[-1]

    return added


def rectified(self: Step, y: Tensor) -> Tensor:
    return self.conv(y).relu()


def doubled(self: Step, y: Tensor) -> Tensor:
    total = y + self.conv(y)
    return total + total


def residual(self: Step, y: Tensor) -> Tensor:
    return y + self.conv(y)


def scaled(self: Step, y: Tensor) -> Tensor:
    return self.conv(y) * 0.5 + 0.25


def subtracted(self: Step, y: Tensor) -> Tensor:
    return self.conv(y) - y


def silu(self: Step, y: Tensor) -> Tensor:
    return functional.silu(self.conv(y))


def hardswish(self: Step, y: Tensor) -> Tensor:
    return functional.hardswish(self.conv(y))


def gelu(self: Step, y: Tensor) -> Tensor:
    return functional.gelu(self.conv(y))


def gated(self: Step, y: Tensor) -> Tensor:
    return y * self.conv(y).mean((2, 3), keepdim=True).sigmoid()


def normalised(self: Step, y: Tensor) -> Tensor:
    return functional.layer_norm(self.conv(y).permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2)


def scaled_to_length(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    return y * torch.rsqrt(y.square().sum(1, keepdim=True))


def group_normalised(self: Step, y: Tensor) -> Tensor:
    return functional.group_norm(self.conv(y), 2)


def swapped(self: Step, y: Tensor) -> Tensor:
    return torch.cat([y[:, 4:], y[:, :4]], 1)


def half_rectified(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    return torch.cat([y[:, :4].relu(), y[:, 4:]], 1)


def half_convolved(self: Step, y: Tensor) -> Tensor:
    return torch.cat([y[:, :4], self.conv(y)[:, 4:]], 1)


def padded(self: Step, y: Tensor) -> Tensor:
    return functional.conv2d(y, self.conv.weight, self.conv.bias, padding=2)[:, :, 1:-1, 1:-1]


@step(rectified)
def statement(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    torch.relu_(y)
    return y


@step(rectified)
def clamped(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    y.clamp_(min=0)
    return y


@step(rectified)
def anonymous(self: Step, y: Tensor) -> Tensor:
    return nn.ReLU(inplace=True)(self.conv(y))


@step(rectified)
def through_another_name(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    y.detach().relu_()
    return y


@step(rectified)
def through_a_permuted_view(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    y.permute(0, 2, 3, 1).relu_()
    return y


@step(rectified)
def into_a_buffer(self: Step, y: Tensor) -> Tensor:
    out = torch.empty_like(y)
    out.copy_(self.conv(y).relu())
    return out


@step(rectified)
def with_keywords(self: Step, y: Tensor) -> Tensor:
    y = functional.conv2d(input=y, weight=self.conv.weight, bias=self.conv.bias, padding=1)
    return functional.threshold(input=y, threshold=0.0, value=0.0)


@step(rectified)
def without_gradient(self: Step, y: Tensor) -> Tensor:
    with torch.no_grad():
        return self.conv(y).relu()


@step(rectified)
def by_a_hook(self: Step, y: Tensor) -> Tensor:
    handle = self.conv.register_forward_hook(lambda module, args, output: output.relu_())
    try:
        return self.conv(y)
    finally:
        handle.remove()


@step(rectified)
def with_a_tuple(self: Step, y: Tensor) -> Tensor:
    found = {"maps": (self.conv(y), y.shape)}
    maps, shape = found["maps"]
    return functional.hardtanh(maps, 0.0, 6e6).expand(shape)


@step(doubled)
def alias_of_a_sum(self: Step, y: Tensor) -> Tensor:
    identity = y
    y += self.conv(y)
    return y + identity


@step(residual)
def stacked(self: Step, y: Tensor) -> Tensor:
    return torch.stack([y, self.conv(y)], 4).sum(4)


@step(residual)
def summed(self: Step, y: Tensor) -> Tensor:
    return sum([y, self.conv(y)])


@step(residual)
def detached(self: Step, y: Tensor) -> Tensor:
    return y + self.conv(y.detach())


@step(swapped)
def chunks(self: Step, y: Tensor) -> Tensor:
    first, second = torch.chunk(input=y, chunks=2, dim=1)
    return torch.cat((second, first), dim=1)


@step(swapped)
def split_by_size(self: Step, y: Tensor) -> Tensor:
    return torch.cat(y.split(y.shape[1] // 2, 1)[::-1], 1)


@step(swapped)
def rolled_in_rows(self: Step, y: Tensor) -> Tensor:
    rows = y.contiguous().view(len(y), 2, -1)
    return rows.flip(1).reshape(y.size(0), int(y.shape[1] * 1.0), *y.shape[2:])


@step(half_rectified)
def slice_in_place(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    y[:, :4].relu_()
    return y


@step(half_rectified)
def chunk_in_place(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    first, _ = y.chunk(2, 1)
    functional.relu(first, True)
    return y


@step(half_rectified)
def written_back(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    y[:, :4] = y[:, :4].relu()
    return y


@step(swapped)
def swapped_in_place(self: Step, y: Tensor) -> Tensor:
    first = y[:, :4].clone()
    y[:, :4] = y[:, 4:]
    y[:, 4:] = first
    return y


@step(residual)
def into_an_argument(self: Step, y: Tensor) -> Tensor:
    total = torch.empty(0, dtype=y.dtype)
    torch.cat([y, self.conv(y)], 0, out=total)
    return total.view(2, -1, *y.shape[1:]).sum(0)


@step(half_convolved)
def filled_piece_by_piece(self: Step, y: Tensor) -> Tensor:
    out = torch.zeros(y.shape[0], 8, *y.shape[2:], dtype=y.dtype)
    out[:, :4] = y[:, :4]
    out[:, 4:].copy_(self.conv(y)[:, 4:])
    return out


@step(half_convolved)
def zero_and_add(self: Step, y: Tensor) -> Tensor:
    z = 0 + self.conv(y)
    return torch.cat([y.narrow(1, 0, 4), z.unbind(1)[4].unsqueeze(1), z[:, 5:]], 1)


@step(padded)
def padding_before(self: Step, y: Tensor) -> Tensor:
    return self.conv(functional.pad(y, (1, 1, 1, 1)))[:, :, 1:-1, 1:-1]


@step(scaled)
def scaled_in_place(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    y *= 0.5
    return y.add_(0.25)


@step(scaled)
def divided(self: Step, y: Tensor) -> Tensor:
    return 0.25 - self.conv(y).neg() / 2


@step(scaled)
def scaled_by_tensors(self: Step, y: Tensor) -> Tensor:
    half = torch.full((8, 1, 1), 0.5, dtype=y.dtype)
    return torch.addcmul(half / 2, half, self.conv(y))


@step(subtracted)
def added_with_a_factor(self: Step, y: Tensor) -> Tensor:
    return torch.add(self.conv(y), y, alpha=-1)


@step(subtracted)
def subtracted_in_place(self: Step, y: Tensor) -> Tensor:
    z = self.conv(y)
    z -= y
    return z


@step(silu)
def sigmoid_times_itself(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    return y * y.sigmoid()


@step(silu)
def sigmoid_times_itself_in_place(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    return y.mul_(torch.sigmoid(y))


@step(hardswish)
def hardswish_by_relu6(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    return y * functional.relu6(y + 3) / 6


@step(gelu)
def gelu_by_erf(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    return y * 0.5 * (1 + torch.erf(y / 2**0.5))


@step(gated)
def gate_first(self: Step, y: Tensor) -> Tensor:
    gate = functional.adaptive_avg_pool2d(self.conv(y), 1).sigmoid()
    return gate.expand_as(y) * y


@step(gated)
def gated_in_place(self: Step, y: Tensor) -> Tensor:
    gate = self.conv(y).mean((2, 3)).view(-1, 8, 1, 1)
    y *= gate.sigmoid_()
    return y


@step(normalised)
def normalised_by_statements(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    y = y - y.mean(1, keepdim=True)
    return y / torch.sqrt(y.pow(2).mean(1, keepdim=True) + 1e-5)


@step(normalised)
def normalised_by_a_root(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    variance, mean = torch.var_mean(y, 1, unbiased=False, keepdim=True)
    return torch.rsqrt(variance + 1e-5) * (y - mean)


@step(scaled_to_length)
def divided_by_a_norm(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    return y / torch.linalg.vector_norm(y, dim=1, keepdim=True)


@step(group_normalised)
def normalised_in_rows(self: Step, y: Tensor) -> Tensor:
    y = self.conv(y)
    rows = y.contiguous().view(len(y), 2, -1)
    return functional.layer_norm(rows, rows.shape[2:]).view(y.shape)


class Net(nn.Module):
    """A stem, steps, and a head."""

    def __init__(self, steps: Sequence[type[Step]], *, centred: bool) -> None:
        super().__init__()
        self.stem, self.norm = (Centred if centred else nn.Conv2d)(3, 8, 3, padding=1), NormRectified(8)
        self.steps = nn.ModuleList(kind() for kind in steps)
        self.last, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)
        self.plain = False

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            x = x * mask
        y = self.norm(self.stem(x))
        for one in self.steps:
            y = one(y)
        return self.head(self.last(y).relu().mean((2, 3)))


def plainly_written(net: Net) -> Net:
    """The same function: batch norm and rectifier apart, centred weights, every step plain."""
    twin = copy.deepcopy(net)
    if isinstance(net.stem, Centred):
        twin.stem = nn.Conv2d(3, 8, 3, padding=1).double()
        twin.stem.load_state_dict(net.stem.state_dict())
        twin.stem.weight.data -= twin.stem.weight.data.mean((1, 2, 3), keepdim=True)
    norm = nn.BatchNorm2d(8).double()
    norm.load_state_dict(net.norm.state_dict())
    twin.norm = nn.Sequential(norm, nn.ReLU())
    for one in twin.steps:
        one.plain = True
    return twin.eval()


def drawn(seed: int) -> Net:
    """A network of one to four steps."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    net = Net(draw.choices(STEPS, k=draw.randint(1, 4)), centred=draw.random() < 0.3).double()
    nn.init.uniform_(net.norm.running_mean, -0.3, 0.3)
    nn.init.uniform_(net.norm.running_var, 0.5, 1.5)
    return net.eval()


def check(net: Net, x: Tensor) -> None:
    """Graph and network agree; maps are those of the plain twin, or refused, which LRP does with none."""
    twin, target = plainly_written(net), torch.tensor([1, 3])
    with torch.no_grad():
        logits = net(x.clone())
        assert relative(twin(x.clone()), logits) < 1e-12
    wrapped = nn.DataParallel(net)
    graph, plain = trace(wrapped, x), trace(twin, x)
    verify(graph, wrapped, x, logits)
    assert relative(graph(x[:1]), logits[:1]) < 1e-12
    assert relative(graph(torch.cat([x, x])), torch.cat([logits, logits])) < 1e-12
    for method in METHODS:
        found, expected = (explained(method, one, x, target) for one in (graph, plain))
        assert found is not None or not isinstance(method, LRPEpsilon)
        if found is not None:
            assert expected is not None, method.title
            assert relative(found, expected) < 1e-9, method.title


def explained(method: Method, graph: Graph, x: Tensor, target: Tensor) -> Tensor | None:
    """The map; None where the method refuses the network."""
    try:
        return method(graph, x, target, seeds=torch.zeros(2))
    except UnsupportedLayer:
        return None


def images() -> Tensor:
    return torch.randn(2, 3, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kind", STEPS, ids=lambda kind: kind.__name__)
def test_each_way_of_writing_explains_like_the_plain_one(kind: type[Step]) -> None:
    torch.manual_seed(3)
    check(Net([kind], centred=False).double().eval(), images())


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(n, marks=pytest.mark.slow) for n in range(20, 300))])
def test_random_networks_explain_like_plain_ones(seed: int) -> None:
    check(drawn(seed), images())

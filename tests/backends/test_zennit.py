"""Zennit's rules, laid on the layers as ours are: they agree, what zennit cannot see is refused, and no trace stays."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable

import pytest
import torch
import zennit.composites
from networks import NETWORKS, images, network, relative
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock
from zennit.torchvision import ResNetCanonizer

from rapbench.backends import BACKENDS, NATIVE, ZENNIT
from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadConfig, UnsupportedLayer

SEEDS = torch.arange(3)
SHARED = [name for name in ZENNIT if name in NATIVE]
INVISIBLE = {"functional", "dense", "depthwise"}
every_method = pytest.mark.parametrize("name", ZENNIT)


def build(name: str, backend: str = "zennit") -> Callable[..., Tensor]:
    return BACKENDS.load(backend).build(parse_call(name))


def explained(name: str, net: nn.Module, x: Tensor | None = None, backend: str = "zennit") -> Tensor:
    x = images() if x is None else x
    return build(name, backend)(net, x, net(x.clone()).argmax(1), seeds=SEEDS[: len(x)])


def agree(name: str, net: nn.Module) -> bool:
    return relative(explained(name, net), explained(name, net, backend="native")) < 1e-6


def without_idle_pool(net: nn.Module) -> nn.Module:
    """The pool over single values that ends a residual network does nothing; zennit's w² and flat rules count it."""
    if hasattr(net, "avgpool"):
        net.avgpool = nn.Identity()
    return net


@pytest.mark.parametrize("name", SHARED)
def test_methods_agree_with_the_native_ones_or_refuse(name: str) -> None:
    refused = set()
    for kind in NETWORKS:
        try:
            assert agree(name, without_idle_pool(network(kind))), kind
        except UnsupportedLayer:
            refused.add(kind)
    assert refused == INVISIBLE


@pytest.mark.parametrize(
    "call",
    [
        *("lrp_a1b0(bias=signed)", "lrp_a2b1(bias=signed)", "lrp_alpha_beta(alpha=3, beta=2, bias=signed)"),
        *("lrp_alpha_beta(alpha=3, beta=2)", "lrp_epsilon(epsilon=0.5)", "lrp_epsilon(epsilon=0)"),
        *("lrp_gamma(gamma=2)", "lrp_epsilon_plus(epsilon=0.3)", "lrp_epsilon_plus_flat(epsilon=0.3)"),
        *("lrp_z_beta(low=-3, high=4)", "lrp_epsilon_gamma_box(low=-3, high=4, gamma=1, epsilon=0.2)"),
    ],
)
def test_parameters_mean_what_they_mean_natively(call: str) -> None:
    name = call.partition("(")[0]
    assert agree(call, network("vgg"))
    assert not torch.allclose(explained(call, network("vgg")), explained(name, network("vgg")), rtol=1e-3)


def by_preset(preset: zennit.core.Composite, net: nn.Module) -> Tensor:
    """What a composite of zennit's own makes of the network, from the logit of the predicted class."""
    with preset.context(net) as modified:
        x = images().requires_grad_()
        score = modified(x).max(1).values
        return torch.autograd.grad(score, x, score.detach())[0]


def test_with_its_own_stabiliser_and_biases_zennits_presets_are_had() -> None:
    table = [*zennit.composites.layer_map_base(), (zennit.types.Linear, zennit.rules.AlphaBeta(2, 1))]
    preset = zennit.composites.LayerMapComposite(table)
    assert (
        relative(explained("lrp_a2b1(stabilizer=1e-6, bias=signed)", network("vgg")), by_preset(preset, network("vgg")))
        < 1e-9
    )
    net = network("vgg")
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.bias)  # which the preset counts, and the method of this name does not
    preset = zennit.composites.EpsilonPlusFlat()
    assert relative(explained("lrp_epsilon_plus_flat(stabilizer=1e-6)", net), by_preset(preset, net)) < 1e-9


def initialised(net: nn.Module) -> nn.Module:
    """The network in float64 and evaluation mode, with weights that do not depend on when it was built."""
    net.double().eval()(images())
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
    return net


class Between(nn.Module):
    """One operation between two convolutions; the one that runs first is registered last."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.dense, self.relu, self.b = nn.LazyLinear(5), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)
        self.operation, self.first, self.a = operation, nn.ReLU(), nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.operation(self.first(self.a(x)))
        return self.dense(self.relu(self.b(x)).flatten(1))


@pytest.mark.parametrize("name", ["lrp_epsilon_plus_flat", "lrp_z_beta", "lrp_epsilon_gamma_box"])
def test_the_rule_of_pixels_is_for_the_layer_that_runs_first(name: str) -> None:
    assert agree(name, initialised(Between(nn.Identity())))


def test_modules_registered_under_two_names_get_their_rule() -> None:
    net = initialised(Between(nn.Identity()))
    net.alias, net.other = net.a, net.first
    assert agree("lrp_a2b1", net)
    assert agree("guided_backprop", net)


@pytest.mark.parametrize("name", ["lrp_zero", "lrp_a1b0", "lrp_gamma"])
def test_a_batch_norm_that_no_layer_feeds_alone_is_treated_as_natively(name: str) -> None:
    norm = nn.BatchNorm2d(6)
    for values, low, high in ((norm.running_mean, -1, 1), (norm.running_var, 0.5, 2), (norm.weight, 0.5, 2)):
        nn.init.uniform_(values, low, high)
    assert agree(name, initialised(Between(norm)))


NORMLESS = nn.BatchNorm2d(6, affine=False)
REFUSED = {
    "a functional ReLU": (lambda: Between(torch.relu), "relu", "this is a function"),
    "a functional pool": (lambda: Between(lambda x: functional.avg_pool2d(x, 2)), "avg_pool2d", "this is a function"),
    "a mean": (lambda: Between(lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 2, 2)), "mean", "a function"),
    "an addition": (lambda: Between(lambda x: x + x.flip(3)), "flip|add", "no rule|residual blocks"),
    "a residual addition": (lambda: Between(Residual()), "add", "torchvision's residual blocks only"),
    "another block": (lambda: Between(Scaled(6, 6)), "iadd|add|mul", "residual blocks only|no rule"),
    "a reused layer": (lambda: Between(reused()), "Conv2d", "runs more than once"),
    "a norm without weights": (lambda: Between(nn.Sequential(convolution(), NORMLESS)), "BatchNorm2d", "have weights"),
    "a sigmoid": (lambda: Between(torch.sigmoid), "sigmoid", "no rule is known"),
}


def convolution() -> nn.Module:
    return nn.Conv2d(6, 6, 3, padding=1)


def reused() -> nn.Module:
    shared = convolution()
    return nn.Sequential(shared, nn.ReLU(), shared)


class Residual(nn.Module):
    """A residual addition that is not torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(convolution(), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + x


class Scaled(BasicBlock):
    """A block of torchvision's kind with a forward pass of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + x + x)


@pytest.mark.parametrize("case", REFUSED)
def test_what_zennit_cannot_see_is_refused_with_node_operation_and_method(case: str) -> None:
    make, operation, reason = REFUSED[case]
    with pytest.raises(UnsupportedLayer, match=rf"^zennit's LRP ε cannot handle ({operation}) at node .*({reason})"):
        explained("lrp_epsilon", initialised(make()))


def test_relu6_passes_relevance_but_not_guided_gradients() -> None:
    net = initialised(Between(nn.Sequential(convolution(), nn.ReLU6())))
    assert agree("lrp_a2b1", net)
    with pytest.raises(UnsupportedLayer, match=r"zennit's Guided Backprop cannot handle ReLU6"):
        explained("guided_backprop", net)


def test_what_is_refused_would_have_been_wrong() -> None:
    preset = zennit.composites.EpsilonPlus(epsilon=1e-20, stabilizer=1e-20, zero_params="bias")
    for module in (Residual(), nn.Sequential(convolution(), Pooled())):
        net = initialised(Between(module))
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
        assert relative(by_preset(preset, net), explained("lrp_epsilon_plus", net, backend="native")) > 0.1


class Pooled(nn.Module):
    """A ReLU and an average pool that no hook reaches."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(torch.relu(x), 4)


def test_merged_batch_norms_lose_their_epsilon_as_well() -> None:
    net, x = network("bottleneck"), images()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.1
    assert agree("lrp_epsilon", net)
    composite = zennit.composites.EpsilonPlus(canonizers=[ResNetCanonizer()])
    with composite.context(net) as merged:
        apart = relative(merged(x), network("bottleneck")(x))
    assert apart > 0.01, "zennit takes epsilon out itself: the workaround can go"


def state(net: nn.Module) -> list[object]:
    """All that a method could leave behind on a network."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        *((name, module.training, sorted(vars(module))) for name, module in net.named_modules()),
        *((getattr(module, "inplace", None), getattr(module, "eps", None)) for module in net.modules()),
        *(len(getattr(module, kind)) for module in net.modules() for kind in kinds),
        *((name, p.requires_grad, p.grad is None, p.data_ptr()) for name, p in net.named_parameters()),
    ]


@pytest.mark.slow
@every_method
def test_network_and_input_are_left_as_they_were(name: str) -> None:
    net, x = network("basic_block"), images()
    net.layer1.train()
    net.conv1.weight.requires_grad_(requires_grad=False)
    before, values = state(net), copy.deepcopy(net.state_dict())
    with torch.no_grad():
        relevance = explained(name, net.eval(), x)
    net.layer1.train()
    assert (relevance.shape, relevance.dtype, relevance.requires_grad) == (x.shape, x.dtype, False)
    with pytest.raises((IndexError, RuntimeError)):
        build(name)(net.eval(), x, torch.tensor([99, 99, 99]), seeds=SEEDS)
    net.layer1.train()
    assert [kept for kept in state(net) if kept not in before] == []
    assert all(torch.equal(values[key], value) for key, value in net.state_dict().items())
    assert torch.equal(x, images())


@every_method
def test_an_images_relevance_does_not_depend_on_its_batch(name: str) -> None:
    net, x = network("vgg"), images()
    target = net(x).argmax(1)
    together = build(name)(net, x, target, seeds=SEEDS)
    alone = torch.cat([build(name)(net, x[n : n + 1], target[n : n + 1], seeds=SEEDS[:1]) for n in range(3)])
    assert torch.allclose(together, alone, rtol=1e-9, atol=1e-12 * float(together.abs().max()))


@every_method
def test_single_precision_gives_finite_maps(name: str) -> None:
    x = images().float().contiguous(memory_format=torch.channels_last)
    for kind in ("vgg", "fire"):
        net = network(kind)
        found = explained(name, net.float().requires_grad_(requires_grad=False), x)
        assert found.dtype == torch.float32
        assert found.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("lrp_alpha_beta(alpha=2, beta=2)", "alpha - beta"),
        ("lrp_zero(stabilizer=0)", "stabilizer=0"),
        ("lrp_epsilon(epsilon=-1)", "epsilon=-1"),
        ("lrp_gamma(gamma=-1)", "gamma=-1"),
        ("lrp_z_beta(low=1, high=0)", "low must be less than high"),
        ("lrp_a1b0(bias=innvestigate)", "bias=innvestigate"),
        ("lrp_z_plus(bias=signed)", "no parameter 'bias'"),
    ],
)
def test_parameters_out_of_range_are_refused(call: str, message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        build(call)


def test_without_zennit_the_backend_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zennit", None)
    monkeypatch.delitem(sys.modules, "rapbench.backends.zennit", raising=False)
    assert "lrp_flat" in BACKENDS.load("zennit")
    with pytest.raises(BadConfig) as error:
        BACKENDS.load("zennit").build(parse_call("lrp_flat"))
    assert str(error.value) == 'backend zennit needs zennit: pip install "rapbench[zennit]"'

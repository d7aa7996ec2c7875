"""Captum as a second opinion: it agrees where it is right, is refused where it is wrong, and leaves no trace."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable

import captum.attr
import numpy as np
import pytest
import torch
from networks import NETWORKS, images, network, relative
from torch import Tensor, nn
from torch.nn import functional

from rapbench.backends import BACKENDS, CAPTUM, NATIVE
from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadConfig, UnsupportedLayer

SEEDS = torch.tensor([1, 2, 3])
FEW = {
    "integrated_gradients": "steps=4",
    "smooth_grad": "samples=4",
    "smooth_grad_squared": "samples=4",
    "gradient_shap": "samples=4",
    "lime": "samples=30, patch=8",
    "kernel_shap": "samples=30, patch=8",
}
SHARED = [name for name in CAPTUM if name in NATIVE]
REFUSED = {
    "guided_backprop": {"functional", "dense", "depthwise"},
    "deconvnet": {"functional", "dense", "depthwise"},
    "guided_grad_cam": {"functional", "dense", "depthwise"},
    "grad_cam": {"functional", "dense"},
    "deeplift_rescale": set(NETWORKS),
    "lrp_epsilon": {"bottleneck", "basic_block", "functional", "dense", "depthwise"},
}


def convolution(channels: int = 6) -> nn.Module:
    return nn.Conv2d(channels, 6, 3, padding=1)


def sequential(*middle: nn.Module) -> nn.Module:
    """A convolution and a ReLU, the layers given, a ReLU and a dense layer; the same weights on every call."""
    return initialised(
        nn.Sequential(convolution(3), nn.ReLU(True), *middle, nn.ReLU(True), nn.Flatten(), nn.LazyLinear(5))
    )


def initialised(net: nn.Module) -> nn.Module:
    """The network in float64 and evaluation mode, with weights that do not depend on when it was built."""
    net.double().eval()(images())
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
    return net


def plain() -> nn.Module:
    """In-place ReLUs before max-pools whose windows do not overlap, and an average pool."""
    return sequential(
        nn.MaxPool2d(2), convolution(), nn.ReLU(True), nn.MaxPool2d(3, ceil_mode=True), convolution(), nn.AvgPool2d(2)
    )


def build(name: str, backend: str = "captum") -> Callable[..., Tensor]:
    call = parse_call(f"{name}({FEW.get(name, '')})" if "(" not in name else name)
    return BACKENDS.load(backend).build(call)


def explained(name: str, net: nn.Module, x: Tensor | None = None, backend: str = "captum") -> Tensor:
    x = images() if x is None else x
    target = net(x.clone()).argmax(1)
    return build(name, backend)(net, x, target, seeds=SEEDS[: len(x)])


def directly(method: type[captum.attr.Attribution], net: nn.Module) -> Tensor:
    """What captum says when it is asked without a check."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(net).attribute(images(), target=net(images()).argmax(1)).detach()


@pytest.mark.parametrize("name", SHARED)
def test_methods_agree_with_the_native_ones_or_refuse(name: str) -> None:
    refused = set()
    for kind in NETWORKS:
        net = network(kind)
        try:
            found = explained(name, net)
        except UnsupportedLayer:
            refused.add(kind)
            continue
        expected = explained(name, net, backend="native")
        assert (found - expected).abs().max() <= 1e-6 * expected.abs().max(), kind
    assert refused == REFUSED.get(name, set())


@pytest.mark.parametrize("name", SHARED)
def test_methods_agree_with_the_native_ones_on_what_captum_is_made_for(name: str) -> None:
    assert relative(explained(name, plain()), explained(name, plain(), backend="native")) < 1e-6


@pytest.mark.parametrize("name", ["grad_cam", "guided_grad_cam"])
def test_feature_maps_of_a_reused_relu_are_taken_from_the_block_around_it(name: str) -> None:
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for kind in ("bottleneck", "basic_block"):
        expected = explained(name, network(kind), x, "native")
        assert expected.abs().max() > 0
        assert relative(explained(name, network(kind), x), expected) < 1e-6


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet", "deeplift_rescale"])
@pytest.mark.parametrize("between", [nn.ReLU, nn.Dropout, lambda: nn.MaxPool2d(2)])
def test_modules_that_share_a_tensor_do_not_see_each_others_gradients(
    name: str, between: Callable[[], nn.Module]
) -> None:
    net = sequential(between(), nn.ReLU(), convolution(), nn.MaxPool2d(2), nn.ReLU())
    assert relative(explained(name, net), explained(name, net, backend="native")) < 1e-6


def test_asked_directly_captum_gets_shared_tensors_wrong() -> None:
    net = sequential(nn.ReLU(), convolution(), nn.MaxPool2d(2))
    for name, method in (("deconvnet", captum.attr.Deconvolution), ("deeplift_rescale", captum.attr.DeepLift)):
        assert relative(directly(method, net), explained(name, net, backend="native")) > 0.1


class Skip(nn.Module):
    """A ReLU whose input is added again behind the next layer, read after the ReLU has run."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.a, self.b, self.relu, self.last = convolution(3), convolution(), nn.ReLU(inplace), nn.ReLU()
        self.pool, self.dense = nn.AvgPool2d(4), nn.Linear(6 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = self.b(self.relu(x)) + x
        return self.dense(self.pool(self.last(x)).flatten(1))


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet", "deeplift_rescale"])
def test_a_skip_around_a_relu_keeps_its_own_gradient(name: str) -> None:
    net = initialised(Skip(inplace=False))
    assert relative(explained(name, net), explained(name, net, backend="native")) < 1e-6


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet", "guided_grad_cam", "deeplift_rescale"])
def test_a_value_that_a_module_overwrites_and_others_read_is_refused(name: str) -> None:
    net = initialised(Skip(inplace=True))
    with pytest.raises(UnsupportedLayer, match=r"cannot handle add at node 'add'.*wrote in place"):
        explained(name, net)
    assert net.relu.inplace
    assert (
        relative(directly(captum.attr.GuidedBackprop, net), explained("guided_backprop", net, backend="native")) > 0.1
    )


class Between(nn.Module):
    """One operation between a convolution and the logits."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.operation = convolution(3), operation
        self.b, self.relu, self.dense = convolution(), nn.ReLU(), nn.LazyLinear(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.relu(self.b(self.operation(self.a(x)))).flatten(1))


WRONG = {
    "guided_backprop of a functional ReLU": ("guided_backprop", lambda: initialised(Between(torch.relu)), "relu"),
    "deconvnet of a functional ReLU": ("deconvnet", lambda: initialised(Between(functional.relu)), "relu"),
    "guided_backprop of ReLU6": (
        "guided_backprop",
        lambda: sequential(convolution(), nn.ReLU6(), convolution()),
        "ReLU6",
    ),
    "deeplift of a functional ReLU": ("deeplift_rescale", lambda: initialised(Between(torch.relu)), "relu"),
    "deeplift of ReLU6": ("deeplift_rescale", lambda: sequential(convolution(), nn.ReLU6(), convolution()), "ReLU6"),
    "deeplift of overlapping windows": (
        "deeplift_rescale",
        lambda: sequential(convolution(), nn.MaxPool2d(3, 2)),
        "MaxPool2d",
    ),
    "deeplift of a functional pool": (
        "deeplift_rescale",
        lambda: initialised(Between(lambda x: functional.max_pool2d(x, 2))),
        "max_pool2d",
    ),
    "deeplift of an adaptive pool": (
        "deeplift_rescale",
        lambda: sequential(convolution(), nn.AdaptiveMaxPool2d(9)),
        "AdaptiveMaxPool2d",
    ),
    "lrp of a functional pool": (
        "lrp_epsilon",
        lambda: initialised(Between(lambda x: functional.avg_pool2d(torch.relu(x), 4))),
        "avg_pool2d",
    ),
    "lrp of an addition": ("lrp_epsilon", lambda: initialised(Between(lambda x: torch.relu(x) + x)), "add"),
}
METHODS = {
    "guided_backprop": captum.attr.GuidedBackprop,
    "deconvnet": captum.attr.Deconvolution,
    "deeplift_rescale": captum.attr.DeepLift,
    "lrp_epsilon": captum.attr.LRP,
}


@pytest.mark.parametrize("case", WRONG)
def test_what_captum_gets_wrong_is_refused_with_node_operation_and_method(case: str) -> None:
    name, make, operation = WRONG[case]
    title = build(name).title
    with pytest.raises(UnsupportedLayer) as refused:
        explained(name, make())
    assert str(refused.value).startswith(f"captum's {title} cannot handle {operation} at node ")


@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused_would_have_been_wrong(case: str) -> None:
    name, make, _ = WRONG[case]
    net = make()
    expected = explained(name, net, backend="native")
    assert relative(directly(METHODS[name], net), expected) > 0.01, "captum is right here: the refusal can go"


def test_lrp_differs_on_batch_norm_by_the_place_of_epsilon_alone() -> None:
    norm = nn.BatchNorm2d(6)
    for values, low, high in ((norm.running_mean, -1, 1), (norm.running_var, 0.5, 2), (norm.weight, 0.5, 2)):
        nn.init.uniform_(values, low, high)
    net = sequential(convolution(), norm)
    exact, large = "lrp_epsilon(epsilon=1e-12)", "lrp_epsilon(epsilon=0.1)"
    assert relative(explained(exact, net), explained(exact, net, backend="native")) < 1e-6
    assert relative(explained(large, net), explained(large, net, backend="native")) > 1e-3
    assert "batch norm" in build(large).differs


@pytest.mark.parametrize("name", ["deeplift_rescale", "deep_lift_shap", "lrp_epsilon"])
def test_a_reused_layer_that_captum_remembers_once_is_refused(name: str) -> None:
    shared = convolution() if name == "lrp_epsilon" else nn.ReLU()
    with pytest.raises(UnsupportedLayer, match="runs more than once"):
        explained(name, sequential(shared, convolution(), shared))


every_method = pytest.mark.parametrize("name", CAPTUM)


def state(net: nn.Module) -> list[object]:
    """All that a method could leave behind on a network."""
    return [
        *((name, module.training, sorted(vars(module))) for name, module in net.named_modules()),
        *((getattr(module, "inplace", None), *map(len, hooks(module))) for module in net.modules()),
        *((p.requires_grad, p.grad is None, p.data_ptr()) for p in net.parameters()),
    ]


def hooks(module: nn.Module) -> tuple[dict[int, object], ...]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return tuple(getattr(module, kind) for kind in kinds)


@every_method
def test_network_and_input_are_left_as_they_were(name: str) -> None:
    net, x = plain(), images()
    net[0].train()
    net[0].bias.requires_grad_(requires_grad=False)
    before, weights = state(net), copy.deepcopy(net.state_dict())
    with torch.no_grad():
        relevance = explained(name, net, x)
    assert (relevance.shape, relevance.dtype, relevance.requires_grad) == (x.shape, x.dtype, False)
    assert state(net) == before
    assert all(torch.equal(weights[key], value) for key, value in net.state_dict().items())
    assert torch.equal(x, images())
    with pytest.raises(Exception, match=r"out of|range|index"):
        build(name)(net, x, torch.tensor([99, 99, 99]), seeds=SEEDS)
    assert state(net) == before


@every_method
def test_frozen_weights_are_explained(name: str) -> None:
    net = plain()
    assert torch.equal(explained(name, net.requires_grad_(requires_grad=False)), explained(name, plain()))


@every_method
def test_an_images_relevance_depends_on_neither_its_batch_nor_its_place(name: str) -> None:
    net, x = plain(), images()
    target = net(x).argmax(1)
    method = build(name)
    together = method(net, x, target, seeds=SEEDS)
    alone = torch.cat([method(net, x[n : n + 1], target[n : n + 1], seeds=SEEDS[n : n + 1]) for n in (0, 1, 2)])
    assert torch.allclose(together, alone, rtol=1e-6, atol=1e-6 * float(alone.abs().max()))
    backwards = method(net, x.flip(0), target.flip(0), seeds=SEEDS.flip(0)).flip(0)
    assert torch.allclose(together, backwards, rtol=1e-6, atol=1e-6 * float(alone.abs().max()))


@every_method
def test_the_same_seeds_give_the_same_bytes(name: str) -> None:
    x = images().contiguous(memory_format=torch.channels_last)
    before = explained(name, plain(), x)
    torch.rand(1), np.random.random()  # noqa: NPY002 - what others draw in between does not matter
    assert torch.equal(before, explained(name, plain(), x))


@every_method
def test_the_users_random_generators_are_left_where_they_were(name: str) -> None:
    net, x = plain(), images()
    before, (_, numpy_before, *_) = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    build(name)(net, x, torch.tensor([0, 1, 2]), seeds=SEEDS)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("name", ["smooth_grad", "smooth_grad_squared", "lime", "kernel_shap", "gradient_shap"])
def test_other_seeds_draw_other_samples(name: str) -> None:
    net, x = plain(), images()
    method, target = build(name), torch.tensor([0, 1, 2])
    assert not torch.equal(method(net, x, target, seeds=SEEDS), method(net, x, target, seeds=SEEDS + 1))


def linear() -> tuple[nn.Module, Tensor]:
    """A linear classifier of 4 x 6 images, and its weights for class 1."""
    torch.manual_seed(5)
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).double()
    return net, net[1].weight[1].detach().view(3, 4, 6)


def by_patch(values: Tensor, side: int) -> Tensor:
    """Sum over channels and patch, at every pixel of the patch."""
    result = torch.zeros_like(values)
    for row in range(0, values.shape[1], side):
        for column in range(0, values.shape[2], side):
            window = (slice(None), slice(row, row + side), slice(column, column + side))
            result[window] = values[window].sum()
    return result


def test_kernel_shap_finds_the_contributions_of_patches_to_a_linear_model() -> None:
    net, weight = linear()
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    found = build("kernel_shap(patch=2, samples=60)")(net, x, torch.tensor([1, 1]), seeds=SEEDS[:2])
    for n in (0, 1):
        assert relative(found[n], by_patch(x[n] * weight, 2)) < 1e-3


def test_lime_finds_the_contributions_of_patches_to_a_linear_model() -> None:
    net, weight = linear()
    x = torch.randn(1, 3, 4, 6, dtype=torch.float64)
    found = build("lime(patch=2, samples=3000)")(net, x, torch.tensor([1]), seeds=SEEDS[:1])
    assert relative(found[0], by_patch(x[0] * weight, 2)) < 0.02


def test_occlusion_is_the_loss_of_the_logit() -> None:
    net, weight = linear()
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    found = build("occlusion(patch=2, stride=2)")(net, x, torch.tensor([1, 1]), seeds=SEEDS[:2])
    for n in (0, 1):
        assert relative(found[n], by_patch(x[n] * weight, 2)) < 1e-6


def test_occlusion_takes_windows_larger_than_the_image() -> None:
    net, weight = linear()
    x = torch.randn(1, 3, 4, 6, dtype=torch.float64)
    found = build("occlusion(patch=50, stride=50)")(net, x, torch.tensor([1]), seeds=SEEDS[:1])
    assert torch.allclose(found, (x[0] * weight).sum().expand_as(found), rtol=1e-5)


def test_references_of_shap_methods_are_zero_and_noise() -> None:
    net, weight = linear()
    x = torch.randn(1, 3, 4, 6, dtype=torch.float64)
    only_zero = build("gradient_shap(references=1, samples=7)")(net, x, torch.tensor([1]), seeds=SEEDS[:1])
    assert relative(only_zero[0], x[0] * weight) < 1e-9
    mean = build("deep_lift_shap(references=2)")(net, x, torch.tensor([1]), seeds=SEEDS[:1])
    noise = 2 * (x[0] - mean[0] / weight)
    assert 0.7 < float(noise.std()) < 1.3
    assert not torch.allclose(noise, x[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("integrated_gradients(steps=0)", "steps=0"),
        ("smooth_grad(noise=-1)", "noise=-1"),
        ("lime(patch=0)", "patch=0"),
        ("deep_lift_shap(references=1)", "references=1: Input should be greater than or equal to 2"),
        ("gradient_shap(samples=0)", "samples=0"),
        ("occlusion(patch=4, stride=5)", "stride must be at most patch"),
        ("occlusion(side=4)", "no parameter 'side'"),
    ],
)
def test_parameters_out_of_range_are_refused(call: str, message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        build(call)


def test_patches_as_large_as_the_image_are_refused() -> None:
    with pytest.raises(BadConfig, match="patch=32 makes one patch of a whole 32x32 image"):
        explained("lime(patch=32)", plain())


def test_without_captum_the_backend_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.delitem(sys.modules, "rapbench.backends.captum", raising=False)
    assert "lime" in BACKENDS.load("captum")
    with pytest.raises(BadConfig) as error:
        BACKENDS.load("captum").build(parse_call("gradient"))
    assert str(error.value) == 'backend captum needs captum: pip install "rapbench[captum]"'

"""What the papers prove, and what independent libraries compute."""

from __future__ import annotations

from itertools import product
from typing import Any

import captum.attr
import pytest
import torch
import zennit.composites
import zennit.rules
import zennit.types
from networks import ATTENTION, NETWORKS, images, network, relative
from torch import Tensor, nn

from rapbench.core.abilities import Complete
from rapbench.core.catalogue import Call
from rapbench.methods import METHODS
from rapbench.methods.cam import GradCam, GuidedGradCam
from rapbench.methods.control import AllBackground, AllForeground, Center, Edge, Random
from rapbench.methods.deeplift import DeepLiftRescale
from rapbench.methods.gradient import Gradient, InputGradient
from rapbench.methods.guided import DeconvNet, GuidedBackprop
from rapbench.methods.integrated import IntegratedGradients
from rapbench.methods.lrp import LRPAlpha1Beta0, LRPAlpha2Beta1, LRPZBeta, LRPZero, LRPZPlus
from rapbench.methods.lrp_composites import DeepTaylor, LRPEpsilonGammaBox, LRPEpsilonPlusFlat
from rapbench.methods.rap import RAP
from rapbench.methods.smooth_grad import SmoothGrad, SmoothGradSquared
from rapbench.relprop.layers import Weighted
from rapbench.relprop.propagation import propagate
from rapbench.relprop.rules import AlphaBeta, Epsilon, Flat, Gamma, ZBeta
from rapbench.relprop.tracing.trace import trace

SEEDS = torch.arange(3)


def target(net: nn.Module) -> Tensor:
    return net(images()).argmax(1).detach()


def score(net: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    return net(x).gather(1, classes.unsqueeze(1)).squeeze(1).detach()


VARIANTS: list[dict[str, Any]] = [{}, {"routing": "paper"}, {"pointwise": "proportional"}, {"batch_norm": "fold"}]
LOSING = ("depthwise", {"pointwise": "proportional"})
"""A depthwise filter may see nothing, and what is passed on in proportion is lost there."""


@pytest.mark.parametrize(
    ("kind", "options"),
    [pair for pair in product(NETWORKS, VARIANTS) if pair != LOSING],
    ids=lambda value: value if isinstance(value, str) else ", ".join(value.values()) or "default",
)
def test_rap_conserves_the_logit_whatever_its_sign(kind: str, options: dict[str, Any]) -> None:
    net = network(kind)
    for classes in (net(images()).argmax(1), net(images()).argmin(1)):
        if kind == "fire" and (score(net, images(), classes) == 0).any():
            continue  # its logits are means of rectified values: nothing to redistribute
        relevance = RAP(**options)(net, images(), classes, seeds=SEEDS)
        assert relative(relevance.sum((1, 2, 3)), score(net, images(), classes)) < 1e-9


class Preactivation(nn.Module):
    """Rectified maps are pooled and added before a batch norm: many of its inputs are exactly 0."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3)
        self.norm, self.last = nn.BatchNorm2d(8), nn.Linear(8, 5)
        nn.init.uniform_(self.norm.bias, -0.5, 0.5)
        nn.init.uniform_(self.norm.running_mean, 0.1, 0.4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.a(x)), 2)
        x = nn.functional.avg_pool2d(torch.relu(self.b(x)) + x, 2)
        return self.last(torch.relu(self.c(torch.relu(self.norm(x)))).mean((2, 3)))


def preactivation() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = Preactivation().double().eval()
        nn.init.constant_(net.a.bias, -0.8)  # most positions are silent
        return net


@pytest.mark.parametrize("batch_norm", ["identity", "fold", "official"])
def test_rap_conserves_the_logit_through_batch_norms_of_zeros_unless_as_published(batch_norm: Any) -> None:
    net, method = preactivation(), RAP(batch_norm=batch_norm)
    found = method(net, images(), torch.tensor([0, 1, 2]), seeds=SEEDS).sum((1, 2, 3))
    assert (method.total(net, images(), torch.tensor([0, 1, 2])) is None) == (batch_norm == "official")
    assert (relative(found, score(net, images(), torch.tensor([0, 1, 2]))) < 1e-9) == (batch_norm != "official")


CONSERVING: list[Any] = [
    LRPAlpha1Beta0(one_sided="whole"),
    LRPAlpha2Beta1(one_sided="whole"),
    LRPAlpha2Beta1(one_sided="whole", batch_norm="identity"),
    LRPZBeta(one_sided="whole"),
]


@pytest.mark.parametrize("method", CONSERVING, ids=str)
@pytest.mark.parametrize("kind", [*NETWORKS, "preactivation"])
def test_lrp_that_passes_on_the_whole_relevance_keeps_its_promise(kind: str, method: LRPAlpha1Beta0) -> None:
    net = preactivation() if kind == "preactivation" else network(kind)
    promised = method.total(net, images(), target(net))
    assert promised is not None
    assert relative(method(net, images(), target(net), seeds=SEEDS).sum((1, 2, 3)), promised) < 1e-9


def test_alpha_beta_promises_no_sum_where_a_unit_without_a_sign_may_lose_or_double_its_relevance() -> None:
    net = network("depthwise")
    for method in (LRPAlpha1Beta0(), LRPAlpha2Beta1(), LRPZPlus(), DeepTaylor(one_sided="whole")):
        assert method.total(net, images(), target(net)) is None
    lost = LRPAlpha1Beta0()(net, images(), target(net), seeds=SEEDS).sum((1, 2, 3))
    assert relative(lost, score(net, images(), target(net))) > 0.01


def promise(name: str) -> tuple[Any, Tensor | None]:
    """A method, and the sums of its maps of a network with biases where it promises them."""
    method = METHODS.build(Call(name, {"steps": "400"} if name == "integrated_gradients" else {}))
    return method, method.total(network("vgg"), images(), SEEDS) if isinstance(method, Complete) else None


PROMISING = ["rap", "deeplift_rescale", "deeplift_reveal_cancel", "deeplift", "integrated_gradients"]


def test_these_methods_promise_the_sum_of_a_map() -> None:
    assert [name for name in METHODS if name not in {"maps", *ATTENTION} and promise(name)[1] is not None] == PROMISING


@pytest.mark.parametrize("name", PROMISING)
def test_maps_sum_to_what_their_method_promises(name: str) -> None:
    method, promised = promise(name)
    net, classes = network("vgg"), SEEDS
    found = method(net, images(), classes, seeds=SEEDS).sum((1, 2, 3))
    assert relative(found, promised) < (1e-3 if name == "integrated_gradients" else 1e-9)


@pytest.mark.parametrize("method", [LRPAlpha1Beta0(), LRPAlpha2Beta1()])
@pytest.mark.parametrize("kind", ["vgg", "bottleneck", "basic_block"])
def test_alpha_beta_without_bias_conserves_the_logit(kind: str, method: LRPAlpha1Beta0) -> None:
    net = network(kind)
    relevance = method(net, images(), target(net), seeds=SEEDS)
    assert relative(relevance.sum((1, 2, 3)), score(net, images(), target(net))) < 1e-9


def test_alpha2_beta1_doubles_the_relevance_of_a_unit_without_negative_part() -> None:
    net = nn.Linear(2, 1, bias=False).double()
    nn.init.ones_(net.weight)
    x = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    relevance = LRPAlpha2Beta1()(nn.Sequential(net), x, torch.tensor([0]), seeds=SEEDS)
    assert relevance.tolist() == [[2.0, 6.0]]


def test_alpha1_beta0_is_nowhere_negative_for_a_positive_logit() -> None:
    net = network("vgg")
    logits = score(net, images(), target(net))
    relevance = LRPAlpha1Beta0()(net, images(), target(net), seeds=SEEDS)
    assert (relevance[logits > 0] >= 0).all()


@pytest.mark.parametrize("batch_norm", ["fold", "rule"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_lrp_zero_is_input_times_gradient(kind: str, batch_norm: str) -> None:
    net, x = network(kind), images()
    found = LRPZero(batch_norm=batch_norm)(net, x, target(net), seeds=SEEDS)  # type: ignore[arg-type]
    assert relative(found, InputGradient()(net, x, target(net), seeds=SEEDS)) < 1e-7


@pytest.mark.parametrize("kind", NETWORKS)
def test_deeplift_is_complete_for_any_reference(kind: str) -> None:
    net, x = network(kind), images()
    for value in (0.0, 0.3):
        change = score(net, x, target(net)) - score(net, torch.full_like(x, value), target(net))
        relevance = DeepLiftRescale(reference=value)(net, x, target(net), seeds=SEEDS)
        assert relative(relevance.sum((1, 2, 3)), change) < 1e-5


@pytest.mark.parametrize("pool", [nn.AvgPool2d, nn.MaxPool2d])
@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_deeplift_agrees_with_captum_where_captum_is_complete(pool: type[nn.Module]) -> None:
    """With biases before max-pools, captum's contributions miss the change of the logit."""
    net, x = out_of_place(network("vgg")), images()
    net[4], net[7] = pool(2), pool(2)
    if pool is nn.MaxPool2d:
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
    found = DeepLiftRescale()(net, x, target(net), seeds=SEEDS)
    expected = captum.attr.DeepLift(net, eps=1e-7).attribute(x.clone().requires_grad_(), target=target(net))
    change = score(net, x, target(net)) - score(net, torch.zeros_like(x), target(net))
    assert relative(expected.sum((1, 2, 3)), change) < 1e-9
    assert relative(found, expected) < 1e-5


@pytest.mark.parametrize("kind", ["vgg", "fire"])
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
def test_deconvnet_agrees_with_captum_where_no_relu_is_reused(kind: str) -> None:
    net, x = network(kind), images()
    found = DeconvNet()(net, x, target(net), seeds=SEEDS)
    expected = captum.attr.Deconvolution(out_of_place(net)).attribute(x.clone().requires_grad_(), target=target(net))
    assert relative(found, expected) < 1e-9


def test_grad_cam_agrees_with_captum_on_the_last_feature_maps() -> None:
    net, x, classes = network("bottleneck"), torch.randn(2, 3, 64, 64, dtype=torch.float64), torch.tensor([0, 3])
    found = GradCam()(net, x, classes, seeds=SEEDS[:2]).sum(1, keepdim=True)
    maps = captum.attr.LayerGradCam(net, net.layer4).attribute(x.clone(), target=classes, relu_attributions=True)
    expected = nn.functional.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=False)
    assert maps.shape == GradCam().activation(trace(net, x), trace(net, x).values(x), classes).shape == (2, 1, 2, 2)
    assert relative(found, expected) < 1e-9


def test_guided_grad_cam_is_the_product_of_its_two_parts() -> None:
    net, x = network("functional"), images()
    cam = GradCam()(net, x, target(net), seeds=SEEDS).sum(1, keepdim=True)
    expected = cam * GuidedBackprop()(net, x, target(net), seeds=SEEDS)
    assert relative(GuidedGradCam()(net, x, target(net), seeds=SEEDS), expected) < 1e-12


def test_smooth_grad_without_noise_is_the_gradient_and_with_noise_draws_from_each_images_seed() -> None:
    net, x = network("vgg"), images()
    gradient = Gradient()(net, x, target(net), seeds=SEEDS)
    still = SmoothGrad(samples=2, noise=0)(net, x, target(net), seeds=SEEDS)
    squared = SmoothGradSquared(samples=2, noise=0)(net, x, target(net), seeds=SEEDS)
    assert relative(still, gradient) < 1e-12
    assert relative(squared, gradient**2) < 1e-12
    one, other = (SmoothGrad(samples=2)(net, x, target(net), seeds=SEEDS + shift) for shift in (0, 1))
    assert relative(one, gradient) > 1e-3
    assert relative(one, other) > 1e-3


def test_composites_give_each_kind_of_layer_its_rule() -> None:
    graph = trace(network("vgg"), images())
    rules = LRPEpsilonPlusFlat(epsilon=0.1).composite().rules(graph, "")
    found = [rules[n] for n, layer in enumerate(graph.layers) if isinstance(layer, Weighted)]
    assert found == [Flat(), *[AlphaBeta(1, 0)] * 2, *[Epsilon(0.1)] * 3]
    rules = LRPEpsilonGammaBox(epsilon=0.1, gamma=0.5, low=-2, high=3).composite().rules(graph, "")
    found = [rules[n] for n, layer in enumerate(graph.layers) if isinstance(layer, Weighted)]
    assert found == [ZBeta(-2, 3), *[Gamma(0.5)] * 2, *[Epsilon(0.1)] * 3]


def test_deep_taylor_is_nowhere_negative_and_zero_for_a_negative_logit() -> None:
    net, x = network("vgg"), images()
    for classes in (net(x).argmax(1), net(x).argmin(1)):
        relevance, logit = DeepTaylor()(net, x, classes, seeds=SEEDS), score(net, x, classes)
        assert (relevance >= 0).all()
        assert torch.allclose(relevance.sum((1, 2, 3)), logit.clamp(min=0), rtol=1e-6)


def test_edges_are_where_brightness_changes() -> None:
    x = torch.zeros(1, 3, 6, 6)
    x[..., 3:] = 1
    (found,) = Edge()(nn.Identity(), x, torch.zeros(1), seeds=torch.zeros(1)).sum(1)
    assert (found[:, [0, 1, 4, 5]] == 0).all()
    assert torch.allclose(found[:, 2:4], torch.full((6, 2), 4.0))


def test_negative_relevance_of_the_two_routings_differs_only_in_convolutions() -> None:
    net, dense = network("vgg"), nn.Sequential(nn.Flatten(), nn.Linear(3072, 9), nn.ReLU(), nn.Linear(9, 4)).double()

    def both(model: nn.Module) -> tuple[Tensor, Tensor]:
        official = RAP(routing="official")(model, images(), torch.tensor([0, 1, 2]), seeds=SEEDS)
        return official, RAP(routing="paper")(model, images(), torch.tensor([0, 1, 2]), seeds=SEEDS)

    assert relative(*both(net)) > 1e-3
    assert torch.equal(*both(dense))


def test_in_a_network_of_one_layer_the_first_step_goes_before_the_pixel_rule() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3).double())
    x = torch.randn(1, 3, 2, 2, dtype=torch.float64)
    shares = x.flatten() * net[1].weight[1].detach()
    expected = shares.abs() * score(net, x, torch.tensor([1])) / shares.abs().sum()
    found = RAP()(net, x, torch.tensor([1]), seeds=SEEDS)
    assert relative(found.flatten(), expected) < 1e-12


def test_integrated_gradients_are_complete() -> None:
    net, x = network("vgg"), images()
    change = score(net, x, target(net)) - score(net, torch.zeros_like(x), target(net))
    relevance = IntegratedGradients(steps=256)(net, x, target(net), seeds=SEEDS)
    assert relative(relevance.sum((1, 2, 3)), change) < 0.01


def test_the_path_of_the_old_library_starts_at_the_image_and_is_not_complete() -> None:
    net, x = network("vgg"), images()
    found = IntegratedGradients(steps=2, points="left", path="inn108", reference=0.1)(net, x, target(net), seeds=SEEDS)
    change = x - 0.1
    ends = [x, x + change / 2]
    gradients = [InputGradient()(net, end, target(net), seeds=SEEDS) / end for end in ends]
    assert relative(found, change * (gradients[0] + gradients[1]) / 2) < 1e-9
    whole = IntegratedGradients(steps=256, path="inn108")(net, x, target(net), seeds=SEEDS)
    change_of_logit = score(net, x, target(net)) - score(net, torch.zeros_like(x), target(net))
    assert relative(whole.sum((1, 2, 3)), change_of_logit) > 0.01


def test_integrated_gradients_from_another_reference_agree_with_captum() -> None:
    net, x = network("vgg"), images()
    theirs = captum.attr.IntegratedGradients(net)
    for points, method in (("midpoint", "riemann_middle"), ("left", "riemann_left")):
        ours = IntegratedGradients(steps=5, points=points, reference=-0.5)  # type: ignore[arg-type]
        expected = theirs.attribute(x.clone(), baselines=-0.5, target=target(net), n_steps=5, method=method)
        assert relative(ours(net, x, target(net), seeds=SEEDS), expected) < 1e-6  # its path is in float32


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_gradient_family_agrees_with_captum(kind: str) -> None:
    net, x, classes = network(kind), images(), target(network(kind))
    expected = captum.attr.Saliency(net).attribute(x.clone().requires_grad_(), target=classes)
    assert relative(Gradient()(net, x, classes, seeds=SEEDS), expected) < 1e-9
    expected = captum.attr.InputXGradient(net).attribute(x.clone().requires_grad_(), target=classes)
    assert relative(InputGradient()(net, x, classes, seeds=SEEDS), expected) < 1e-9
    expected = captum.attr.IntegratedGradients(net).attribute(
        x.clone(), target=classes, n_steps=8, method="riemann_middle"
    )
    assert relative(IntegratedGradients(steps=8)(net, x, classes, seeds=SEEDS), expected) < 1e-9


def out_of_place(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return net


@pytest.mark.parametrize("kind", ["vgg", "fire"])
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
def test_guided_backprop_agrees_with_captum_where_no_relu_is_reused(kind: str) -> None:
    net, x = network(kind), images()
    classes = target(net)
    found = GuidedBackprop()(net, x, classes, seeds=SEEDS)
    expected = captum.attr.GuidedBackprop(out_of_place(net)).attribute(x.clone().requires_grad_(), target=classes)
    assert relative(found, expected) < 1e-9


@pytest.mark.parametrize(("method", "alpha", "beta"), [(LRPAlpha1Beta0(), 1, 0), (LRPAlpha2Beta1(), 2, 1)])
def test_alpha_beta_agrees_with_zennit_without_biases(method: LRPAlpha1Beta0, alpha: int, beta: int) -> None:
    net, x = out_of_place(network("vgg")), images()
    for layer in trace(net, x).layers:
        if isinstance(layer, Weighted) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    classes = target(net)
    rule = zennit.rules.AlphaBeta(alpha, beta, stabilizer=1e-30)
    table = [
        (zennit.types.Activation, zennit.rules.Pass()),
        (zennit.types.AvgPool, zennit.rules.Norm(stabilizer=1e-30)),
    ]
    composite = zennit.composites.LayerMapComposite([*table, (zennit.types.Linear, rule)])
    start = torch.zeros(3, 5, dtype=x.dtype).scatter(1, classes.unsqueeze(1), score(net, x, classes).unsqueeze(1))
    with composite.context(net) as modified:
        inputs = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(modified(inputs), inputs, start)
    assert relative(method(net, x, classes, seeds=SEEDS), expected) < 1e-9


def test_the_composite_of_rap_covers_what_relevance_passes_and_nothing_else() -> None:
    graph = trace(network("functional"), images())
    rules = RAP().composite().rules(graph, "rap")
    assert sorted(rules) == graph.carrying()
    assert propagate(graph, rules, images(), torch.zeros(3, dtype=torch.int64)).shape == (3, 3, 32, 32)


def test_random_depends_on_each_images_seed_alone() -> None:
    net, x = network("vgg"), images()
    one = Random()(net, x, target(net), seeds=torch.tensor([5, 6, 7]))
    other = Random()(net, x, target(net), seeds=torch.tensor([7, 5, 5]))
    assert torch.equal(one[0], other[1])
    assert torch.equal(other[1], other[2])
    assert not torch.equal(one[0], one[1])
    assert abs(float(one.mean())) < 0.05


def test_center_is_positive_on_the_central_half_of_the_image() -> None:
    x = torch.zeros(1, 3, 200, 100)
    (found,) = Center()(nn.Identity(), x, torch.tensor([0]), seeds=torch.tensor([0]))
    assert abs(float((found > 0).float().mean()) - 0.5) < 0.02
    assert int(found[0].argmax()) in {99 * 100 + 49, 99 * 100 + 50, 100 * 100 + 49, 100 * 100 + 50}
    assert found[0, 0, 0] < 0


def test_all_background_and_all_foreground_are_constant() -> None:
    x = torch.zeros(2, 3, 4, 4)
    assert (AllBackground()(nn.Identity(), x, torch.zeros(2), seeds=torch.zeros(2)) == 0).all()
    assert (AllForeground()(nn.Identity(), x, torch.zeros(2), seeds=torch.zeros(2)) == 1).all()

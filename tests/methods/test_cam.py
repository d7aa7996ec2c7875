"""Which feature maps Grad-CAM takes, against maps computed by hand with hooks."""

from __future__ import annotations

from collections.abc import Callable

import captum.attr
import pytest
import torch
from networks import images, network, relative
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import convnext_tiny, densenet121, mobilenet_v2, squeezenet1_1, swin_t

from rapbench.core.errors import BadConfig, UnsupportedLayer
from rapbench.methods.cam import GradCam, GradCamPlusPlus, GuidedGradCam, LayerCam
from rapbench.methods.guided import DeconvNet, GuidedBackprop
from rapbench.relprop.layers import Convolution
from rapbench.relprop.tracing.trace import trace

CLASSES = torch.tensor([1, 1])
LAST: Callable[[Tensor], Tensor] = lambda v: v.permute(0, 3, 1, 2)  # noqa: E731 - an axis order


Weights = Callable[[Tensor, Tensor], Tensor]


def mean_gradient(maps: Tensor, gradient: Tensor) -> Tensor:
    return gradient.mean((2, 3), keepdim=True)


def by_hand(
    model: nn.Module,
    layer: nn.Module,
    x: Tensor,
    ordered: Callable[[Tensor], Tensor] = lambda v: v,
    weights: Weights = mean_gradient,
) -> Tensor:
    kept: dict[str, Tensor] = {}

    def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        kept["maps"] = output
        return output.clone()  # what comes next may write into it

    handle = layer.register_forward_hook(keep)
    score = model(x)[:, 1].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept["maps"])
    maps, gradient = ordered(kept["maps"]), ordered(gradient)
    cam = (weights(maps, gradient) * maps).sum(1, keepdim=True).relu()
    enlarged = functional.interpolate(cam, x.shape[2:], mode="bilinear", align_corners=False)
    return (enlarged / 3).expand_as(x).detach()


def lively(build: Callable[..., nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build(weights=None, num_classes=10).double().eval()
        for parameter in net.parameters():
            if parameter.dim() == 3:
                nn.init.constant_(parameter, 0.3)  # ConvNeXt's layer scale
    return net


def explained(model: nn.Module, x: Tensor, layer: str = "") -> Tensor:
    return GradCam(layer=layer)(model, x, CLASSES, seeds=CLASSES)


def photographs() -> Tensor:
    return functional.interpolate(images(2), (64, 64))


@pytest.mark.parametrize(
    ("build", "layer", "ordered"),
    [(convnext_tiny, "features", None), (swin_t, "norm", LAST), (mobilenet_v2, "features", None)],
    ids=["convnext", "swin", "mobilenet"],
)
def test_the_last_maps_are_found_whatever_the_order_of_their_axes(
    build: Callable[..., nn.Module], layer: str, ordered: Callable[[Tensor], Tensor] | None
) -> None:
    net = lively(build)
    expected = by_hand(net, net.get_submodule(layer), photographs(), *([ordered] if ordered else []))
    assert expected.any()
    assert relative(explained(net, photographs()), expected) < 1e-9


@pytest.mark.parametrize(
    ("build", "default", "chosen"),
    [
        (squeezenet1_1, "classifier.2", "features.12.expand3x3_activation"),
        (densenet121, "relu", "features.norm5"),
    ],
    ids=["squeezenet", "densenet"],
)
def test_the_rectified_maps_are_the_default_and_others_can_be_named(
    build: Callable[..., nn.Module], default: str, chosen: str
) -> None:
    net = lively(build)
    assert torch.equal(explained(net, photographs()), explained(net, photographs(), default))
    other = explained(net, photographs(), chosen)
    assert relative(other, by_hand(net, net.get_submodule(chosen), photographs())) < 1e-9


class Branches(nn.Module):
    """Two heads that pool maps of their own, then are added: the last maps of the network are those before them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 3)
        self.activation, self.last = nn.ReLU(), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.stem(x))
        return self.last(torch.relu(self.a(x)).mean((2, 3)) + torch.relu(self.b(x)).amax((2, 3)))


class Mixed(nn.Module):
    """A patch embedding whose tokens are mixed before they are averaged; no residual connection keeps their places."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.mix, self.last = nn.Conv2d(3, 6, 4, 4), nn.Linear(64, 64), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.mix(self.patches(x).flatten(2))).mean(2))


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build().double().eval()


def test_maps_that_some_path_to_the_logits_goes_round_are_not_the_last_ones() -> None:
    net = seeded(Branches)
    expected = by_hand(net, net.get_submodule("activation"), images(2))
    assert relative(explained(net, images(2)), expected) < 1e-9


def test_maps_of_one_position_are_passed_over() -> None:
    net = network("bottleneck")
    assert relative(explained(net, images(2)), by_hand(net, net.get_submodule("layer3"), images(2))) < 1e-9


def test_values_whose_positions_are_lost_are_refused() -> None:
    with pytest.raises(UnsupportedLayer, match=r"feature maps .* relu .* \(2, 6, 64\)"):
        explained(seeded(Mixed), images(2))


def test_layer_cam_weights_every_position_of_every_map_by_its_positive_gradient() -> None:
    net, x = network("bottleneck"), images(2)
    expected = by_hand(net, net.get_submodule("layer3"), x, weights=lambda _, gradient: gradient.clamp(min=0))
    assert expected.any()
    assert relative(LayerCam()(net, x, CLASSES, seeds=CLASSES), expected) < 1e-9


def test_layer_cam_of_rectified_maps_is_the_positive_part_of_captums_gradient_times_activation() -> None:
    net, x = network("vgg"), images(2)
    products = captum.attr.LayerGradientXActivation(net, net[6]).attribute(x, target=CLASSES).detach()
    expected = functional.interpolate(products.clamp(min=0).sum(1, keepdim=True), x.shape[2:], mode="bilinear")
    assert relative(LayerCam(layer="6")(net, x, CLASSES, seeds=CLASSES), (expected / 3).expand_as(x)) < 1e-9


def test_grad_cam_plus_plus_is_its_equations() -> None:
    def weights(maps: Tensor, gradient: Tensor) -> Tensor:
        total = torch.zeros_like(gradient)
        for n, k, i, j in torch.cartesian_prod(*(torch.arange(size) for size in maps.shape)).tolist():
            g = gradient[n, k, i, j]
            alpha = g**2 / (2 * g**2 + sum(a * g**3 for a in maps[n, k].flatten())) if g else 0
            total[n, k] += alpha * g.clamp(min=0)
        return total

    net, x = network("vgg"), images(2)
    found = GradCamPlusPlus(layer="8")(net, x, CLASSES, seeds=CLASSES)
    assert found.any()
    assert relative(found, by_hand(net, net.get_submodule("8"), x, weights=weights)) < 1e-9


def test_a_layer_that_is_not_there_or_holds_no_maps_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"no layer 'layer4.0.bn9': .*bn"):
        explained(network("bottleneck"), images(2), "layer4.0.bn9")
    with pytest.raises(UnsupportedLayer, match=r"fc.* \(2, 5\)"):
        explained(network("bottleneck"), images(2), "fc")


def test_guided_grad_cam_takes_the_named_maps() -> None:
    net, x = network("vgg"), images(2)
    guided = GuidedBackprop()(net, x, CLASSES, seeds=CLASSES)
    expected = 3 * explained(net, x, "1") * guided
    assert relative(GuidedGradCam(layer="1")(net, x, CLASSES, seeds=CLASSES), expected) < 1e-12


def test_guided_grad_cam_runs_convolutions_once_forwards() -> None:
    runs: list[int] = []

    def counted(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda x: runs.append(len(x)) or function(x)  # type: ignore[func-returns-value]

    graph = trace(network("vgg"), images(2)).replacing(Convolution, counted)
    for _ in range(2):  # the first call also looks for layers that do nothing
        runs.clear()
        GuidedGradCam()(graph, images(2), CLASSES, seeds=CLASSES)
    assert runs == [2, 2, 2]


@pytest.mark.parametrize("activation", [nn.SiLU, nn.GELU, nn.Tanh, nn.LeakyReLU])
def test_guided_methods_refuse_a_network_without_relus(activation: type[nn.Module]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), activation(), nn.Flatten(), nn.Linear(3600, 5)).double().eval()
    for method in (GuidedBackprop(), DeconvNet(), GuidedGradCam()):
        with pytest.raises(UnsupportedLayer, match="no ReLU"):
            method(net, images(2), CLASSES, seeds=CLASSES)

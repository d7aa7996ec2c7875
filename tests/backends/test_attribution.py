"""`rapbench.attribute`: one call, every argument checked."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import images, network, relative
from torch import Tensor, nn

import rapbench
from rapbench.core.errors import BadConfig, RapbenchError, UnknownName
from rapbench.methods.integrated import IntegratedGradients
from rapbench.methods.rap import RAP


def test_the_predicted_class_is_explained_unless_another_is_named() -> None:
    net, x = network("vgg"), images()
    predicted = net(x).argmax(1)
    default = rapbench.attribute(net, x)
    assert torch.equal(default, RAP()(net, x, predicted, seeds=torch.zeros(3)))
    assert torch.equal(rapbench.attribute(net, x, predicted), default)
    assert torch.equal(rapbench.attribute(net, x, 2), RAP()(net, x, torch.tensor([2, 2, 2]), seeds=torch.zeros(3)))


def test_parameters_reach_the_method() -> None:
    net, x, target = network("vgg"), images(), torch.tensor([0, 1, 2])
    expected = IntegratedGradients(steps=3)(net, x, target, seeds=torch.zeros(3))
    assert torch.equal(rapbench.attribute(net, x, target, "integrated_gradients", steps=3), expected)
    assert torch.equal(rapbench.attribute(net, x, target, "integrated_gradients(steps=3)"), expected)


def test_a_model_in_training_mode_is_explained_in_evaluation_mode_and_left_training() -> None:
    net, x = network("bottleneck"), images()
    expected = rapbench.attribute(net, x)
    net.train()
    net.layer1.eval()
    before = copy.deepcopy(net.state_dict())
    assert torch.equal(rapbench.attribute(net, x), expected)
    assert net.training
    assert not net.layer1.training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_one_channel_images_are_explained() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).double()
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    for method in ("rap", "lrp_a1b0", "guided_backprop"):
        assert rapbench.attribute(net, x, method=method).shape == x.shape


def test_seeds_decide_what_is_drawn() -> None:
    net, x = network("vgg"), images()
    one, same, other = (rapbench.attribute(net, x, method="random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


class TwoOutputs(nn.Module):
    """Not a classifier."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(3, 8, 8)}, r"shape \(N, C, H, W\)"),
        ({"x": torch.zeros(1, 3, 8, 8, dtype=torch.int64)}, "floating point"),
        ({"x": torch.full((1, 3, 32, 32), torch.nan)}, "not finite"),
        ({"target": 5}, "from 0 to 4"),
        ({"target": -1}, "from 0 to 4"),
        ({"target": torch.tensor([0, 1])}, "one for each of the 3 images"),
        ({"target": torch.tensor(0.5)}, "class index"),
        ({"model": TwoOutputs()}, r"logits of shape \(N, K\)"),
        ({"method": "rap(routing=sideways)"}, "routing=sideways"),
        ({"steps": 3}, "no parameter 'steps'"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments: dict[str, object], message: str) -> None:
    given = {"model": network("vgg"), "x": images(), **arguments}
    with pytest.raises(BadConfig, match=message):
        rapbench.attribute(**given)  # type: ignore[arg-type]


def test_unknown_methods_and_backends_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean guided_backprop"):
        rapbench.attribute(network("vgg"), images(), method="guided_backprob")
    with pytest.raises(RapbenchError, match="did you mean native"):
        rapbench.attribute(network("vgg"), images(), backend="natve")


CONTEXTS = {
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("method", ["rap", "deeplift_rescale", "guided_backprop", "gradient", "grad_cam"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_where_it_is_called_from_does_not_matter(context: str, method: str) -> None:
    expected = rapbench.attribute(network("functional"), images(2), target=1, method=method)
    net = network("functional")
    with CONTEXTS[context]():
        found = rapbench.attribute(net, images(2), target=1, method=method)
    assert torch.equal(found, expected)
    assert not found.is_inference()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_types_of_few_digits_are_explained_in_more(dtype: torch.dtype) -> None:
    net, x = network("vgg").to(dtype), images(2).to(dtype)
    for method in ("rap", "lrp_epsilon", "lrp_flat", "deeplift_rescale", "guided_backprop", "grad_cam", "gradient"):
        found = rapbench.attribute(net, x, target=1, method=method)
        expected = rapbench.attribute(copy.deepcopy(net).double(), x.double(), target=1, method=method)
        assert found.dtype == dtype
        assert relative(found.double(), expected) < 0.05, method


WRAPPED = {
    "several devices": nn.DataParallel,
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "both": lambda net: nn.DataParallel(torch.compile(net, backend="eager")),
    "exported": lambda net: torch.export.export(net, (images(2),)).module(),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_networks_are_explained_like_what_is_inside(kind: str) -> None:
    net, x = network("functional"), images(2)
    for method in ("rap", "input_gradient"):
        expected = rapbench.attribute(net, x, target=1, method=method)
        found = rapbench.attribute(WRAPPED[kind](network("functional")), x, target=1, method=method)
        assert relative(found, expected) < 1e-9


def test_what_is_no_network_or_no_image_is_refused_in_one_line() -> None:
    net, x = network("vgg"), images()
    wrong: list[dict[str, object]] = [
        {"x": x.float()},
        {"x": x[:, :1]},
        {"x": x.numpy()},
        {"x": list(x)},
        {"target": "3"},
        {"target": True},
        {"target": torch.tensor([True, False, True])},
        {"model": lambda images: images.flatten(1)},
        {"model": copy.deepcopy(net).to("meta")},
    ]
    for arguments in wrong:
        with pytest.raises(BadConfig) as caught:
            rapbench.attribute(**{"model": net, "x": x, **arguments})  # type: ignore[arg-type]
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("method", ["rap", "lrp_epsilon", "deeplift_rescale", "grad_cam", "gradient"])
def test_no_images_have_no_relevance(method: str) -> None:
    assert rapbench.attribute(network("vgg"), images()[:0], method=method).shape == (0, 3, 32, 32)


def test_a_network_built_inside_inference_mode_is_refused_in_one_line() -> None:
    with torch.inference_mode():
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 5)).double()
    with pytest.raises(BadConfig, match="built inside inference_mode"):
        rapbench.attribute(net, images(2))

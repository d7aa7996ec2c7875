"""`rapbench.attribute`: one call, every argument checked."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import images, network
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

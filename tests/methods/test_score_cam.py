"""Score-CAM against a loop over maps."""

from __future__ import annotations

import pytest
import torch
from networks import images, network, relative
from torch import Tensor, nn
from torch.nn import functional

from rapbench.methods import score_cam
from rapbench.methods.score_cam import ScoreCam

CLASSES = torch.tensor([1, 4])


@torch.no_grad()
def by_hand(net: nn.Sequential, last: int, x: Tensor, target: Tensor, *, over_classes: bool = False) -> Tensor:
    """One image and one map after the other; `last` is the module that gives the maps."""
    result = []
    for image, c in zip(x, target.tolist(), strict=True):
        maps = net[: last + 1](image.unsqueeze(0))[0]
        scores = []
        for map_ in maps:
            large = functional.interpolate(map_[None, None], x.shape[2:], mode="bilinear", align_corners=False)
            span = large.max() - large.min()
            mask = (large - large.min()) / span if span > 0 else torch.zeros_like(large)
            logits = net(image * mask)[0]
            scores.append(logits.softmax(0)[c] if over_classes else logits[c])
        weights = torch.stack(scores) if over_classes else torch.stack(scores).softmax(0)
        cam = sum(weight * map_ for weight, map_ in zip(weights, maps, strict=True))
        result.append(functional.interpolate(cam.clamp(min=0)[None, None], x.shape[2:], mode="bilinear")[0])
    return (torch.stack(result) / 3).expand_as(x)


@pytest.mark.parametrize("last", [5, 6], ids=["signed", "rectified"])
@pytest.mark.parametrize("softmax", ["maps", "classes"])
def test_weights_are_what_the_network_says_of_the_masked_inputs(softmax: str, last: int) -> None:
    net, x = network("vgg"), images(2)
    expected = by_hand(net, last, x, CLASSES, over_classes=softmax == "classes")
    assert expected.any()
    assert relative(ScoreCam(layer=str(last), softmax=softmax)(net, x, CLASSES, seeds=CLASSES), expected) < 1e-9


def test_how_many_masks_share_a_forward_pass_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = network("vgg"), images(2)
    expected = ScoreCam()(net, x, CLASSES, seeds=CLASSES)
    monkeypatch.setattr(score_cam, "_AT_ONCE", 3)
    assert relative(ScoreCam()(net, x, CLASSES, seeds=CLASSES), expected) < 1e-12


def test_a_map_that_is_the_same_everywhere_hides_the_whole_input() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 5)).double()
    with torch.no_grad():
        net[0].weight[0], net[0].bias[0] = 0, 1.0
    found = ScoreCam()(net, images(2), CLASSES, seeds=CLASSES)
    assert relative(found, by_hand(net, 1, images(2), CLASSES)) < 1e-9


def test_where_one_map_alone_raises_the_logit_it_is_the_map() -> None:
    """Two maps, of the left and of the right half; the target's logit is the sum of the left one."""
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 1024, 2, bias=False))
    net.double()
    x = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    x[:, 0, :, :16], x[:, 1, :, 16:] = 1, 1
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2, 3).view(2, 3, 1, 1))
        net[3].weight.zero_()[0, :1024] = 1
    found = ScoreCam()(net, x, torch.tensor([0]), seeds=torch.tensor([0])).sum(1)
    assert torch.allclose(found, x[:, 0], atol=1e-9)

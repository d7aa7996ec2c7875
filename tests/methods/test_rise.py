"""RISE against a loop over masks, and what its masks have on average."""

from __future__ import annotations

import math

import pytest
import torch
from networks import images, network, relative
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig
from rapbench.methods import METHODS, rise
from rapbench.methods.rise import Rise

CLASSES = torch.tensor([1, 4])
SEEDS = torch.tensor([7, 8])


def masks(seed: int, count: int, cells: int, keep: float, height: int, width: int) -> Tensor:
    """What an image's seed gives, (count, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    grids = torch.rand(count, 1, cells, cells, generator=generator) < keep
    size = [math.ceil(side / cells) for side in (height, width)]
    rows, columns = (torch.randint(side, (count,), generator=generator).tolist() for side in size)
    result = []
    for grid, row, column in zip(grids.double(), rows, columns, strict=True):
        large = functional.interpolate(grid.unsqueeze(0), [(cells + 1) * side for side in size], mode="bilinear")
        result.append(large[0, 0, row : row + height, column : column + width])
    return torch.stack(result)


@torch.no_grad()
def test_the_map_is_the_mean_of_masks_by_the_probability_under_each() -> None:
    net, x = network("vgg"), images(2)[..., :24]
    net = nn.Sequential(net, nn.Linear(5, 5).double())
    expected = torch.zeros(2, 32, 24, dtype=torch.float64)
    for n in range(2):
        for mask in masks(int(SEEDS[n]), 40, 5, 0.3, 32, 24):
            expected[n] += net(x[n : n + 1] * mask).softmax(1)[0, CLASSES[n]] * mask / (40 * 0.3)
    found = Rise(masks=40, cells=5, keep=0.3)(net, x, CLASSES, seeds=SEEDS)
    assert relative(found, (expected / 3).unsqueeze(1).expand_as(x)) < 1e-9


def test_how_many_masks_share_a_forward_pass_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, method = network("vgg"), images(2), Rise(masks=20)
    expected = method(net, x, CLASSES, seeds=SEEDS)
    monkeypatch.setattr(rise, "_AT_ONCE", 3)
    assert relative(method(net, x, CLASSES, seeds=SEEDS), expected) < 1e-12


def test_an_image_has_the_masks_of_its_own_seed_and_the_global_generator_is_left_alone() -> None:
    net, x, method = network("vgg"), images(2), Rise(masks=20)
    before = torch.get_rng_state()
    both = method(net, x, CLASSES, seeds=SEEDS)
    assert torch.equal(method(net, x[1:], CLASSES[1:], seeds=SEEDS[1:]), both[1:])
    assert not torch.equal(method(net, x[1:], CLASSES[1:], seeds=SEEDS[:1]), both[1:])
    assert torch.equal(torch.get_rng_state(), before)


class Certain(nn.Module):
    """Says nothing of the images, or gives the first class the brightness of the image's first quarter."""

    def __init__(self, *, looks: bool) -> None:
        super().__init__()
        self.looks = looks

    def forward(self, x: Tensor) -> Tensor:
        share = x[:, :, :8, :8].mean((1, 2, 3)) if self.looks else x.new_full((len(x),), 0.25)
        return torch.stack([share, 1 - share], 1).log()


def test_where_every_mask_scores_alike_the_map_is_that_score_everywhere_on_average() -> None:
    x = torch.ones(1, 3, 32, 32, dtype=torch.float64)
    found = Rise(masks=3000, cells=4)(Certain(looks=False), x, CLASSES[:1] * 0, seeds=SEEDS[:1]).sum(1)
    assert float((found - 0.25).abs().max()) < 0.25 * 5 / math.sqrt(3000)


def test_the_map_of_a_linear_probability_is_its_covariance_with_the_masks() -> None:
    """1/p E[p_c(x M) M] = mean of E[M_i M_j] / p over the pixels i that count: by the variance, highest among them."""
    x = torch.full((1, 3, 32, 32), 0.9, dtype=torch.float64)
    found = Rise(masks=3000, cells=4)(Certain(looks=True), x, CLASSES[:1] * 0, seeds=SEEDS[:1]).sum(1)[0]
    drawn = masks(99, 3000, 4, 0.5, 32, 32)
    expected = torch.einsum("n,nhw->hw", 0.9 * drawn[:, :8, :8].mean((1, 2)), drawn) / (3000 * 0.5)
    assert float((found - expected).abs().max()) < 0.06
    assert found[:8, :8].mean() > 1.2 * found[20:, 20:].mean()


@pytest.mark.parametrize("wrong", [{"keep": "0"}, {"keep": "1.5"}, {"masks": "0"}, {"cells": "0"}])
def test_parameters_that_give_no_masks_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(BadConfig, match=next(iter(wrong))):
        METHODS.build(Call("rise", wrong))

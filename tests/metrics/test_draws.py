"""What metrics draw for an image is its seed's, and is not what others draw from the same seed."""

from __future__ import annotations

import torch

from rapbench.methods.control import Random
from rapbench.metrics.draws import generators, noise


def test_noise_is_each_images_own_whatever_the_batch() -> None:
    like, seeds = torch.zeros(3, 2, 5, 5), torch.tensor([3, 4, 3])
    found = noise(like, seeds, "a metric")
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert torch.equal(noise(like[1:2], seeds[1:2], "a metric"), found[1:2])


def test_a_purpose_shares_no_numbers_with_another_nor_with_random_maps() -> None:
    x, seeds = torch.zeros(1, 3, 20, 20), torch.tensor([7])
    drawn = [noise(x, seeds, "one"), noise(x, seeds, "another")]
    drawn.append(Random()(torch.nn.Identity(), x, torch.tensor([0]), seeds=seeds))
    values = torch.stack(drawn).flatten(1)
    assert values.corrcoef().triu(1).abs().max() < 0.2


def test_no_images_are_no_noise_and_no_generators() -> None:
    assert noise(torch.zeros(0, 3, 4, 4), torch.zeros(0, dtype=torch.int64), "none").shape == (0, 3, 4, 4)
    assert generators(torch.zeros(0, dtype=torch.int64), "none") == []

"""Average precision over both classes: an independent implementation, and values worked out on paper."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from rapbench.core.types import VOID
from rapbench.metrics.average_precision import average_precision, scaled

GRID = torch.linspace(0, 1, 5).double()


def independent(soft, mask):
    """Average precision of the answers of both classes, as scikit-learn has it."""
    counted = mask != VOID
    right = np.concatenate([mask[counted] == 0, mask[counted] == 1])
    return average_precision_score(right, np.concatenate([1 - soft[counted], soft[counted]]))


def random_mask(share, void=0.0):
    mask = (torch.rand(24, 24) < share).to(torch.uint8)
    mask[torch.rand(24, 24) < void] = VOID
    return mask


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("void", [0.0, 0.3])
@pytest.mark.parametrize("values", ["distinct", "tied"])
def test_it_equals_an_independent_implementation(share, void, values):
    soft = torch.rand(3, 24, 24).double() if values == "distinct" else GRID[torch.randint(5, (3, 24, 24))]
    masks = torch.stack([random_mask(share, void) for _ in range(3)])
    expected = [independent(s, m) for s, m in zip(soft.numpy(), masks.numpy(), strict=True)]
    assert average_precision(soft, masks).tolist() == pytest.approx(expected, rel=1e-12)


def test_answers_that_score_alike_count_together_across_both_classes():
    soft, mask = torch.tensor([[[0.9, 0.1, 0.4]]]).double(), torch.tensor([[[1, 1, 0]]], dtype=torch.uint8)
    # right: 0.9, 0.1 (object), 0.6 (background); wrong: 0.1, 0.9, 0.4
    assert average_precision(soft, mask).item() == pytest.approx((1 / 2 + 2 / 3 + 3 / 6) / 3, rel=1e-12)


@pytest.mark.parametrize("background", [0.0, 0.25, 0.6, 1.0])
def test_all_background_scores_by_the_share_of_the_background(background):
    mask = torch.ones(1, 20, 20, dtype=torch.uint8)
    mask.view(-1)[: int(400 * background)] = 0
    found = average_precision(torch.zeros(1, 20, 20).double(), mask).item()
    assert found == pytest.approx(background**2 + (1 - background) / 2, rel=1e-12)


def test_one_half_everywhere_scores_one_half_and_the_mask_itself_one():
    mask = random_mask(0.3).unsqueeze(0)
    assert average_precision(torch.full((1, 24, 24), 0.5).double(), mask).item() == 0.5
    assert average_precision(mask.double(), mask).item() == 1


def test_values_count_and_not_their_order_alone():
    soft, mask = torch.rand(1, 24, 24).double(), random_mask(0.3).unsqueeze(0)
    assert average_precision(soft, mask).item() != pytest.approx(average_precision(soft**2, mask).item(), abs=1e-3)


def test_a_map_without_a_labelled_pixel_has_none():
    assert average_precision(torch.rand(1, 4, 4).double(), torch.full((1, 4, 4), VOID, dtype=torch.uint8)).isnan().all()


def test_scaling_takes_each_map_from_0_to_1_and_a_constant_one_to_0():
    maps = torch.stack([torch.full((24, 24), -3.0), torch.randn(24, 24), 1e-9 * torch.randn(24, 24)]).double()
    found = scaled(maps)
    assert found.amin((1, 2)).tolist() == [0, 0, 0]
    assert found.amax((1, 2)).tolist() == [0, 1, 1]
    assert torch.equal(found[1].view(-1).argsort(), maps[1].view(-1).argsort())

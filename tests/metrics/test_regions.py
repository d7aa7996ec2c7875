"""Regions: what boxes and masks draw."""

import torch

from rapbench.core.types import VOID
from rapbench.metrics.regions import REGIONS

MASK = torch.tensor([[0, 1, VOID], [1, 0, 0]], dtype=torch.uint8)


def test_inside_is_the_union_of_the_boxes_and_outside_all_else(explain):
    boxes = (torch.tensor([[0, 0, 2, 1], [1, 0, 3, 1]]), None, torch.empty(0, 4, dtype=torch.int64))
    inside, outside = REGIONS["boxes"](explain(torch.zeros(3, 2, 3), boxes=boxes))
    assert inside[0].tolist() == [[True, True, True], [False, False, False]]
    assert torch.equal(outside[0], ~inside[0])
    assert not (inside[1:] | outside[1:]).any()


def test_void_is_neither_inside_nor_outside_a_mask_nor_is_anything_without_one(explain):
    inside, outside = REGIONS["mask"](explain(torch.zeros(2, 2, 3), mask=(MASK, None)))
    assert torch.equal(inside[0], MASK == 1)
    assert torch.equal(outside[0], MASK == 0)
    assert not (inside[1] | outside[1]).any()


def test_a_region_that_one_box_fills_is_the_same_by_its_mask(explain):
    mask = torch.zeros(4, 5, dtype=torch.uint8)
    mask[1:3, 2:5] = 1
    explained = explain(torch.zeros(1, 4, 5), mask=(mask,), boxes=(torch.tensor([[2, 1, 5, 3]]),))
    by_boxes, by_mask = (REGIONS[kind](explained) for kind in ("boxes", "mask"))
    assert all(map(torch.equal, by_boxes, by_mask))
    assert {name: area.tolist() for name, area in by_mask.areas().items()} == {"area_inside": [6], "area_outside": [14]}

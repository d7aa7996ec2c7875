"""Energy localisation: a slow restatement, uniform and perfect maps, ties and what is undefined."""

import itertools

import numpy as np
import pytest
import torch

from rapbench.core.types import VOID
from rapbench.metrics.energy import Energy, top_inside
from rapbench.metrics.regions import Regions
from rapbench.report.statistics import estimate

BOX = torch.tensor([[0, 0, 2, 2]])
VARIANTS = tuple(Energy().variants(signed=True))


@pytest.fixture
def score(explain, rows_of):
    """The estimate of a variant for relevance (N, C, H, W) or maps (N, H, W) and boxes or masks."""

    def value(relevance, variant, *, boxes=None, mask=None, **stored):
        metric = Energy(region="boxes" if mask is None else "mask")
        given = {"boxes": boxes} if mask is None else {"mask": mask}
        rows = rows_of(metric(explain(relevance, **given)), **stored)
        return estimate(metric.variants(signed=True)[variant], rows, seed=0, resamples=10)

    return value


def slow_shares(relevance, mask):
    """Every variant for relevance (C, H, W) and a mask, by walks over the pixels; ties are of no account."""
    pixels = [(relevance[:, r, c], truth) for (r, c), truth in np.ndenumerate(mask) if truth != VOID]
    pooled = {
        "positive": lambda channels: max(channels.sum(), 0.0),
        "l2_squared": lambda channels: (channels**2).sum(),
        "max_abs": lambda channels: max(abs(channels)),
    }
    size = sum(truth == 1 for _, truth in pixels)
    found = {"share": 100 * size / len(pixels)}
    for name, pool in pooled.items():
        energy = sorted(((pool(channels), truth) for channels, truth in pixels), reverse=True)
        found["ebpg" if name == "positive" else f"rma@{name}"] = (
            100 * sum(e for e, truth in energy if truth == 1) / sum(e for e, _ in energy)
        )
        if name == "positive":
            found["rra"] = 100 * sum(truth == 1 for _, truth in energy[:size]) / size
    return found


def random_masks(n, share):
    masks = (torch.rand(n, 12, 12) < share).to(torch.uint8)
    masks[torch.rand(n, 12, 12) < 0.1] = VOID
    return masks


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_equals_a_walk_over_the_pixels(score, variant):
    relevance, masks = torch.randn(4, 3, 12, 12).double(), random_masks(4, 0.3)
    each = [slow_shares(r, m)[variant] for r, m in zip(relevance.numpy(), masks.numpy(), strict=True)]
    assert score(relevance, variant, mask=tuple(masks)).value == pytest.approx(np.mean(each), rel=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_uniform_map_scores_the_objects_share(score, variant):
    masks = tuple(random_masks(3, 0.3))
    shares = [100 * ((m == 1).sum() / (m != VOID).sum()).item() for m in masks]
    assert score(torch.full((3, 3, 12, 12), 0.2), variant, mask=masks).value == pytest.approx(np.mean(shares))
    assert score(torch.full((1, 10, 10), 7.0), variant, boxes=(torch.tensor([[0, 0, 5, 4]]),)).value == pytest.approx(
        20
    )


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "share"])
def test_relevance_on_the_object_alone_scores_100_and_off_it_alone_0(score, variant):
    masks = random_masks(2, 0.3)
    on = torch.where(masks == 1, 1.0, 0.0) * (1 + torch.rand(2, 12, 12))
    off = torch.where(masks == 1, 0.0, 1.0) * (1 + torch.rand(2, 12, 12))
    assert score(on, variant, mask=tuple(masks)).value == 100
    assert score(off, variant, mask=tuple(masks)).value == 0


def test_negative_relevance_is_left_out_of_ebpg_and_is_a_magnitude_in_the_other_poolings(score):
    maps = torch.tensor([[[3.0, -1.0, 2.0, 0.0], [0, 0, 0, -4.0], [0, 1, 0, 0], [0, 0, 0, 0]]])
    values = {name: score(maps, name, boxes=(BOX,)).value for name in ("ebpg", "rma@l2_squared", "rma@max_abs")}
    assert values == pytest.approx({"ebpg": 100 * 3 / 6, "rma@l2_squared": 100 * 10 / 31, "rma@max_abs": 100 * 4 / 11})


def test_channels_are_pooled_before_anything_is_summed(score):
    relevance = torch.zeros(1, 2, 4, 4)
    relevance[0, :, 0, 0] = torch.tensor([2.0, -2.0])
    relevance[0, :, 3, 3] = torch.tensor([1.0, 0.0])
    values = {name: score(relevance, name, boxes=(BOX,)).value for name in ("ebpg", "rma@l2_squared", "rma@max_abs")}
    assert values == pytest.approx({"ebpg": 0, "rma@l2_squared": 100 * 8 / 9, "rma@max_abs": 100 * 2 / 3})


def test_of_pixels_that_tie_for_the_last_places_the_mean_over_their_orders_counts():
    energy = torch.tensor([[5.0, 2.0, 2.0], [2.0, 2.0, 0.0]]).double()
    inside = torch.tensor([[True, True, False], [False, True, False]])
    tied = [(0, 1), (0, 2), (1, 0), (1, 1)]
    counts = [1 + sum(bool(inside[place]) for place in pair) for pair in itertools.combinations(tied, 2)]
    found = top_inside(energy.unsqueeze(0), Regions(inside.unsqueeze(0), ~inside.unsqueeze(0)))
    assert found.item() == pytest.approx(np.mean(counts), rel=1e-12)


def test_void_pixels_take_no_place_however_high(score):
    mask = torch.tensor([[1, 0], [VOID, 0]], dtype=torch.uint8)
    maps = torch.tensor([[[2.0, 1.0], [100.0, 0.0]]])
    values = {name: score(maps, name, mask=(mask,)).value for name in ("ebpg", "rra", "share")}
    assert values == pytest.approx({"ebpg": 200 / 3, "rra": 100, "share": 100 / 3})


ONE = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1.0], [0, 0, 0, 0]])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("pixels", "box", "reason"),
    [
        (ONE / 0, BOX, "non-finite relevance"),
        (ONE, None, "no boxes"),
        (ONE, torch.empty(0, 4, dtype=torch.int64), "no boxes"),
        (0 * ONE, BOX, {"ebpg": "no positive relevance", "rra": "no positive relevance"}),
    ],
)
def test_an_image_without_a_value_is_dropped_with_its_reason(score, pixels, box, reason, variant):
    result = score(torch.stack([pixels, ONE]), variant, boxes=(box, BOX))
    said = reason if isinstance(reason, str) else reason.get(variant, "zero map")
    if variant == "share" and not isinstance(reason, str):
        assert (result.n, result.dropped) == (2, {})
    else:
        assert result.dropped == {said: 1}


def test_only_negative_relevance_leaves_the_poolings_of_magnitudes_defined(score):
    assert score(-ONE.unsqueeze(0), "ebpg", boxes=(BOX,)).dropped == {"no positive relevance": 1}
    assert score(-ONE.unsqueeze(0), "rma@max_abs", boxes=(BOX,)).value == 50


def test_an_absent_and_an_empty_mask_are_told_apart(score):
    masks = (None, torch.zeros(4, 4, dtype=torch.uint8), torch.eye(4, dtype=torch.uint8))
    result = score(ONE.expand(3, 4, 4), "ebpg", mask=masks)
    assert (result.n, result.dropped) == (1, {"no mask": 1, "empty mask": 1})


def test_a_misclassified_image_is_dropped_and_an_unknown_label_is_not(score):
    result = score(ONE.expand(3, 4, 4), "ebpg", boxes=(BOX,) * 3, label=[4, 2, -1], target=4)
    assert (result.n, result.dropped) == (2, {"misclassified": 1})

"""Outside-inside ratio: hand cases, a slow restatement of Eq. 11, and its laws."""

import numpy as np
import pytest
import torch

from rapbench.metrics.outside_inside import OutsideInside
from rapbench.report.statistics import estimate

BOX = torch.tensor([[0, 0, 2, 2]])
HAND = torch.tensor([[[3, 1, 6, 0], [-2, 2, 0, 0], [0, 0, -3, 0], [0, 0, 0, 0]]]).double()


@pytest.fixture
def score(explain, rows_of):
    """The estimate of a variant for maps (N, H, W) and boxes; `label` and `target` as stored."""

    def value(maps, boxes, variant, **stored):
        metric = OutsideInside()
        rows = rows_of(metric(explain(maps, boxes=boxes)), **stored)
        return estimate(metric.variants(signed=True)[variant], rows, seed=0, resamples=10)

    return value


def slow_terms(pixels, boxes, sign):
    """Numerator and denominator of Eq. 11 by a walk over the pixels."""
    inside, outside = [], []
    for (row, col), value in np.ndenumerate(pixels):
        hit = any(c0 <= col < c1 and r0 <= row < r1 for c0, r0, c1, r1 in boxes)
        (inside if hit else outside).append(value)
    pos_in, pos_out = (np.mean([max(v, 0.0) for v in part]) for part in (inside, outside))
    neg_in, neg_out = (np.mean([min(v, 0.0) for v in part]) for part in (inside, outside))
    return {
        "all": (pos_out + abs(neg_in), pos_in + abs(neg_out)),
        "all_signed": (pos_out + neg_in, pos_in + neg_out),
        "pos": (pos_out, pos_in),
    }[sign]


@pytest.mark.parametrize(
    ("variant", "mu"),
    [
        ("all", (0.5 + 0.5) / (1.5 + 0.25)),
        ("all_signed", (0.5 - 0.5) / (1.5 - 0.25)),
        ("pos", 0.5 / 1.5),
        ("all_ratio_of_means", 4 / 7),
    ],
)
def test_a_4x4_map_with_a_2x2_box_gives_the_ratio_worked_by_hand(score, variant, mu):
    assert score(HAND, (BOX,), variant).value == pytest.approx(mu, rel=1e-12)


def test_columns_are_sums_of_magnitudes_and_areas(explain):
    columns = OutsideInside()(explain(HAND, boxes=(BOX,)))
    expected = {"positive_inside": 6, "positive_outside": 6, "negative_inside": 2, "negative_outside": 3}
    expected |= {"area_inside": 4, "area_outside": 12, "num_non_finite": 0}
    assert {name: column.item() for name, column in columns.items()} == expected


@pytest.mark.parametrize("sign", ["all", "all_signed", "pos"])
def test_every_aggregation_equals_a_walk_over_the_pixels(score, sign):
    maps = torch.randn(6, 24, 24).double()
    boxes = [torch.tensor([[2, 3, 11, 9], [8, 5, 20, 24]]), *(torch.tensor([[i, 1, 10 + i, 15]]) for i in range(5))]
    terms = [slow_terms(m, b.tolist(), sign) for m, b in zip(maps.numpy(), boxes, strict=True)]
    mus = [numerator / denominator for numerator, denominator in terms]
    scaled = [np.divide(t, np.abs(m).sum()) for t, m in zip(terms, maps.numpy(), strict=True)]
    numerator, denominator = np.mean(scaled, axis=0)
    for variant, expected in {
        sign: np.mean(mus),
        f"{sign}_median": np.median(mus),
        f"{sign}_ratio_of_means": numerator / denominator,
    }.items():
        assert score(maps, tuple(boxes), variant).value == pytest.approx(expected, rel=1e-12)


def test_an_image_without_boxes_has_neither_inside_nor_outside(explain):
    columns = OutsideInside()(explain(HAND.expand(2, 4, 4), boxes=(None, torch.empty(0, 4, dtype=torch.int64))))
    assert columns["area_inside"].tolist() == columns["area_outside"].tolist() == [0, 0]


def test_a_pixel_in_two_boxes_counts_once(explain):
    twice = (torch.tensor([[0, 0, 2, 2], [1, 1, 3, 3], [0, 0, 2, 2]]),)
    columns = OutsideInside()(explain(torch.ones(1, 4, 4), boxes=twice))
    assert (columns["area_inside"].item(), columns["positive_inside"].item()) == (7, 7)


@pytest.mark.parametrize("variant", OutsideInside().variants(signed=True))
def test_the_scale_of_a_map_changes_nothing(score, variant):
    maps, boxes = torch.randn(4, 24, 24).double(), (torch.tensor([[3, 3, 15, 12]]),) * 4
    scales = torch.tensor([1e-12, 0.3, 7.0, 1e12]).double().view(4, 1, 1)
    plain, scaled = (score(m, boxes, variant).value for m in (maps, maps * scales))
    assert scaled == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("variant", ["all", "all_signed"])
def test_swapping_the_sign_inverts_the_ratio_of_both_signs(score, variant):
    maps = torch.randn(1, 24, 24).double()
    boxes = (torch.tensor([[3, 3, 15, 12]]),)
    assert score(-maps, boxes, variant).value == pytest.approx(1 / score(maps, boxes, variant).value, rel=1e-12)


def test_balanced_signs_give_one_because_negative_relevance_is_a_magnitude(score):
    maps = torch.randn(20, 24, 24).double()
    assert score(maps, (torch.tensor([[3, 3, 15, 12]]),) * 20, "all").value == pytest.approx(1, abs=0.05)


def test_signs_that_balance_on_each_side_give_minus_one_where_negative_relevance_keeps_its_sign(score):
    maps = torch.ones(1, 4, 4).double()
    maps[:, :2, :2] = 3
    maps[:, :, 1::2] *= -1
    assert score(maps, (BOX,), "all").value == pytest.approx(1, rel=1e-12)
    for variant in ("all_signed", "all_signed_median", "all_signed_ratio_of_means"):
        assert score(maps, (BOX,), variant).value == pytest.approx(-1, rel=1e-12)


def test_a_perfect_map_scores_zero_and_its_negative_worse_than_noise(score):
    boxes = (torch.tensor([[3, 3, 15, 12]]),)
    perfect = -torch.ones(1, 24, 24).double()
    perfect[:, 3:12, 3:15] = 1
    noise = torch.randn(1, 24, 24).double()
    result = score(perfect, boxes, "all")
    assert (result.value, result.n) == (0, 1)
    noisy = [score(0.5 * noise + sign * perfect, boxes, "all").value for sign in (1, -1)]
    assert noisy[0] < score(noise, boxes, "all").value < noisy[1]


def test_only_positive_relevance_is_offered_for_an_unsigned_method():
    assert set(OutsideInside().variants(signed=False)) == {"pos", "pos_median", "pos_ratio_of_means"}


FULL = torch.tensor([[0, 0, 4, 4]])
OUTSIDE_ONLY = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("pixels", "box", "variant", "reason"),
    [
        (HAND[0], FULL, "all", "box fills the image"),
        (HAND[0], None, "all", "no boxes"),
        (HAND[0], torch.empty(0, 4, dtype=torch.int64), "pos_ratio_of_means", "no boxes"),
        (0 * HAND[0], BOX, "all", "zero map"),
        (0 * HAND[0], BOX, "all_ratio_of_means", "zero map"),
        (OUTSIDE_ONLY, BOX, "pos", "no positive relevance inside"),
        (OUTSIDE_ONLY, BOX, "pos_median", "no positive relevance inside"),
        (OUTSIDE_ONLY, BOX, "all", "no positive relevance inside, no negative outside"),
        (OUTSIDE_ONLY, BOX, "all_signed_median", "zero denominator"),
        (HAND[0] / 0, FULL, "all", "non-finite relevance"),
    ],
)
def test_an_undefined_ratio_is_dropped_with_its_first_reason(score, pixels, box, variant, reason):
    result = score(torch.stack([pixels.double(), HAND[0]]), (box, BOX), variant)
    assert result.dropped == {reason: 1}
    assert result.value == pytest.approx(0 if "signed" in variant else 1 / 3 if variant.startswith("pos") else 4 / 7)


def test_relevance_outside_only_still_enters_the_ratio_of_means(score):
    result = score(torch.stack([OUTSIDE_ONLY.double(), HAND[0]]), (BOX, BOX), "pos_ratio_of_means")
    assert (result.n, result.dropped) == (2, {})
    assert result.value == pytest.approx((1 / 12 + 0.5 / 17) / (1.5 / 17))


def test_a_misclassified_image_is_dropped_and_an_unknown_label_is_not(score):
    result = score(HAND.expand(3, 4, 4), (BOX,) * 3, "all", label=[4, 2, -1], target=4)
    assert (result.n, result.dropped) == (2, {"misclassified": 1})

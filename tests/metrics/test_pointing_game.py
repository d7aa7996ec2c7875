"""Pointing game: a slow restatement, distances at the tolerance, ties, blurring and what is undefined."""

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from rapbench.core.types import VOID
from rapbench.datasets.voc import Voc
from rapbench.methods.control import Center
from rapbench.metrics.pointing_game import PointingGame, blurred
from rapbench.report.statistics import estimate

BOX = torch.tensor([[4, 6, 9, 10]])


@pytest.fixture
def score(explain, rows_of):
    """The estimate of a variant for maps (N, H, W) and boxes or masks."""

    def value(maps, *, variant="accuracy", boxes=None, mask=None, stored=None, **parameters):
        metric = PointingGame(region="boxes" if mask is None else "mask", **parameters)
        given = {"boxes": boxes} if mask is None else {"mask": mask}
        rows = rows_of(metric(explain(maps, **given)), **(stored or {}))
        return estimate(metric.variants(signed=True)[variant], rows, seed=0, resamples=10)

    return value


def photographs(root, boxes):
    """A VOC 2007 test list of photographs of 448 x 336 pixels, each with a box (xmin, ymin, xmax, ymax)."""
    folder = root / "VOCdevkit" / "VOC2007"
    for name in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets/Main/test.txt").write_text("".join(f"{n:06d}\n" for n in range(len(boxes))))
    for n, box in enumerate(boxes):
        Image.new("RGB", (448, 336)).save(folder / f"JPEGImages/{n:06d}.jpg")
        sides = "".join(f"<{s}>{at}</{s}>" for s, at in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        size = "<size><width>448</width><height>336</height></size>"
        text = f"<annotation>{size}<object><name>cat</name><bndbox>{sides}</bndbox></object></annotation>"
        (folder / f"Annotations/{n:06d}.xml").write_text(text)
    return Voc(data_root=root, year="2007", split="test", imageset="main")


def point(row, col, size=24):
    pixels = torch.zeros(1, size, size)
    pixels[0, row, col] = 1
    return pixels


def slow_share(pixels, mask, tolerance):
    """Share of the maxima of a map that are nearer than the tolerance to a pixel of the mask, or are one."""
    maxima = [place for place, value in np.ndenumerate(pixels) if value == pixels.max()]
    region = [place for place, truth in np.ndenumerate(mask) if truth == 1]
    return np.mean([any(p == q or math.dist(p, q) < tolerance for q in region) for p in maxima])


@pytest.mark.parametrize("tolerance", [0, 1, 2, 3, 5])
def test_the_accuracy_equals_a_walk_over_maxima_and_region(score, tolerance):
    maps, masks = torch.randint(6, (6, 12, 12)).double(), (torch.rand(6, 12, 12) < 0.03).to(torch.uint8)
    masks[:, 5, 5], masks[:, 6, 6] = 1, VOID
    each = [slow_share(p, m, tolerance) for p, m in zip(maps.numpy(), masks.numpy(), strict=True)]
    assert 0 < np.mean(each) < 1
    found = score(maps, mask=tuple(masks), tolerance=tolerance).value
    assert found == pytest.approx(100 * np.mean(each), rel=1e-12)


@pytest.mark.parametrize("tolerance", [2, 5, 15])
@pytest.mark.parametrize(("down", "right"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_a_maximum_one_short_of_the_tolerance_hits_and_one_at_it_does_not(score, tolerance, down, right):
    mask = torch.zeros(40, 40, dtype=torch.uint8)
    mask[20, 20] = 1
    for distance, hit in ((0, 100), (tolerance - 1, 100), (tolerance, 0)):
        maps = point(20 + distance * down, 20 + distance * right, 40)
        assert score(maps, mask=(mask,), tolerance=tolerance).value == hit


def test_the_tolerance_is_a_distance_in_all_directions(score):
    mask = torch.zeros(24, 24, dtype=torch.uint8)
    mask[0, 0] = 1
    assert score(point(3, 4), mask=(mask,), tolerance=5).value == 0
    assert score(point(3, 3), mask=(mask,), tolerance=5).value == 100  # at the square root of 18


def test_without_a_tolerance_the_boxes_themselves_count_and_their_ends_are_open(score):
    hits = {
        place
        for place in itertools.product(range(3, 12), repeat=2)
        if score(point(*place), boxes=(BOX,), tolerance=0).value
    }
    assert hits == set(itertools.product(range(6, 10), range(4, 9)))


def test_a_maximum_in_any_of_the_boxes_hits(score):
    boxes = (torch.tensor([[0, 0, 2, 2], [20, 20, 22, 22]]),)
    assert [score(point(p, p), boxes=boxes, tolerance=0).value for p in (1, 10, 21)] == [100, 0, 100]


def test_of_tied_maxima_the_share_counts_that_hits(score):
    maps = point(7, 5) + point(0, 0) + point(23, 23) + point(9, 8)
    assert score(maps, boxes=(BOX,), tolerance=0).value == 50


def test_a_tolerance_beyond_the_image_lets_every_maximum_hit(score):
    assert score(point(23, 23), boxes=(torch.tensor([[0, 0, 1, 1]]),), tolerance=10**9).value == 100


def test_the_centre_of_a_voc_photograph_hits_boxes_around_it_and_such_as_are_near_enough(score, tmp_path):
    around, off = (150, 100, 300, 200), (1, 1, 20, 20)
    right, above = (254, 1, 300, 336), (1, 1, 448, 150)  # from column 126 on, and up to row 99, of 224
    samples = list(photographs(tmp_path, [around, right, above, off]))
    x = torch.stack([sample.image for sample in samples])
    center = Center()(torch.nn.Identity(), x, torch.zeros(4), seeds=torch.arange(4))  # highest in columns 111 and 112
    boxes = tuple(sample.boxes for sample in samples)
    assert score(center, boxes=boxes).value == np.mean([100, 50, 100, 0])
    assert score(center, boxes=boxes, tolerance=14).value == np.mean([100, 0, 100, 0])
    assert score(center, boxes=boxes, tolerance=0).value == np.mean([100, 0, 0, 0])


@pytest.mark.parametrize("size", [(24, 24), (30, 20)])
@pytest.mark.parametrize("sigma", [0.48, 2.0])
def test_blurring_is_a_gaussian_whose_rim_goes_on(size, sigma):
    maps = torch.randn(2, *size).double()
    expected = [gaussian_filter(p.numpy(), sigma, mode="nearest", radius=math.ceil(4 * sigma)) for p in maps]
    np.testing.assert_allclose(blurred(maps, sigma), expected, rtol=0, atol=1e-12)


def test_blurring_turns_from_a_lone_pixel_to_a_crowd(score):
    maps = 1.5 * point(0, 0)
    maps[0, 6:10, 4:9] = 1
    assert score(maps, boxes=(BOX,), tolerance=0).value == 0
    assert score(maps, boxes=(BOX,), tolerance=0, smooth=0.05).value == 100


def test_the_class_mean_weighs_explained_classes_alike_however_many_images_they_have(score):
    maps = torch.cat([point(7, 5), point(7, 5), point(7, 5), point(0, 0), point(0, 0)])
    given = {"boxes": (BOX,) * 5, "tolerance": 0, "stored": {"target": [1, 1, 1, 1, 2]}}
    assert score(maps, **given).value == 60
    assert score(maps, variant="class_mean", **given).value == pytest.approx((75 + 0) / 2)


def test_a_class_of_which_no_image_was_drawn_again_is_no_part_of_the_class_mean():
    value = PointingGame().variants(signed=True)["class_mean"].value
    assert value(np.array([[30.0, 0.0, 0.5, 0.0], [30.0, 10.0, 0.5, 0.5]])).tolist() == [60, 40]


@pytest.mark.parametrize("variant", ["accuracy", "class_mean"])
@pytest.mark.parametrize(
    ("pixels", "box", "reason"),
    [
        (torch.full((1, 24, 24), torch.nan), BOX, "non-finite relevance"),
        (point(7, 5), None, "no boxes"),
        (torch.full((1, 24, 24), 0.3), BOX, "constant map"),
    ],
)
def test_an_image_without_a_value_is_dropped_with_its_reason(score, pixels, box, reason, variant):
    for smooth in (0.0, 0.02):
        result = score(torch.cat([pixels, point(7, 5)]), variant=variant, boxes=(box, BOX), smooth=smooth)
        assert (result.value, result.n, result.dropped) == (100, 1, {reason: 1})


def test_an_absent_and_an_empty_mask_are_told_apart(score):
    masks = (None, torch.zeros(24, 24, dtype=torch.uint8), torch.eye(24, dtype=torch.uint8))
    result = score(point(3, 3).expand(3, 24, 24), mask=masks)
    assert (result.value, result.n, result.dropped) == (100, 1, {"no mask": 1, "empty mask": 1})


def test_a_misclassified_image_is_dropped_and_an_unknown_label_is_not(score):
    stored = {"label": [4, 2, -1], "target": 4}
    result = score(point(7, 5).expand(3, 24, 24), boxes=(BOX,) * 3, stored=stored)
    assert (result.n, result.dropped) == (2, {"misclassified": 1})

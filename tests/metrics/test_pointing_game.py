"""Pointing game: a slow restatement, distances at the tolerance, ties, blurring and what is undefined."""

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from rapbench.core.named import parameters
from rapbench.core.types import VOID
from rapbench.datasets.voc import Voc
from rapbench.methods.control import Center
from rapbench.metrics.pointing_game import PointingGame, blurred
from rapbench.report.statistics import estimate

BOX = torch.tensor([[4, 6, 9, 10]])


@pytest.fixture
def score(explain, rows_of):
    """The estimate of a variant for maps (N, H, W) and boxes or masks."""

    def value(maps, *, variant="accuracy", boxes=None, mask=None, stored=None, box_classes=None, **parameters):
        metric = PointingGame(region="boxes" if mask is None else "mask", **parameters)
        given = {"boxes": boxes} if mask is None else {"mask": mask}
        given |= {} if box_classes is None else {"box_classes": box_classes, "boxes": boxes}
        rows = rows_of(metric(explain(maps, **given)), **(stored or {}))
        return estimate(metric.variants(signed=True)[variant], rows, seed=0, resamples=10)

    return value


def photographs(root, *marked):
    """A VOC 2007 test list of photographs of 448 x 336 pixels, each with objects (name, xmin, ymin, xmax, ymax)."""
    folder = root / "VOCdevkit" / "VOC2007"
    for name in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets/Main/test.txt").write_text("".join(f"{n:06d}\n" for n in range(len(marked))))
    for n, objects in enumerate(marked):
        Image.new("RGB", (448, 336)).save(folder / f"JPEGImages/{n:06d}.jpg")
        text = "<size><width>448</width><height>336</height></size>"
        for name, *box in objects:
            sides = "".join(f"<{s}>{at}</{s}>" for s, at in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
            text += f"<object><name>{name}</name><bndbox>{sides}</bndbox></object>"
        (folder / f"Annotations/{n:06d}.xml").write_text(f"<annotation>{text}</annotation>")
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
    samples = list(photographs(tmp_path, *([("cat", *box)] for box in (around, right, above, off))))
    x = torch.stack([sample.image for sample in samples])
    center = Center()(torch.nn.Identity(), x, torch.zeros(4), seeds=torch.arange(4))  # highest in columns 111 and 112
    boxes = tuple(sample.boxes for sample in samples)
    assert score(center, boxes=boxes).value == np.mean([100, 50, 100, 0])
    assert score(center, boxes=boxes, tolerance=14).value == np.mean([100, 0, 100, 0])
    assert score(center, boxes=boxes, tolerance=0).value == np.mean([100, 0, 0, 0])


AT_CENTRE, LARGE, QUARTER = (200, 150, 250, 190), (100, 60, 350, 300), (1, 1, 224, 168)
CORNER, OTHER_CORNER = (1, 1, 20, 20), (400, 300, 440, 330)


def test_the_centre_of_voc_photographs_hits_fewer_pairs_of_small_objects_beside_others(score, tmp_path):
    samples = list(
        photographs(
            tmp_path,
            [("cat", *AT_CENTRE), ("dog", *CORNER)],  # cat hit, dog missed, both difficult
            [("cat", *OTHER_CORNER), ("cat", *AT_CENTRE), ("dog", *LARGE)],  # both hit, the cat difficult
            [("dog", *QUARTER), ("cow", *CORNER)],  # dog hit, cow missed, and difficult: a quarter is not less than one
            [("cat", *AT_CENTRE)],  # hit
            [("cow", *CORNER), ("cow", *OTHER_CORNER)],  # missed
            [("yeti", *AT_CENTRE)],  # of no class that is known
            [],
        )
    )
    x = torch.stack([sample.image for sample in samples])
    center = Center()(torch.nn.Identity(), x, torch.zeros(7), seeds=torch.arange(7))
    boxes, classes = ([getattr(sample, name) for sample in samples] for name in ("boxes", "box_classes"))
    given = {"boxes": tuple(boxes), "box_classes": tuple(classes), "trials": "pairs"}
    unmarked = {"no boxes": 2}
    for region in ({}, {"mask": (torch.ones(224, 224, dtype=torch.uint8),) * 7}):  # boxes decide pairs all the same
        found = {name: score(center, variant=f"{name}:pairs", **given, **region) for name in ("accuracy", "class_mean")}
        assert found["accuracy"].value == pytest.approx(100 * 5 / 8)
        assert found["class_mean"].value == pytest.approx(100 * (3 / 3 + 2 / 3 + 0 / 2) / 3)
        assert (found["accuracy"].n, found["accuracy"].dropped) == (5, unmarked)
        difficult = score(center, variant="accuracy:difficult", **given, **region)
        assert difficult.value == pytest.approx(100 * 2 / 4)
        assert (difficult.n, difficult.dropped) == (3, unmarked | {"no difficult object": 2})
        of_classes = score(center, variant="class_mean:difficult", **given, **region)
        assert of_classes.value == pytest.approx(100 * (2 / 2 + 0 / 1 + 0 / 1) / 3)
    assert score(center, **given).value == pytest.approx(100 * 5 / 6)


def test_pairs_equal_a_walk_over_images_classes_and_pixels(score):
    generator = torch.Generator().manual_seed(4)
    maps = torch.randint(6, (40, 12, 12), generator=generator).double()
    corners = torch.randint(9, (40, 3, 2), generator=generator)
    sides = torch.randint(1, 8, (40, 3, 2), generator=generator)
    boxes = torch.cat([corners, (corners + sides).clamp(max=12)], 2)
    classes = torch.randint(5, (40, 3), generator=generator)
    trials = {"pairs": [], "difficult": []}
    for pixels, its_boxes, its_classes in zip(maps.numpy(), boxes, classes.tolist(), strict=True):
        for one in set(its_classes):
            mask = np.zeros((12, 12))
            for (left, top, right, bottom), owner in zip(its_boxes.tolist(), its_classes, strict=True):
                if owner == one:
                    mask[top:bottom, left:right] = 1
            trial = (one, 100 * slow_share(pixels, mask, 2))
            trials["pairs"].append(trial)
            if sum(mask.flatten()) < 144 / 4 and len(set(its_classes)) > 1:
                trials["difficult"].append(trial)
    given = {"boxes": tuple(boxes), "tolerance": 2, "trials": "pairs"}
    given["box_classes"] = tuple(torch.nn.functional.one_hot(classes, 6).bool())
    assert 20 < len(trials["difficult"]) < len(trials["pairs"]) - 5
    for subset, found in trials.items():
        each = [np.mean([share for owner, share in found if owner == one]) for one in {owner for owner, _ in found}]
        accuracy = score(maps, variant=f"accuracy:{subset}", **given).value
        assert accuracy == pytest.approx(np.mean([share for _, share in found]), rel=1e-12)
        assert score(maps, variant=f"class_mean:{subset}", **given).value == pytest.approx(np.mean(each), rel=1e-12)


def test_where_no_pair_is_difficult_there_is_no_value(score):
    given = {"boxes": (BOX,), "box_classes": (torch.tensor([[True, False]]),), "trials": "pairs"}
    assert score(point(7, 5), variant="class_mean:pairs", **given).value == 100
    found = score(point(7, 5), variant="class_mean:difficult", **given)
    assert (found.value, found.n, found.dropped) == (None, 0, {"no difficult object": 1})


def test_pairs_leave_no_trace_where_they_are_not_asked_for(explain):
    assert parameters(PointingGame()) == {"region": "boxes", "tolerance": 15, "smooth": 0.0}
    assert set(PointingGame().variants(signed=True)) == {"accuracy", "class_mean"}
    columns = PointingGame()(explain(point(7, 5), boxes=(BOX,)))
    added = PointingGame(trials="pairs")(explain(point(7, 5), boxes=(BOX,), box_classes=(torch.tensor([[True]]),)))
    assert added.keys() - columns.keys() == {"class_hits", "class_areas", "num_pixels"}
    assert all(torch.equal(column, added[name]) for name, column in columns.items())


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

"""What printed scores imply, against counting pixels."""

from __future__ import annotations

import numpy as np
import pytest
from stored import masks, scored

from rapbench.papers.card import table
from rapbench.papers.comparison import compared
from rapbench.papers.implied import class_ious, coin_flip_share, paragraphs, shares
from rapbench.results.select import Filter


def counted(seed: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """A mask with that share of foreground and a map that agrees with it in part."""
    rng = np.random.default_rng(seed)
    mask = rng.random(20_000) < share
    return mask, np.where(rng.random(20_000) < rng.uniform(0.55, 0.95), mask, ~mask)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return 100 * float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.1, 0.27, 0.5])
def test_accuracy_and_mean_iou_determine_the_iou_of_both_classes(seed: int, share: float) -> None:
    mask, found = counted(seed, share)
    true = sorted([iou(mask, found), iou(~mask, ~found)])
    implied = class_ious(100 * float((mask == found).mean()), sum(true) / 2)
    assert implied == pytest.approx(true)


@pytest.mark.parametrize("seed", range(8))
def test_the_share_of_the_smaller_class_lies_between_its_bounds(seed: int) -> None:
    mask, found = counted(seed, 0.2)
    accuracy, foreground = 100 * float((mask == found).mean()), iou(mask, found)
    bounds = shares(accuracy, (foreground + iou(~mask, ~found)) / 2)
    assert bounds is not None
    assert bounds[0] == pytest.approx((mask & found).mean())
    assert bounds[0] <= mask.mean() <= bounds[1] == pytest.approx((mask | found).mean())


def test_no_mask_has_a_mean_iou_above_what_its_accuracy_allows() -> None:
    mask, found = counted(0, 0.5)
    accuracy = 100 * float((mask == found).mean())
    highest = 100 * (accuracy / (200 - accuracy))  # both classes alike
    assert class_ious(accuracy, highest - 1e-6) is not None
    assert class_ious(accuracy, highest + 0.01) is None
    assert shares(accuracy, highest + 0.01) is None


@pytest.mark.parametrize(
    ("accuracy", "miou", "foreground", "background"), [(79.23, 62.23, 50.9, 73.5), (73.91, 55.60, 44.0, 67.2)]
)
def test_the_foreground_iou_behind_the_printed_scores_of_rap(
    accuracy: float, miou: float, foreground: float, background: float
) -> None:
    assert class_ious(accuracy, miou) == pytest.approx((foreground, background), abs=0.05)


@pytest.mark.parametrize("share", [0.05, 0.267, 0.5])
def test_a_coin_flip_tells_how_much_is_foreground(share: float) -> None:
    rng = np.random.default_rng(3)
    mask, coin = rng.random(400_000) < share, rng.random(400_000) < 0.5
    miou = (iou(mask, coin) + iou(~mask, ~coin)) / 2
    exact = 50 * (share / (1 + share) + (1 - share) / (2 - share))
    assert miou == pytest.approx(exact, abs=0.3)
    assert coin_flip_share(exact) == pytest.approx(share, abs=1e-6)


def test_the_coin_flip_of_the_paper_implies_a_foreground_of_a_quarter() -> None:
    assert coin_flip_share(31.69) == pytest.approx(0.267, abs=5e-4)
    assert coin_flip_share(34) is None
    assert coin_flip_share(20) is None


def told(*cells: object) -> list[str]:
    card = table("rap2020/table1")
    return list(paragraphs(card, compared(card, cells, Filter())))  # type: ignore[arg-type]


def test_the_printed_table_alone_gives_its_implications() -> None:
    imagenet, voc, coin, threshold = told()
    assert "RAP 79.23/62.23: 50.9 and 73.5" in imagenet
    assert "RAP 73.91/55.60: 44.0 and 67.2" in voc
    assert "objects cover 0.267 of the pixels" in coin
    assert "73.3/36.6; the best published accuracy is RAP's 73.91" in coin
    assert threshold.startswith(
        "VGG-16 on ImageNet-Segmentation: Input*Gradient (66.38) and Integrated Gradients (66.52)"
    )


def test_the_shares_of_foreground_that_all_rows_allow_are_bounded() -> None:
    voc = told()[1]
    low, high = (float(word) for word in voc.split("cover ")[1].split(" of")[0].split(" to "))
    assert low < 0.267 < high


def test_what_finding_nothing_scores_is_printed_where_it_was_measured() -> None:
    nothing = scored("all_background", masks(zero=[[0, 0, 4, 12]]), metric="segmentation", dataset="voc")
    (line,) = [line for line in told(nothing) if "measured" in line]
    assert line == "voc: a map that finds nothing scores 75.00/37.50 here (pixel accuracy/mIOU, measured)."

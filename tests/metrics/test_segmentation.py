"""Segmentation: a slow restatement of its counts, the laws of trivial maps, and void pixels."""

import numpy as np
import pytest
import torch

from rapbench.core.types import VOID
from rapbench.metrics.segmentation import Segmentation
from rapbench.report.statistics import estimate

THRESHOLDS = ("zero", "mean", "mean_pos", "mean_abs")


@pytest.fixture
def score(explain, rows_of):
    """The value of a variant for maps (N, H, W) against masks (N, H, W)."""

    def value(maps, masks, variant, *, signed=True):
        metric = Segmentation()
        rows = rows_of(metric(explain(maps, mask=tuple(masks))))
        return estimate(metric.variants(signed=signed)[variant], rows, seed=0, resamples=2).value

    return value


def random_masks(n, share, *, void=0.0, size=24):
    masks = (torch.rand(n, size, size) < share).to(torch.uint8)
    masks[torch.rand(n, size, size) < void] = VOID
    return masks


def slow_threshold(pixels, name):
    values = {"zero": 0 * pixels, "mean": pixels, "mean_pos": np.maximum(pixels, 0), "mean_abs": np.abs(pixels)}
    return values[name].mean()


def slow_counts(pixels, mask, name):
    counts = [0, 0, 0, 0]
    for value, truth in zip(pixels.ravel(), mask.ravel(), strict=True):
        if truth != VOID:
            guess = value > slow_threshold(pixels, name)
            counts[{(True, 1): 0, (True, 0): 1, (False, 1): 2, (False, 0): 3}[bool(guess), int(truth)]] += 1
    return counts


@pytest.mark.parametrize("name", THRESHOLDS)
def test_counts_equal_a_walk_over_the_pixels(explain, name):
    maps, masks = torch.randn(3, 24, 24).double() + 0.3, random_masks(3, 0.4, void=0.1)
    counts = Segmentation()(explain(maps, mask=tuple(masks)))[f"counts_{name}"]
    assert counts.tolist() == [slow_counts(p.numpy(), m.numpy(), name) for p, m in zip(maps, masks, strict=True)]


def test_scores_are_ratios_of_counts_over_the_whole_data_set(score):
    maps, masks = torch.randn(5, 24, 24).double(), torch.cat([random_masks(1, p) for p in (0.05, 0.2, 0.5, 0.8, 0.95)])
    tp, fp, fn, tn = np.sum([slow_counts(p.numpy(), m.numpy(), "zero") for p, m in zip(maps, masks, strict=True)], 0)
    assert score(maps, masks, "pixel_accuracy@zero") == pytest.approx(100 * (tp + tn) / (tp + fp + fn + tn))
    assert score(maps, masks, "fg_iou@zero") == pytest.approx(100 * tp / (tp + fp + fn))
    assert score(maps, masks, "miou@zero") == pytest.approx(50 * (tp / (tp + fp + fn) + tn / (tn + fp + fn)))


@pytest.mark.parametrize("share", [0.267, 0.6])
def test_a_coin_flip_has_accuracy_50_and_the_miou_of_its_foreground_share(score, share):
    maps, masks = torch.randn(40, 100, 100), random_masks(40, share, size=100)
    assert score(maps, masks, "pixel_accuracy@paper") == pytest.approx(50, abs=0.3)
    expected = 50 * (share / (1 + share) + (1 - share) / (2 - share))
    assert score(maps, masks, "miou@paper") == pytest.approx(expected, abs=0.3)


def test_all_background_scores_the_background_share(score):
    masks = random_masks(4, 0.27, void=0.1)
    background = 100 * ((masks == 0).sum() / (masks != VOID).sum()).item()
    assert score(torch.zeros(4, 24, 24), masks, "pixel_accuracy@paper") == pytest.approx(background)
    assert score(torch.zeros(4, 24, 24), masks, "miou@paper") == pytest.approx(background / 2)
    assert score(torch.zeros(4, 24, 24), masks, "fg_iou@paper") == 0


def test_a_class_that_neither_map_nor_mask_contains_scores_zero(score):
    assert score(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8), "miou@zero") == 50


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_perfect_map_scores_100_and_its_negative_0(score, name):
    masks = random_masks(3, 0.4, void=0.1)
    perfect = torch.where(masks == 1, 1.0, -1.0) * (1 + torch.rand(3, 24, 24))
    if name == "mean_abs":
        perfect = perfect + 3 * perfect.sign().clamp(min=0)
    assert score(perfect, masks, f"miou@{name}") == 100
    if name in ("zero", "mean"):
        assert score(-perfect, masks, f"miou@{name}") == 0


def test_void_pixels_are_never_counted(explain):
    masks, maps = random_masks(2, 0.4, void=0.3), torch.randn(2, 24, 24)
    changed = torch.where(masks == VOID, -100 * maps, maps)
    columns, others = (Segmentation()(explain(m, mask=tuple(masks))) for m in (maps, changed))
    assert torch.equal(columns["counts_zero"], others["counts_zero"])
    for name in THRESHOLDS:
        assert torch.equal(columns[f"counts_{name}"].sum(1), (masks != VOID).sum((1, 2)))


def test_void_pixels_enter_the_threshold(explain):
    maps = torch.tensor([[[1.0, 2.0], [3.0, 100.0]]])
    mask = torch.tensor([[1, 1], [1, VOID]], dtype=torch.uint8)
    columns = Segmentation()(explain(maps, mask=(mask,)))
    assert columns["counts_mean"].tolist() == [[0, 0, 3, 0]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 1e-30, 123456.789, -0.1, -1 / 3])
def test_a_constant_map_is_all_background_for_every_mean(explain, value, dtype, channels):
    masks = (torch.ones(224, 224, dtype=torch.uint8),)
    columns = Segmentation()(explain(torch.full((1, channels, 224, 224), value, dtype=dtype), mask=masks))
    for name in ("mean", "mean_abs", "mean_pos"):
        assert columns[f"counts_{name}"].tolist() == [[0, 0, 224 * 224, 0]]


def test_the_papers_threshold_is_zero_for_signed_and_the_mean_for_unsigned_methods(score):
    maps, masks = torch.rand(3, 24, 24), random_masks(3, 0.4)
    for signed, name in ((True, "zero"), (False, "mean")):
        paper, plain = (score(maps, masks, f"miou@{t}", signed=signed) for t in ("paper", name))
        assert paper == plain
    assert score(maps, masks, "miou@zero") != score(maps, masks, "miou@mean")


def test_an_image_without_a_mask_is_dropped(explain, rows_of):
    metric = Segmentation()
    void = torch.full((24, 24), VOID, dtype=torch.uint8)
    rows = rows_of(metric(explain(torch.randn(3, 24, 24), mask=(None, random_masks(1, 0.4)[0], void))))
    result = estimate(metric.variants(signed=True)["miou@paper"], rows, seed=0)
    assert (result.n, result.dropped) == (1, {"no mask": 2})

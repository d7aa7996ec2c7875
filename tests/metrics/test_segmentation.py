"""Segmentation: a slow restatement of its counts, the laws of trivial maps, and void pixels."""

import numpy as np
import pytest
import torch

from rapbench.core.named import parameters
from rapbench.core.types import VOID
from rapbench.metrics.average_precision import average_precision, scaled
from rapbench.metrics.segmentation import Segmentation
from rapbench.report.statistics import estimate

PERCENTILES = ("p50", "p60", "p70", "p80", "p90")
THRESHOLDS = ("zero", "mean", "mean_pos", "mean_abs", *PERCENTILES)
OPTIONS = ("", ":void=background", ":void=object", ":per_image")


@pytest.fixture
def score(explain, rows_of):
    """The value of a variant for maps (N, H, W) against masks (N, H, W)."""

    def value(maps, masks, variant, *, signed=True, ap="hard"):
        metric = Segmentation(ap=ap)
        rows = rows_of(metric(explain(maps, mask=tuple(masks))))
        return estimate(metric.variants(signed=signed)[variant], rows, seed=0, resamples=2).value

    return value


def random_masks(n, share, *, void=0.0, size=24):
    masks = (torch.rand(n, size, size) < share).to(torch.uint8)
    masks[torch.rand(n, size, size) < void] = VOID
    return masks


def slow_threshold(pixels, name):
    if name in PERCENTILES:
        ordered = sorted(pixels.ravel())
        below, part = divmod(int(name[1:]) * (len(ordered) - 1), 100)
        return ordered[below] + (ordered[below + 1] - ordered[below]) * part / 100
    values = {"zero": 0 * pixels, "mean": pixels, "mean_pos": np.maximum(pixels, 0), "mean_abs": np.abs(pixels)}
    return values[name].mean()


CELLS = [(True, 1), (True, 0), (False, 1), (False, 0), (True, VOID), (False, VOID)]


def slow_counts(pixels, mask, name):
    at, counts = slow_threshold(pixels, name), [0] * 6
    for value, truth in zip(pixels.ravel(), mask.ravel(), strict=True):
        counts[CELLS.index((bool(value > at), int(truth)))] += 1
    return counts


def slow_scores(counts):
    """Scores by name, in percent, of true and false positives, false and true negatives."""
    tp, fp, fn, tn = counts
    foreground, background = (hit / (hit + fp + fn) if hit + fp + fn else 0 for hit in (tp, tn))
    share = (tp + tn) / (tp + fp + fn + tn)
    precision, recall = (tp / whole if whole else 0 for whole in (tp + fp, tp + fn))
    return {
        "pixel_accuracy": 100 * share,
        "miou": 50 * (foreground + background),
        "fg_iou": 100 * foreground,
        "f1": 200 * precision * recall / (precision + recall) if tp else 0,
    }


@pytest.mark.parametrize("name", THRESHOLDS)
def test_counts_equal_a_walk_over_the_pixels(explain, name):
    maps, masks = torch.randn(3, 24, 24).double() + 0.3, random_masks(3, 0.4, void=0.1)
    counts = Segmentation()(explain(maps, mask=tuple(masks)))[f"counts_{name}"]
    assert counts.tolist() == [slow_counts(p.numpy(), m.numpy(), name) for p, m in zip(maps, masks, strict=True)]


@pytest.fixture
def uneven():
    """Maps and masks of very different foreground shares, with void pixels."""
    shares = (0.05, 0.2, 0.5, 0.8, 0.95)
    return torch.randn(5, 24, 24).double(), torch.cat([random_masks(1, p, void=p / 2) for p in shares])


@pytest.mark.parametrize("name", ["zero", "p70"])
@pytest.mark.parametrize("void", [None, "background", "object"])
def test_scores_are_ratios_of_counts_over_the_whole_data_set(score, uneven, name, void):
    maps, masks = uneven
    truth = masks if void is None else torch.where(masks == VOID, int(void == "object"), masks)
    counts = np.sum([slow_counts(p.numpy(), m.numpy(), name) for p, m in zip(maps, truth, strict=True)], 0)
    for key, value in slow_scores(counts[:4]).items():
        option = f":void={void}" if void else ""
        assert score(maps, masks, f"{key}@{name}{option}") == pytest.approx(value)


@pytest.mark.parametrize("name", ["mean", "p50"])
def test_per_image_is_the_mean_of_the_images_own_scores(score, uneven, name):
    maps, masks = uneven
    each = [slow_scores(slow_counts(p.numpy(), m.numpy(), name)[:4]) for p, m in zip(maps, masks, strict=True)]
    for key in each[0]:
        value = score(maps, masks, f"{key}@{name}:per_image")
        assert value == pytest.approx(np.mean([scores[key] for scores in each]))
        assert (value == pytest.approx(score(maps, masks, f"{key}@{name}"))) is False


def test_without_void_pixels_what_void_counts_as_changes_nothing(score):
    maps, masks = torch.randn(3, 24, 24), random_masks(3, 0.4)
    values = {option: score(maps, masks, f"miou@paper{option}") for option in OPTIONS[:3]}
    assert len(set(values.values())) == 1


def test_every_threshold_has_every_score_and_option():
    counted = ("paper", *THRESHOLDS)
    names = [
        f"{score}@{threshold}{option}"
        for option in OPTIONS
        for threshold in counted
        for score in ("pixel_accuracy", "miou", "fg_iou", "f1")
    ]
    names += [f"ap_hard@{threshold}" for threshold in counted]
    assert list(Segmentation().variants(signed=False)) == names
    soft = ["ap_soft@positive", "ap_soft@signed"]
    assert list(Segmentation(ap="soft").variants(signed=False)) == [*names, *soft]
    assert [*Segmentation(ap="soft").headline] == [*Segmentation.headline, *soft]


def test_average_precision_of_the_map_itself_is_asked_for_and_changes_no_other_column(explain):
    explained = explain(torch.randn(3, 24, 24), mask=tuple(random_masks(3, 0.4, void=0.1)))
    plain, more = (Segmentation(ap=ap)(explained) for ap in ("hard", "soft"))
    assert more.keys() - plain.keys() == {"ap_positive", "ap_signed"}
    assert all(torch.equal(column, more[name]) for name, column in plain.items())
    assert parameters(Segmentation()) == {}  # rows stored before keep their keys


@pytest.mark.parametrize("name", ["zero", "mean", "p80"])
def test_hard_average_precision_is_that_of_the_mask_above_a_threshold(score, uneven, name):
    maps, masks = uneven
    above = [(pixels > slow_threshold(pixels.numpy(), name)).unsqueeze(0).double() for pixels in maps]
    each = [average_precision(hard, mask.unsqueeze(0)).item() for hard, mask in zip(above, masks, strict=True)]
    assert score(maps, masks, f"ap_hard@{name}") == pytest.approx(100 * np.mean(each))


def test_soft_average_precision_is_that_of_the_scaled_map_or_of_its_scaled_positive_part(score, uneven):
    maps, masks = uneven
    for variant, values in {"ap_soft@signed": maps, "ap_soft@positive": maps.clamp(min=0)}.items():
        expected = 100 * average_precision(scaled(values), masks).mean().item()
        assert score(maps, masks, variant, ap="soft") == pytest.approx(expected)
    same = [score(maps.abs(), masks, f"ap_soft@{name}", ap="soft") for name in ("positive", "signed")]
    assert same[0] == same[1]


def test_a_constant_map_scores_as_all_background_does_in_both_average_precisions(score):
    masks = torch.zeros(1, 10, 10, dtype=torch.uint8)
    masks[0, :3] = 1
    for value in (-0.3, 0.0, 0.7):
        for variant in ("ap_soft@signed", "ap_soft@positive", "ap_hard@mean"):
            found = score(torch.full((1, 10, 10), value), masks, variant, ap="soft")
            assert found == pytest.approx(100 * (0.7**2 + 0.3 / 2))


@pytest.mark.parametrize("share", [0.267, 0.6])
@pytest.mark.parametrize("name", ["paper", "mean", "p50"])
def test_a_coin_flip_has_accuracy_50_and_the_miou_of_its_foreground_share(score, share, name):
    maps, masks = torch.randn(40, 100, 100), random_masks(40, share, void=0.05, size=100)
    assert score(maps, masks, f"pixel_accuracy@{name}") == pytest.approx(50, abs=0.3)
    expected = 50 * (share / (1 + share) + (1 - share) / (2 - share))
    assert score(maps, masks, f"miou@{name}") == pytest.approx(expected, abs=0.3)
    if share == 0.267:
        assert expected == pytest.approx(31.69, abs=0.1)  # what Nam et al. 2020 print for Input*Gradient on VOC


def test_a_coin_flip_scores_less_per_image_than_over_a_data_set_of_uneven_images(score):
    maps, masks = torch.randn(40, 100, 100), torch.cat([random_masks(20, p, size=100) for p in (0.05, 0.484)])
    assert score(maps, masks, "miou@zero") == pytest.approx(31.69, abs=0.3)
    assert score(maps, masks, "miou@zero:per_image") < score(maps, masks, "miou@zero") - 0.7


@pytest.mark.parametrize("percent", [50, 60, 70, 80, 90])
def test_a_percentile_leaves_its_share_of_the_pixels_above(explain, percent):
    pixels = torch.randperm(224 * 224).view(1, 224, 224).double()
    counts = Segmentation()(explain(pixels, mask=(random_masks(1, 0.3, void=0.1, size=224)[0],)))[f"counts_p{percent}"]
    assert counts[0, [0, 1, 4]].sum().item() == pytest.approx((100 - percent) / 100 * 224 * 224, abs=1)


def test_pixels_at_a_percentile_are_background(explain):
    pixels = torch.tensor([[[0.0, 0, 0, 0, 0, 0, 0, 0, 1, 2]]])
    columns = Segmentation()(explain(pixels, mask=(torch.ones(1, 10, dtype=torch.uint8),)))
    assert [columns[f"counts_{name}"][0, 0].item() for name in PERCENTILES] == [2, 2, 2, 2, 1]


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
    if name in PERCENTILES:
        masks = (perfect > perfect.flatten(1).quantile(int(name[1:]) / 100, dim=1).view(3, 1, 1)).to(torch.uint8)
    assert score(perfect, masks, f"miou@{name}") == 100
    if name in ("zero", "mean", "p50"):
        assert score(-perfect, masks, f"miou@{name}") == 0


def test_void_pixels_are_never_counted(explain):
    masks, maps = random_masks(2, 0.4, void=0.3), torch.randn(2, 24, 24)
    changed = torch.where(masks == VOID, -100 * maps, maps)
    columns, others = (Segmentation()(explain(m, mask=tuple(masks))) for m in (maps, changed))
    assert torch.equal(columns["counts_zero"][:, :4], others["counts_zero"][:, :4])
    for name in THRESHOLDS:
        assert torch.equal(columns[f"counts_{name}"][:, :4].sum(1), (masks != VOID).sum((1, 2)))
        assert torch.equal(columns[f"counts_{name}"][:, 4:].sum(1), (masks == VOID).sum((1, 2)))


def test_void_pixels_enter_the_threshold(explain):
    maps = torch.tensor([[[1.0, 2.0], [3.0, 100.0]]])
    mask = torch.tensor([[1, 1], [1, VOID]], dtype=torch.uint8)
    columns = Segmentation()(explain(maps, mask=(mask,)))
    assert columns["counts_mean"].tolist() == [[0, 0, 3, 0, 1, 0]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 1e-30, 123456.789, -0.1, -1 / 3])
def test_a_constant_map_is_all_background_for_every_mean(explain, value, dtype, channels):
    masks = (torch.ones(224, 224, dtype=torch.uint8),)
    columns = Segmentation()(explain(torch.full((1, channels, 224, 224), value, dtype=dtype), mask=masks))
    for name in ("mean", "mean_abs", "mean_pos", *PERCENTILES):
        assert columns[f"counts_{name}"].tolist() == [[0, 0, 224 * 224, 0, 0, 0]]


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

"""Digit conversion: a slow restatement of the rule, who is scored, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch

from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig
from rapbench.metrics.digit_conversion import DigitConversion, erased
from rapbench.report.statistics import estimate

SIDE = 12


@pytest.fixture
def linear():
    """A linear classifier (144, 10) and 6 images of three digits, of which a third of the pixels is black."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(SIDE * SIDE, 10, generator=generator, dtype=torch.float64)
    x = torch.rand(6, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    return weights, x * (torch.rand(x.shape, generator=generator) > 1 / 3)


@pytest.fixture
def batch(explain, linear):
    """Explained by gradient times input, rounded so that there are ties; labels 8, 8, 9, unknown, 8, 3."""
    weights, x = linear

    def relevance(x, target, seeds):
        return (x * weights[:, target].T.view(x.shape) * 4).round()

    classify = lambda x: x.flatten(1) @ weights  # noqa: E731
    return explain(
        torch.zeros_like(x), x=x, logits=classify(x), classify=classify, black=(0.0,), explain=relevance,
        seeds=torch.arange(6), label=torch.tensor([8, 8, 9, -1, 8, 3]),
    )  # fmt: skip


def explaining(batch, explain):
    """The batch with another way to explain."""
    return dataclasses.replace(batch, network=dataclasses.replace(batch.network, explain=explain))


def slow_drop(weights, x, scores, pixels):
    """D of one image of an 8 against a 3, erasing one pixel after the other."""
    x = x.flatten().clone()
    value = lambda: float(x @ weights[:, 8] - x @ weights[:, 3])  # noqa: E731
    before = value()
    scores = scores.flatten().tolist()
    spared = max(sorted(scores, reverse=True)[pixels], 0)
    count = 0
    for i, score in enumerate(scores):
        if score > spared and x[i] != 0:
            x[i], count = 0, count + 1
    return before - value(), count


@pytest.mark.parametrize("pixels", [1, 10, 29, 143])
def test_the_drop_equals_erasing_one_pixel_after_the_other(batch, linear, pixels):
    weights, x = linear
    columns = DigitConversion(pairs="8-3", pixels=pixels)(batch)
    for n in (0, 1, 4):
        scores = [batch.network.explain(x[n : n + 1], torch.tensor([k]), torch.zeros(1))[0, 0] for k in (8, 3)]
        drop, count = slow_drop(weights, x[n], scores[0] - scores[1], pixels)
        assert float(columns["log_odds"][n, 3] - columns["log_odds_erased"][n, 3]) == pytest.approx(drop)
        assert int(columns["num_erased"][n, 3]) == count <= pixels


def test_only_images_of_the_first_digit_are_scored(batch, rows_of):
    metric = DigitConversion(pairs="8-3 9-1", pixels=20)
    rows = rows_of(metric(batch))
    variants = metric.variants(signed=True)
    assert estimate(variants["log_odds@8-3"], rows, seed=0).n == 3
    assert estimate(variants["log_odds@9-1"], rows, seed=0).dropped == {"another digit": 5}
    both = estimate(variants["log_odds"], rows, seed=0)
    assert (both.n, both.dropped) == (4, {"another digit": 2})


def test_a_value_is_the_median_mean_or_share_over_images(batch, rows_of):
    metric = DigitConversion(pairs="8-3 8-6", pixels=40)
    columns = metric(batch)
    rows, variants = rows_of(columns), metric.variants(signed=True)
    drops = (columns["log_odds"] - columns["log_odds_erased"]).numpy()[[0, 1, 4]][:, [3, 6]]
    value = lambda name: estimate(variants[name], rows, seed=0, resamples=10).value  # noqa: E731
    assert value("log_odds@8-3") == pytest.approx(np.median(drops[:, 0]))
    assert value("log_odds@8-6:mean") == pytest.approx(np.mean(drops[:, 1]))
    assert value("log_odds") == pytest.approx(np.median(drops.mean(1)))
    before, after = (columns[name].numpy()[[0, 1, 4], 6] for name in ("log_odds", "log_odds_erased"))
    assert value("flipped@8-6") == pytest.approx(100 * ((before > 0) & (after < 0)).mean())


def test_an_image_flips_if_it_was_told_right_before(rows_of):
    before, after = torch.full((4, 10), torch.nan).double(), torch.full((4, 10), torch.nan).double()
    before[:, 3], after[:, 3] = torch.tensor([1.0, 1.0, -1.0, 2.0]), torch.tensor([-1.0, 0.5, -2.0, -3.0])
    rows = rows_of(
        {"origin": torch.full((4,), 8), "log_odds": before, "log_odds_erased": after, "num_non_finite": torch.zeros(4)}
    )
    found = estimate(DigitConversion(pairs="8-3").variants(signed=True)["flipped@8-3"], rows, seed=0)
    assert (found.value, found.n) == (50, 4)


def test_perfect_relevance_beats_its_negative(batch):
    metric = DigitConversion(pairs="8-3", pixels=20)
    wrong = explaining(batch, lambda *given: -batch.network.explain(*given))
    right, other = (c["log_odds"][0, 3] - c["log_odds_erased"][0, 3] for c in (metric(batch), metric(wrong)))
    assert right > 0 > other


def test_all_pairs_are_ninety_and_each_class_is_explained_once_an_image(batch):
    explained = []

    def counting(x, target, seeds):
        explained.extend(target.tolist())
        return batch.network.explain(x, target, seeds)

    metric = DigitConversion(pairs="all", pixels=20)
    assert len(metric.conversions) == 90
    columns = metric(explaining(batch, counting))
    assert sorted(explained) == sorted([*range(10)] * 5)
    assert columns["log_odds"].isfinite().sum(1).tolist() == [9, 9, 9, 0, 9, 9]


def test_images_are_explained_with_their_own_seeds(batch):
    seen = {}

    def recording(x, target, seeds):
        seen[int(target[0])] = seeds.tolist()
        return x

    DigitConversion(pairs="8-3", pixels=20)(explaining(batch, recording))
    assert seen == {8: [0, 1, 4], 3: [0, 1, 4]}


def test_pixels_that_are_black_already_do_not_count_as_erased():
    scores = torch.tensor([[[5.0, 4.0], [3.0, 2.0]]])
    lit = torch.tensor([[[False, True], [True, True]]])
    assert erased(scores, 2, lit).tolist() == [[[False, True], [True, False]]]


def test_pixels_that_tie_with_the_first_spared_one_and_pixels_without_a_positive_score_are_spared():
    lit = torch.ones(1, 2, 2, dtype=torch.bool)
    assert erased(torch.tensor([[[5.0, 3.0], [3.0, 3.0]]]), 2, lit).tolist() == [[[True, False], [False, False]]]
    assert erased(torch.tensor([[[5.0, 0.0], [-1.0, 0.0]]]), 3, lit).tolist() == [[[True, False], [False, False]]]
    assert erased(torch.tensor([[[5.0, 1.0], [-1.0, 0.0]]]), 9, lit).tolist() == [[[True, True], [False, False]]]


def test_relevance_of_another_class_that_is_not_finite_is_counted(batch):
    broken = explaining(batch, lambda x, target, seeds: torch.full_like(x, torch.nan))
    assert DigitConversion(pairs="8-3", pixels=20)(broken)["num_non_finite"].tolist() == [288, 288, 0, 0, 288, 0]


@pytest.mark.parametrize("pairs", ["8", "8-8", "8-x", "8>3"])
def test_pairs_that_are_no_two_digits_are_refused(pairs):
    with pytest.raises(ValueError, match="two different digits"):
        DigitConversion(pairs=pairs)


def test_pairs_are_typed_with_spaces_between():
    call = Call("rapbench.metrics.digit_conversion:DigitConversion", {"pairs": "9-1 4-1"})
    from rapbench.metrics import METRICS

    assert METRICS.build(call).conversions == ((9, 1), (4, 1))


def test_a_class_that_the_network_lacks_is_refused(batch):
    with pytest.raises(BadConfig, match="8-12 names a class that a network of 10 lacks"):
        DigitConversion(pairs="8-12")(batch)

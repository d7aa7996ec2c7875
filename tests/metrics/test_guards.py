"""Guards: each count against a slow statement."""

from collections import Counter

import pytest
import torch

from rapbench.metrics.guards import Guards
from rapbench.report.statistics import estimate


@pytest.fixture
def score(rows_of):
    def value(columns, variant):
        return estimate(Guards().variants(signed=True)[variant], rows_of(columns), seed=0, resamples=2)

    return value


def test_logit_and_probability_are_those_of_the_target(explain):
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    columns = Guards()(explain(torch.randn(2, 4, 4), logits=logits, target=torch.tensor([2, 0])))
    assert columns["logit"].tolist() == [1, 3]
    expected = [2.718281828 / (1 + 7.389056099 + 2.718281828), 20.08553692 / 22.08553692]
    assert columns["probability"].tolist() == pytest.approx(expected)


def test_the_residual_is_the_median_relative_distance_from_the_promised_sum(explain, score):
    relevance = torch.zeros(4, 3, 4, 4)
    relevance[:, 1, 0, 0] = torch.tensor([2.2, 3.0, -1.8, 9.0])
    result = score(Guards()(explain(relevance, total=torch.tensor([2.0, 2.0, -1.0, 0.0]))), "residual")
    assert (result.n, result.dropped) == (3, {"total of zero": 1})
    assert result.value == pytest.approx(0.5)


def test_a_method_that_promises_no_sum_has_no_residual(explain, score):
    result = score(Guards()(explain(torch.randn(3, 4, 4))), "residual")
    assert (result.value, result.n, result.dropped) == (None, 0, {"no sum promised": 3})


def test_the_sum_of_relevance_is_exact_where_float32_is_not(explain):
    relevance = torch.full((1, 3, 224, 224), 0.1)
    columns = Guards()(explain(relevance))
    assert columns["relevance_sum"].item() == pytest.approx(float(relevance[0, 0, 0, 0]) * 3 * 224 * 224, rel=1e-13)


def test_constant_and_non_finite_maps_are_percent_of_all_images(explain, score):
    maps = torch.randn(4, 4, 4)
    maps[0], maps[1, 2, 2] = 0.1, torch.nan
    columns = Guards()(explain(maps))
    assert columns["constant"].tolist() == [1, 0, 0, 0]
    assert score(columns, "constant").value == 25
    assert score(columns, "non_finite").value == 25


def test_relevance_that_cancels_across_channels_is_a_constant_map(explain):
    relevance = torch.randn(1, 2, 4, 4)
    relevance[:, 1] = -relevance[:, 0]
    assert Guards()(explain(relevance))["constant"].tolist() == [1]


def test_tie_share_counts_every_pixel_whose_value_occurs_again(explain, score):
    maps = torch.randint(0, 40, (5, 24, 24))
    maps[0] = torch.arange(24 * 24).view(24, 24)
    maps[1] = 7
    times = [Counter(m.ravel().tolist()) for m in maps]
    expected = [sum(n for n in t.values() if n > 1) / 576 for t in times]
    columns = Guards()(explain(maps.float()))
    assert columns["tie_share"].tolist() == pytest.approx(expected)
    assert expected[:2] == [0, 1]
    assert score(columns, "ties").value == pytest.approx(100 * sum(expected) / 5)

"""Laws of every metric, whatever it measures."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from rapbench.core.abilities import Bounded
from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig
from rapbench.core.types import Batch, Network
from rapbench.metrics import METRICS
from rapbench.metrics.grid_pointing import cells_of
from rapbench.report.statistics import estimate

PARAMETERS = {
    "segmentation": {"ap": "soft"},
    "pointing_game": {"tolerance": "3", "smooth": "0.05"},
    "energy": {"region": "mask"},
    "grid_pointing": {"threshold": "0"},
    "perturbation": {"pixels": "20", "steps": "5"},
    "degradation": {"patch": "4", "steps": "5"},
    "digit_conversion": {"pairs": "1-2 1-3", "pixels": "20"},
    "sensitivity_n": {"sizes": "1 4 64", "subsets": "5"},
    "infidelity": {"samples": "7"},
}
LEAST = {
    "perturbation": ({"pixels": "16", "steps": "4"}, (8, 8)),
    "degradation": ({"patch": "3", "steps": "6"}, (4, 7)),
    "deletion_insertion": ({"step": "64"}, (8, 8)),
    "single_deletion": ({}, (9, 4)),
    "saco": ({"groups": "64"}, (8, 8)),
    "sensitivity_n": ({"sizes": "1 63"}, (1, 64)),
    "randomisation": ({}, (20, 11)),
}
"""Metrics that some images are too small for: parameters, and one that is just large enough."""


def build(name):
    return METRICS.build(Call(name, PARAMETERS.get(name, {})))


@pytest.fixture
def batch(explain):
    boxes = (torch.tensor([[3, 4, 12, 20]]), torch.tensor([[0, 0, 5, 5], [4, 4, 9, 9]]), torch.tensor([[8, 1, 20, 9]]))
    masks = tuple((torch.rand(3, 24, 24) < 0.4).to(torch.uint8))
    plain = explain(torch.randn(3, 3, 24, 24), boxes=boxes, mask=masks, total=torch.tensor([1.0, 2.0, 3.0]))
    pictures = cells_of(plain.batch.x, 4).flatten(0, 1)
    cells = plain.network.classify(pictures).argmax(1).view(3, 2, 2)
    network = dataclasses.replace(plain.network, explain=lambda x, target, seeds: x * (1 + target.view(-1, 1, 1, 1)))
    return dataclasses.replace(plain, batch=dataclasses.replace(plain.batch, cells=tuple(cells)), network=network)


def one(batch, i):
    def single(value):
        return dataclasses.replace(value, **{f.name: cut(getattr(value, f.name)) for f in dataclasses.fields(value)})

    def cut(value):
        if value is None or isinstance(value, Network):
            return value
        return single(value) if isinstance(value, Batch) else value[i : i + 1]

    return single(batch)


def test_listing_the_metrics_does_not_import_torch():
    code = "import sys, rapbench.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", METRICS)
def test_a_catalogue_line_tells_which_end_is_better(name):
    assert "is better" in METRICS[name].summary


@pytest.mark.parametrize("name", METRICS)
def test_columns_hold_one_exact_entry_per_image(name, batch):
    for column in build(name)(batch).values():
        assert column.shape[0] == 3
        assert column.ndim <= 2
        assert column.dtype in (torch.float64, torch.int64)


@pytest.mark.parametrize("flawed", [False, True])
@pytest.mark.parametrize("name", METRICS)
def test_one_by_one_gives_the_columns_of_the_batch(name, flawed, batch):
    metric = build(name)
    if flawed:
        relevance = batch.relevance.clone()
        relevance[0] = 0.25
        batch = dataclasses.replace(batch, relevance=relevance)
    whole, singles = metric(batch), [metric(one(batch, i)) for i in range(3)]
    for column, values in whole.items():
        torch.testing.assert_close(
            torch.cat([s[column] for s in singles]), values, rtol=1e-6, atol=1e-6, equal_nan=True
        )


@pytest.mark.parametrize("name", [name for name in METRICS if name != "guards"])
def test_the_clean_image_is_compared_in_the_arithmetic_of_what_the_network_classifies(name, batch):
    metric, rounded = build(name), dataclasses.replace(batch, logits=-batch.logits, scored=batch.logits)
    for column, values in metric(batch).items():
        torch.testing.assert_close(metric(rounded)[column], values, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("name", METRICS)
def test_every_variant_has_a_value_inside_its_interval(name, signed, batch, rows_of):
    metric = build(name)
    rows = rows_of(metric(batch))
    for variant in metric.variants(signed=signed).values():
        result = estimate(variant, rows, seed=0, resamples=200)
        assert result.n == 3
        assert result.ci_low <= result.value <= result.ci_high


@pytest.mark.parametrize("name", METRICS)
def test_non_finite_relevance_is_counted_and_never_averaged(name, batch, rows_of):
    relevance = batch.relevance.clone()
    relevance[1, 0, 2, 3], relevance[1, 2, 7, 7] = torch.nan, torch.inf
    metric = build(name)
    columns = metric(dataclasses.replace(batch, relevance=relevance))
    assert columns["num_non_finite"].tolist() == [0, 2, 0]
    variants = metric.variants(signed=True)
    counting = {"non_finite", "constant"} if name == "guards" else set()
    for variant in (v for key, v in variants.items() if key not in counting):
        result = estimate(variant, rows_of(columns), seed=0, resamples=10)
        assert result.dropped == {"non-finite relevance": 1}
        assert np.isfinite(result.value)


@pytest.mark.parametrize("name", METRICS)
def test_a_wrong_parameter_is_refused_by_name(name):
    with pytest.raises(BadConfig, match="no parameter 'colour'"):
        METRICS.build(Call(name, {"colour": "red"}))


def test_metrics_that_some_images_are_too_small_for_are_all_held_to_it():
    assert {name for name in METRICS if isinstance(build(name), Bounded)} == set(LEAST)


@pytest.mark.parametrize("name", LEAST)
def test_an_image_that_is_too_small_is_refused_before_it_is_read(name):
    parameters, (height, width) = LEAST[name]
    metric = METRICS.build(Call(name, parameters))
    metric.check(height, width)
    with pytest.raises(BadConfig, match=f"{name}: "):
        metric.check(height, width - 1)

"""Networks without a number for some inputs: such images are counted and left out, and score nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rapbench.cli.finished import Finished, finished
from rapbench.metrics.digit_conversion import DigitConversion
from rapbench.metrics.perturbation import outcomes
from rapbench.run.resolve import prepare
from rapbench.run.spec import RunSpec

METRICS = (
    "outside_inside,segmentation,perturbation(steps=2),degradation(steps=2),single_deletion,saco,infidelity(samples=3),"
    "average_drop,randomisation(layers=1)"
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run of eight images through a network that has numbers for the five darkest."""
    given: dict[str, Any] = {"model": "doubles:Undecided", "weights": "random", "dataset": "doubles:Squares(count=8)"}
    given |= {"method": "random,doubles:Counting", "metric": METRICS, "device": "cpu"}
    experiment = prepare(RunSpec.read(None, {**given, "out": tmp_path_factory.mktemp("rows")}))
    images = torch.stack([experiment.dataset[n].image for n in range(8)])
    brightness = sorted(experiment.classifier.normalised(images).mean((1, 2, 3)).tolist())
    bounds: Any = experiment.classifier.module.bounds
    bounds[1] = brightness[4] + 1e-4
    return finished(experiment)


def test_an_image_without_a_logit_is_counted_by_the_guards_and_dropped_with_its_reason_by_every_metric(
    done: Finished,
) -> None:
    assert "random 37.5 % not finite" in done.text()
    scored = [result for result in done.results if result.cell.identity.metric.name != "guards"]
    assert {name.partition("(")[0] for name in METRICS.split(",")} == {r.cell.identity.metric.name for r in scored}
    assert {result.dropped.get("non-finite relevance") for result in scored} == {3}


def test_an_answer_that_is_no_number_once_pixels_are_gone_is_no_zero(done: Finished) -> None:
    """Perturbation scored such a step as a wrong answer."""
    found = {r.variant: r.estimate.n for r in done.results if r.cell.method == "doubles:Counting"}
    assert found["lerf_aopc_accuracy"] == found["lerf_aopc_probability"] < found["lerf_share_short"] == 5


def test_outcomes_without_a_number_are_none() -> None:
    logits, target = torch.tensor([[1.0, 2.0], [1.0, torch.nan], [torch.nan, 1.0]]), torch.tensor([1, 0, 1])
    found = outcomes(logits, target)
    assert found[0].isfinite().all()
    assert found[1:, :2].isnan().all()


def test_a_conversion_without_a_number_is_no_digit_that_stays() -> None:
    before, after = np.full((2, 10), 1.0), np.full((2, 10), -1.0)
    after[1] = np.nan
    rows = pd.DataFrame({"origin": [8, 8], "log_odds": list(before), "log_odds_erased": list(after)})
    flipped = DigitConversion(pairs="8-3").variants(signed=True)["flipped@8-3"].statistics(rows)
    assert flipped[0, 0] == 100
    assert np.isnan(flipped[1, 0])

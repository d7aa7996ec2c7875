"""Figures of signal estimators: the numbers they show, and that they can be drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rapbench.report.figures import Stored, rendered
from rapbench.report.pattern_figures import Figure3, Figure4a, degradation_curve


def quality() -> Stored:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        [
            {"layer": layer, "kind": kind, "inputs": 9, "unit": unit, "estimator": estimator, "rho": rng.random()}
            for layer, kind in (("features.0", "convolution"), ("features.2", "convolution"), ("fc", "dense"))
            for estimator in ("random", "S_w", "S_a", "S_a+-")
            for unit in range(20)
        ]
    )
    rows.loc[0, "rho"] = np.nan
    dataset = {"name": "scenes", "fitting": ["f", 0, 10], "reading": ["f", 10, 20], "scoring": ["v", 0, 5]}
    return Stored(identity={"dataset": dataset}, display={"model": "vgg16", "model_title": "vgg16"}, rows=rows)


def degradation(name: str, curves: np.ndarray, **display: str) -> Stored:
    rows = pd.DataFrame({"probability": list(curves), "num_non_finite": 0, "constant": 0})
    shown = {"dataset": "scenes", "model": "vgg16", "model_title": "vgg16", "weights": "w", "metric": "degradation"}
    identity = {"method": {"name": name}, "metric": {"parameters": {"steps": curves.shape[1] - 1}}}
    return Stored(identity=identity, display={**shown, "method": name, **display}, rows=rows)


def test_figure_3_shows_quantiles_over_units_and_counts_those_without_a_value() -> None:
    stored = quality()
    (drawing,) = Figure3()([stored])
    points = drawing.points.set_index(["layer", "estimator"])
    own = stored.rows.query("layer == 'fc' and estimator == 'S_a'")["rho"]
    assert points.loc[("fc", "S_a"), "p50"] == pytest.approx(own.median())
    assert points.loc[("fc", "S_a"), "p95"] == pytest.approx(own.quantile(0.95))
    assert tuple(points.loc[("features.0", "random"), ["units", "undefined"]]) == (19, 1)
    ticks = [tick.get_text() for tick in drawing.figure.axes[0].get_xticklabels()]
    assert ticks == ["conv 1", "conv 2", "dense 1"]
    assert rendered(drawing.figure, "png").startswith(b"\x89PNG")


def test_figure_4a_shows_mean_curves_in_the_papers_order_under_its_names() -> None:
    falling = np.linspace(0.9, 0.1, 11) + np.random.default_rng(0).normal(0, 0.05, (30, 11))
    names = ["pattern_attribution", "random", "lrp_a1b0", "signal_w", "input_gradient", "pattern_attribution_a"]
    (drawing,) = Figure4a()([degradation(name, falling) for name in names])
    assert list(dict.fromkeys(drawing.points["method"])) == ["random", "S_x", "S_w", "S_a", "S_a+-", "lrp_a1b0"]
    own = drawing.points.query("method == 'S_a'")
    np.testing.assert_allclose(own["probability"], falling.mean(0))
    assert (own["ci_low"] < own["probability"]).all()
    assert (own["probability"] < own["ci_high"]).all()
    assert rendered(drawing.figure, "png").startswith(b"\x89PNG")


def test_networks_have_drawings_of_their_own() -> None:
    curves = np.full((3, 4), 0.5)
    drawings = Figure4a()([degradation("random", curves), degradation("random", curves, model="vgg19")])
    assert [drawing.suffix for drawing in drawings] == ["scenes_vgg16", "scenes_vgg19"]


def test_images_without_a_curve_are_left_out() -> None:
    stored = degradation("random", np.array([[0.9, 0.1], [np.nan, np.nan], [0.7, 0.5]]))
    stored.rows.loc[1, "constant"] = 1
    curve = degradation_curve(stored)
    assert list(curve["n"]) == [2, 2]
    np.testing.assert_allclose(curve["fall"], [0, 0.5])

"""Figures of signal estimators: the numbers they show, and that they can be drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from stored import cell, held

from rapbench.papers.pattern2017.figure3 import Figure3
from rapbench.papers.pattern2017.figure4a import Figure4a, degradation_curve
from rapbench.report.figures import rendered
from rapbench.results.cell import MetricIdentity
from rapbench.results.store import Held


def quality() -> Held:
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
    own = cell("random", dataset="scenes", title="vgg16")
    sets = {"fitting": [0, 10], "reading": [10, 20], "scoring": [0, 5]}
    metric = MetricIdentity(name="signal_quality", parameters=sets)
    return held(replace(own, identity=replace(own.identity, metric=metric), metric="signal_quality"), rows)


def degradation(name: str, curves: np.ndarray, **chosen: Any) -> Held:
    rows = pd.DataFrame({"probability": list(curves), "num_non_finite": 0, "constant": 0})
    metric = f"degradation(steps={curves.shape[1] - 1})"
    return held(cell(name, metric=metric, dataset="scenes", **chosen), rows)


def test_figure_3_shows_quantiles_over_units_and_counts_those_without_a_value() -> None:
    stored = quality()
    (drawing,) = Figure3()([stored])
    points = drawing.points.set_index(["layer", "estimator"])
    own = stored.rows.frame.query("layer == 'fc' and estimator == 'S_a'")["rho"]
    assert points.loc[("fc", "S_a"), "p50"] == pytest.approx(own.median())
    assert points.loc[("fc", "S_a"), "p95"] == pytest.approx(own.quantile(0.95))
    assert tuple(points.loc[("features.0", "random"), ["units", "undefined"]]) == (19, 1)
    ticks = [tick.get_text() for tick in drawing.figure.axes[0].get_xticklabels()]
    assert ticks == ["conv 1", "conv 2", "dense 1"]
    assert rendered(drawing.figure, "png").startswith(b"\x89PNG")


def test_an_estimator_has_the_colour_of_its_method_in_both_figures() -> None:
    of_layers, of_steps = {}, {}
    (drawing,) = Figure3()([quality()])
    for bars in drawing.figure.axes[0].containers:
        of_layers[str(bars.get_label())] = to_hex(bars.patches[0].get_facecolor())
    names = ["pattern_attribution", "random", "signal_w", "pattern_attribution_a"]
    (drawing,) = Figure4a()([degradation(name, np.full((3, 4), 0.5)) for name in names])
    for line in drawing.figure.axes[0].get_lines():
        of_steps[str(line.get_label())] = to_hex(line.get_color())
    assert of_layers == of_steps
    assert len(set(of_steps.values())) == 4


def test_figure_4a_shows_mean_curves_in_the_papers_order_under_its_names() -> None:
    falling = np.linspace(0.9, 0.1, 11) + np.random.default_rng(0).normal(0, 0.05, (30, 11))
    names = ["pattern_attribution", "random", "lrp_a1b0", "signal_w", "input_gradient", "pattern_attribution_a"]
    (drawing,) = Figure4a()([degradation(name, falling) for name in names])
    assert list(dict.fromkeys(drawing.points["name"])) == ["random", "S_x", "S_w", "S_a", "S_a+-", "lrp_a1b0"]
    own = drawing.points.query("name == 'S_a'")
    np.testing.assert_allclose(own["probability"], falling.mean(0))
    assert (own["ci_low"] < own["probability"]).all()
    assert (own["probability"] < own["ci_high"]).all()
    assert rendered(drawing.figure, "png").startswith(b"\x89PNG")


def test_networks_have_panels_of_their_own() -> None:
    curves = np.full((3, 4), 0.5)
    (drawing,) = Figure4a()([degradation("random", curves), degradation("random", curves, model="vgg19")])
    titles = [axes.get_title().splitlines()[0] for axes in drawing.figure.axes]
    assert titles == ["vgg16 (IMAGENET1K_V1)", "vgg19 (IMAGENET1K_V1)"]


def test_images_without_a_curve_are_left_out() -> None:
    stored = degradation("random", np.array([[0.9, 0.1], [np.nan, np.nan], [0.7, 0.5]]))
    stored.rows.frame.loc[1, "constant"] = 1
    curve = degradation_curve(stored)
    assert curve.n == 2
    np.testing.assert_allclose(curve.y, [0.8, 0.3])


def test_a_method_without_an_image_is_named_and_the_others_are_drawn() -> None:
    nothing = degradation("signal_w", np.array([[0.9, 0.1]]))
    nothing.rows.frame["constant"] = 1
    (drawing,) = Figure4a()([nothing, degradation("random", np.array([[0.9, 0.1], [0.7, 0.5]]))])
    assert drawing.notes == ("S_w has no defined image",)
    assert set(drawing.points["name"]) == {"random"}
    (legend,) = drawing.figure.legends
    assert "S_w (no image)" in [text.get_text() for text in legend.get_texts()]


def test_the_band_is_drawn_by_the_seed_of_the_run() -> None:
    curves = np.random.default_rng(0).random((12, 5))
    one, two, again = (degradation_curve(degradation("random", curves, seed=seed)) for seed in (0, 1, 0))
    assert (one.ci_low == again.ci_low).all()
    assert (one.ci_low != two.ci_low).any()

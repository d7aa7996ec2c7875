"""Box plots of digit conversion: what is drawn, in which order, and the numbers beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from stored import cell, held

from rapbench.papers.deeplift2017.figure4 import Figure4, MaskedDigit, masked_digits
from rapbench.report.figures import colour, rendered
from rapbench.results.store import Held


def stored(
    method: str, shift: float, *, pairs: str = "8-3 8-6", dataset: str = "mnist", count: int = 40, **given: Any
) -> Held:
    """Rows of as many eights and nines, whose eights lose `shift` more than noise."""
    generator = np.random.default_rng(1)
    before = generator.normal(5, 1, (2 * count, 10))
    after = before - generator.normal(shift, 1, before.shape)
    rows = pd.DataFrame(
        {
            "index": range(2 * count),
            "origin": [8, 9] * count,
            "log_odds": list(before),
            "log_odds_erased": list(after),
            "num_non_finite": [1] + [0] * (2 * count - 1),
        }
    )
    chosen = f"digit_conversion(pairs={pairs})"
    return held(cell(method, metric=chosen, dataset=dataset, model="mnist_cnn", title="net", **given), rows)


def drops(one: Held, target: int) -> np.ndarray:
    rows = one.rows.frame.query("origin == 8 and num_non_finite == 0")
    return np.stack(rows["log_odds"].to_list())[:, target] - np.stack(rows["log_odds_erased"].to_list())[:, target]


def test_there_is_a_panel_a_pair_and_a_box_a_method_in_the_papers_order() -> None:
    methods = ["deeplift", "integrated_gradients(steps=5)", "gradient", "something", "guided_backprop"]
    (drawing,) = Figure4()([stored(method, n) for n, method in enumerate(methods)])
    panels = drawing.figure.axes
    assert [axes.get_title() for axes in panels] == ["8 → 3, n = 39", "8 → 6, n = 39"]
    names = ["Guided Backprop", "Gradient", "Integrated Gradients\n(steps=5)", "something", "DeepLIFT"]
    for axes in panels:
        assert [text.get_text() for text in axes.get_xticklabels()] == names
        assert len(axes.patches) == 5


def test_the_points_are_the_numbers_of_the_boxes() -> None:
    one = stored("deeplift", 3.0)
    (drawing,) = Figure4()([one])
    row = drawing.points.set_index("pair").loc["8-6"]
    expected = drops(one, 6)
    assert row["n"] == 39
    assert row["median"] == pytest.approx(np.median(expected))
    assert row["mean"] == pytest.approx(expected.mean())
    assert (row["q1"], row["q3"]) == pytest.approx(tuple(np.percentile(expected, [25, 75])))
    assert row["ci_low"] < row["median"] < row["ci_high"]
    line = next(line for line in drawing.figure.axes[1].get_lines() if line.get_linewidth() == 1.2)
    assert line.get_ydata()[0] == pytest.approx(np.median(expected))


def test_the_network_and_the_data_are_named_and_a_method_has_the_colour_that_it_has_elsewhere() -> None:
    (drawing,) = Figure4()([stored("deeplift", 1.0), stored("random", 0.0), stored("gradient", 0.5)])
    assert drawing.figure.get_suptitle() == "digit_conversion(pairs=8-3 8-6) on mnist, net".replace(
        "(pairs=8-3 8-6)", ""
    )
    boxes = [to_hex(patch.get_facecolor()) for patch in drawing.figure.axes[0].patches]
    assert boxes == [to_hex(colour(name)) for name in ("gradient", "random", "deeplift")]


def test_many_pairs_are_one_panel_of_their_medians() -> None:
    (drawing,) = Figure4()([stored("deeplift", 3.0, pairs="all")])
    assert [axes.get_title() for axes in drawing.figure.axes] == ["medians of 18 pairs of digits"]
    assert set(drawing.points["pair"].str[0]) == {"8", "9"}


def test_other_data_and_settings_have_drawings_of_their_own() -> None:
    drawings = Figure4()([stored("deeplift", 1.0), stored("deeplift", 1.0, dataset="digits")])
    assert [drawing.suffix for drawing in drawings] == ["digits_net_digit_conversion", "mnist_net_digit_conversion"]
    assert Figure4()([]) == []


def test_the_example_shows_what_each_method_erases_and_its_relevance() -> None:
    image = np.random.default_rng(0).random((6, 6))
    gone = image > 0.7
    scores = {8: image - 0.5, 3: 0.5 - image}
    digit = MaskedDigit(title="DeepLIFT", scores=scores, erased={(8, 3): gone}, drops={(8, 3): 12.34})
    figure = masked_digits(image, [digit, digit], "mnist, net")
    assert len(figure.axes) == 9
    masked, relevance = figure.axes[1], figure.axes[4]
    shown = np.asarray(masked.get_images()[0].get_array())
    assert np.allclose(shown[~gone], image[~gone, np.newaxis])
    assert (shown[gone][:, 0] > shown[gone][:, 1]).all()
    assert masked.get_xlabel() == "D = 12.3"
    assert np.array_equal(np.asarray(relevance.get_images()[0].get_array()), scores[8])
    assert relevance.get_images()[0].get_clim() == pytest.approx(
        (-np.abs(image - 0.5).max(), np.abs(image - 0.5).max())
    )
    assert rendered(figure, "png") == rendered(masked_digits(image, [digit, digit], "mnist, net"), "png")

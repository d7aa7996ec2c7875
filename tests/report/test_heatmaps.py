"""Heatmaps: what colour stands for what, and what is written beside it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from PIL import Image

from rapbench.report.figures import rendered
from rapbench.report.heatmaps import Row, heatmaps

PHOTO = np.random.default_rng(0).random((8, 8, 3))
SIGNED = np.array([[-2.0, 0.0], [0.5, 1.0]])


def row(maps: dict[str, Any], **given: Any) -> Row:
    return Row(photo=PHOTO, caption="cat (3)\nlogit 1.00", maps=maps, **given)


def image(axes: Axes) -> AxesImage:
    (found,) = axes.get_images()
    return found


def colours(values: np.ndarray) -> np.ndarray:
    """RGB (h, w, 3) in which a map is drawn."""
    drawn = image(heatmaps([row({"RAP": values})]).axes[1])
    return drawn.to_rgba(drawn.get_array())[..., :3]


def test_red_is_for_blue_is_against_white_is_zero_on_a_symmetric_scale() -> None:
    rgb = colours(SIGNED)
    assert rgb[0, 0, 2] > rgb[0, 0, 0]
    assert rgb[1, 1, 0] > rgb[1, 1, 2]
    assert rgb[0, 1].min() > 0.98
    assert image(heatmaps([row({"RAP": SIGNED})]).axes[1]).get_clim() == (-2, 2)


def test_each_map_has_a_scale_of_its_own() -> None:
    figure = heatmaps([row({"a": SIGNED, "b": 10 * SIGNED})])
    assert [image(axes).get_clim() for axes in figure.axes[1:3]] == [(-2, 2), (-20, 20)]


def test_colours_can_end_at_a_percentile_of_the_magnitudes() -> None:
    values = np.linspace(-1, 1, 201).reshape(3, 67)
    values[0, 0] = -50
    figure = heatmaps([row({"RAP": values})], "vgg16 (random)", 99)
    end = np.percentile(np.abs(values), 99)
    assert image(figure.axes[1]).get_clim() == pytest.approx((-end, end))
    assert end < 1
    assert [text.get_text() for text in figure.axes[-1].get_yticklabels()] == ["−P99 |R|", "0", "P99 |R|"]
    assert figure.get_suptitle() == "vgg16 (random)"


def test_where_the_percentile_is_zero_colours_end_at_the_largest() -> None:
    values = np.zeros((20, 20))
    values[3, 3] = 5
    assert image(heatmaps([row({"RAP": values})], "", 99).axes[1]).get_clim() == (-5, 5)


def test_values_that_are_not_finite_are_grey_and_take_no_part_in_the_scale() -> None:
    rgb = colours(np.array([[np.nan, 1.0], [0.0, -1.0]]))
    assert np.ptp(rgb[0, 0]) == 0
    assert rgb[0, 0, 0] == pytest.approx(0.6, abs=0.01)
    assert rgb[0, 1, 0] > rgb[0, 1, 2]
    assert np.isfinite(colours(np.full((2, 2), np.nan))).all()


def test_an_empty_map_is_white() -> None:
    assert colours(np.zeros((2, 2))).min() > 0.98


def test_pictures_titles_captions_and_names_are_where_a_reader_looks() -> None:
    maps = {"RAP": SIGNED, "LRP α1β0": np.ones((5, 5))}
    figure = heatmaps([row(maps, name="first"), row(maps)])
    photo, *others = figure.axes
    assert np.array_equal(image(photo).get_array(), PHOTO)
    assert (photo.get_xlabel(), photo.get_ylabel()) == ("cat (3)\nlogit 1.00", "first")
    assert [axes.get_title() for axes in others[:2]] == ["RAP", "LRP α1β0"]
    assert [axes.get_title() for axes in others[2:5]] == [""] * 3
    assert [text.get_text() for text in figure.axes[-1].get_yticklabels()] == ["−max |R|", "0", "max |R|"]


def test_a_grey_picture_is_drawn_grey() -> None:
    figure = heatmaps([Row(photo=PHOTO[..., :1], caption="", maps={"RAP": SIGNED})])
    drawn = image(figure.axes[0])
    rgb = drawn.to_rgba(drawn.get_array().squeeze())[..., :3]
    np.testing.assert_allclose(rgb, np.broadcast_to(PHOTO[..., :1], rgb.shape), atol=1 / 128)


def test_nothing_is_clipped_and_signs_in_names_are_no_formulas() -> None:
    maps = {"$a_$": SIGNED, "a title that is much wider than its panel": SIGNED}
    figure = heatmaps([Row(photo=PHOTO, caption="cost $\\alph$\nand\nmuch\nmore", maps=maps, name="$\\d$")])
    assert figure.axes[2].get_title().count("\n") == 1
    pixels = np.asarray(Image.open(io.BytesIO(rendered(figure, "png"))).convert("L"))
    for border in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert border.min() == 255


def test_the_same_maps_give_the_same_bytes() -> None:
    for form in ("png", "svg", "pdf"):
        assert rendered(heatmaps([row({"RAP": SIGNED})]), form) == rendered(heatmaps([row({"RAP": SIGNED})]), form)


def test_control_characters_in_names_are_seen() -> None:
    figure = heatmaps([Row(photo=PHOTO, caption="\x1b[31mcat", maps={"\x07map": SIGNED}, name="\u202erow")])
    assert figure.axes[0].get_xlabel() == "\\x1b[31mcat"
    assert figure.axes[0].get_ylabel() == "\\u202erow"
    assert figure.axes[1].get_title() == "\\x07map"
    assert rendered(figure, "png")

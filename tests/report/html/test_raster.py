"""Picture files show what the numbers are, and outlines follow the pixels."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rapbench.report.heatmaps import COLOURS
from rapbench.report.html.raster import SIDE, map_png, outline, photo_webp


def pixels(content: bytes) -> NDArray[np.uint8]:
    return np.array(Image.open(io.BytesIO(content)).convert("RGB"))


def colour(at: float) -> list[int]:
    return [int(part) for part in np.rint(np.array(COLOURS(at)[:3]) * 255)]


def test_zero_is_white_and_the_ends_are_the_ends_of_the_scale() -> None:
    values = np.zeros((20, 20))
    values[0], values[1] = 3.0, -3.0
    shown = pixels(map_png(values))
    assert shown[5, 5].tolist() == colour(0.5)
    assert shown[0, 0].tolist() == colour(1.0)
    assert shown[1, 0].tolist() == colour(0.0)


def test_colours_end_at_a_percentile_and_not_at_the_greatest_magnitude() -> None:
    values = np.full((20, 20), 1.0)
    values[0, 0], values[1, 0] = 1000.0, -0.5
    shown = pixels(map_png(values))
    assert shown[0, 0].tolist() == shown[5, 5].tolist() == colour(1.0)
    assert shown[1, 0].tolist() == colour(0.25)


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_the_size_of_relevance_does_not_change_its_picture(factor: float) -> None:
    values = np.random.default_rng(0).normal(size=(30, 30))
    assert (pixels(map_png(values * factor)) == pixels(map_png(values))).all()


def test_a_map_of_the_other_sign_is_the_mirror_of_the_scale() -> None:
    values = np.linspace(-1, 1, 400).reshape(20, 20)
    one, other = Image.open(io.BytesIO(map_png(values))), Image.open(io.BytesIO(map_png(-values)))
    levels, mirrored = np.array(one).astype(int), np.array(other).astype(int)
    assert (levels + mirrored == levels.min() + levels.max()).all()


def test_a_map_without_negative_relevance_has_no_blue() -> None:
    shown = pixels(map_png(np.random.default_rng(0).random((30, 30)))).astype(int)
    assert (shown[..., 0] >= shown[..., 2]).all()


@pytest.mark.parametrize("values", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.full((4, 4), np.inf)])
def test_a_map_without_a_scale_has_a_picture(values: NDArray[np.float64]) -> None:
    grey = not np.isfinite(values).any()
    assert (pixels(map_png(values)) == colour(np.nan if grey else 0.5)).all()


@pytest.mark.parametrize(("side", "shown"), [(28, 28), (224, 224), (299, SIDE), (448, SIDE)])
def test_what_is_larger_than_the_page_shows_is_made_smaller(side: int, shown: int) -> None:
    values = np.random.default_rng(0).normal(size=(side, side))
    assert pixels(map_png(values)).shape[:2] == (shown, shown)
    assert pixels(photo_webp(np.ones((side, side, 3)))).shape[:2] == (shown, shown)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_photo_is_close_to_its_pixels(channels: int) -> None:
    photo = np.tile(np.linspace(0, 1, 64)[:, None, None], (1, 64, channels))
    assert np.abs(pixels(photo_webp(photo)) / 255 - photo).mean() < 0.02


@pytest.mark.parametrize("seed", range(5))
def test_an_outline_separates_the_mask_from_the_rest(seed: int) -> None:
    """Drawn on a raster of twice the size, the lines lie between pixels, and filling them restores the mask."""
    generator = np.random.default_rng(seed)
    mask = generator.random((12, 15)) < 0.5
    canvas = Image.new("L", (2 * 15 + 1, 2 * 12 + 1))
    draw = ImageDraw.Draw(canvas)
    for x, y, way, end in re.findall(r"M(\d+) (\d+)([HV])(\d+)", outline(mask, [])):
        stop = (2 * int(end), 2 * int(y)) if way == "H" else (2 * int(x), 2 * int(end))
        draw.line([(2 * int(x), 2 * int(y)), stop], fill=255)
    lines = np.array(canvas) > 0
    padded = np.pad(mask, 1)
    across = lines[1::2, 0::2]
    down = lines[0::2, 1::2]
    assert (across == (padded[1:-1, 1:] != padded[1:-1, :-1])).all()
    assert (down == (padded[1:, 1:-1] != padded[:-1, 1:-1])).all()


def test_lines_that_go_on_are_one() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[2:5, 3:9] = True
    assert sorted(re.findall(r"M[^M]*", outline(mask, []))) == ["M3 2H9", "M3 2V5", "M3 5H9", "M9 2V5"]


def test_boxes_are_drawn_at_their_edges_and_nothing_where_there_is_nothing() -> None:
    assert outline(None, [(1, 2, 5, 8)]) == "M1 2H5V8H1Z"
    assert outline(None, []) == outline(np.zeros((3, 3), dtype=bool), []) == ""

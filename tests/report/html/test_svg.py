"""Places, ticks and shapes of pictures."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rapbench.report.html.svg import Scale, area, dashes, mark, picture, text

ranges = pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 7), (0.001, 0.0017), (49.96, 93.97), (-2e6, 3e6), (0, 4000), (1e-9, 2e-9)]
)


@ranges
def test_ticks_are_few_round_and_within(low: float, high: float) -> None:
    ticks = Scale(low=low, high=high, start=0, end=100).ticks(6)
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])
    assert f"{steps[0]:e}"[0] in "125"


@ranges
def test_a_scale_is_linear_between_its_ends_and_stays_within_them(low: float, high: float) -> None:
    scale = Scale(low=low, high=high, start=10, end=90)
    assert [scale(low), scale((low + high) / 2), scale(high)] == pytest.approx([10, 50, 90])
    assert [scale(low - (high - low)), scale(high + (high - low))] == [10, 90]


def test_a_scale_without_extent_has_a_middle() -> None:
    scale = Scale(low=2, high=2, start=0, end=10)
    assert scale(2) == 5
    assert scale.ticks() == [2]


@pytest.mark.parametrize("shape", "os^DvPX*<>p")
def test_every_marker_of_the_figures_is_drawn_around_its_place(shape: str) -> None:
    drawn = mark(shape, (50, 60), 4, "mark")
    if shape == "o":
        assert 'cx="50.0" cy="60.0"' in drawn
        return
    places = np.array(re.findall(r"([\d.]+) ([\d.]+)", drawn.partition('d="M')[2]), float)
    assert len(places) >= 3
    assert np.abs(places.mean(axis=0) - [50, 60]).max() < 0.1
    assert np.hypot(*(places - [50, 60]).T).max() == pytest.approx(5.2, abs=0.1)


def test_dashes_are_in_widths_of_the_line() -> None:
    assert dashes("-", 2) == {"stroke-width": "2"}
    assert dashes("--", 2) == {"stroke-width": "2", "stroke-dasharray": "7.4 3.2"}
    assert dashes((0, (4, 1)), 1.5) == {"stroke-width": "1.5", "stroke-dasharray": "6.0 1.5"}


def test_a_picture_says_what_it_is_and_its_text_is_text() -> None:
    drawn = picture(10, 20, "A < B", "two", area([(0, 0), (1, 0), (1, 1)], "box"), text("x & y", (1, 2)))
    assert drawn.startswith('<svg viewBox="0 0 10 20" role="img" aria-label="A &lt; B. two"><title>A &lt; B</title>')
    assert ">x &amp; y</text>" in drawn

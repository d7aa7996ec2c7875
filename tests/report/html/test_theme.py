"""What is read and what is drawn is seen in both themes, as level AA of the guidelines asks."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from rapbench.methods import METHODS, is_control
from rapbench.report.figures import COLOURS
from rapbench.report.html.theme import DARK, LIGHT, SHAPE_CONTRAST, contrast, seen, series, variables

TEXTS = ("ink", "soft", "accent", "warn")
GROUNDS = ("ground", "raised", "best")
TEXT_CONTRAST = 4.5
"""The least contrast of text. Source: WCAG 2.2, criterion 1.4.3, level AA."""
themes = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == contrast("#ffffff", "#777777") == pytest.approx(4.48, abs=0.005)
    assert contrast("#123456", "#123456") == 1


@themes
def test_every_text_is_read_on_every_ground(theme: Mapping[str, str]) -> None:
    assert {(t, g) for t in TEXTS for g in GROUNDS if contrast(theme[t], theme[g]) < TEXT_CONTRAST} == set()


@themes
def test_the_lines_of_every_method_are_seen(theme: Mapping[str, str]) -> None:
    drawn = dict(part.removeprefix("--").split(":") for part in variables(theme).split(";") if part)
    classes = {series(name) for name in METHODS}
    grounds = (theme["ground"], theme["raised"])
    assert {c for c in classes if min(contrast(drawn[c], ground) for ground in grounds) < SHAPE_CONTRAST} == set()


@themes
def test_a_colour_that_is_seen_already_is_left_as_it_is(theme: Mapping[str, str]) -> None:
    grounds = (theme["ground"], theme["raised"])
    plain = [c.lower() for c in COLOURS if min(contrast(c, ground) for ground in grounds) >= SHAPE_CONTRAST]
    assert plain
    assert [seen(colour, theme) for colour in plain] == plain


@themes
def test_colours_stay_different_from_one_another(theme: Mapping[str, str]) -> None:
    assert len({seen(colour, theme) for colour in COLOURS}) == len(COLOURS)


def test_controls_are_grey_and_no_method_is() -> None:
    assert {name for name in METHODS if series(name) == "grey"} == {name for name in METHODS if is_control(name)}

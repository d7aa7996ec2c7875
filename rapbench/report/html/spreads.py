"""Boxes of a page: how scores are spread over images, beside the numbers of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from rapbench.report.boxes import QUANTILES, Box, boxes, points
from rapbench.report.formats import interval, number
from rapbench.report.html import svg
from rapbench.report.html.figures import Place, figure, panel
from rapbench.report.html.markup import Markup, element, joined
from rapbench.report.html.parts import Part
from rapbench.report.html.svg import Scale
from rapbench.report.html.tables import Row, cell, column, row_head, table
from rapbench.report.html.theme import series
from rapbench.report.tables import Scores

_WIDTH, _RIGHT, _TOP, _BOTTOM = 560, 24, 14, 30
_ROW, _LETTER, _MOST_LETTERS = 26, 7.0, 30
_BOX = 6
"""Half the height of a box."""


def spreads(found: Scores, at: Place) -> tuple[Part, ...]:
    """Boxes over images of each headline variant of a table, with their numbers."""
    shown = {variant: some for variant in found.variants if (some := boxes(found, variant))}
    if not shown:
        return ()
    pictures = [_spread(variant, found.variants[variant], some, at.title) for variant, some in shown.items()]
    numbers = pd.concat([points(some) for some in shown.values()], ignore_index=True)
    return figure(at, element("figure", {"class": "panels"}, *pictures), _numbers(shown, at.numbers), numbers)


def _spread(variant: str, direction: str, drawn: Sequence[Box], name: str) -> Markup:
    """A row a method."""
    names = [svg.shortened(box.name, _MOST_LETTERS) for box in drawn]
    left = 14 + _LETTER * max(map(len, names))
    height = _TOP + _ROW * len(drawn) + _BOTTOM
    scale = _scale(drawn, left)
    rows = [
        _row(box, text, scale, _TOP + _ROW * (n + 0.5)) for n, (box, text) in enumerate(zip(drawn, names, strict=True))
    ]
    told = "; ".join(f"{b.name} {number(b.result.estimate.value or 0.0)}" for b in drawn)
    description = f"{variant}, {direction} is better: {told}."
    axis = svg.across(scale, _TOP, height - _BOTTOM)
    picture = svg.picture(_WIDTH, height, f"{name}, {variant}", description, axis, *rows)
    caption = joined([element("strong", {}, variant), f" {direction} is better"])
    return panel(variant, caption, picture)


def _scale(drawn: Sequence[Box], left: float) -> Scale:
    """From the lowest whisker or interval of a method to the highest; controls beyond stand at the edge."""
    of = [box for box in drawn if not box.is_control] or drawn
    ends = [end for box in of for end in _ends(box)]
    low, high = min(ends), max(ends)
    room = 0.03 * (high - low) or 0.5
    return Scale(low=low - room, high=high + room, start=left, end=_WIDTH - _RIGHT)


def _ends(box: Box) -> list[float]:
    found = box.result.estimate
    known = [value for value in (found.value, found.ci_low, found.ci_high) if value is not None]
    return known if box.quantiles is None else [*known, *map(float, box.quantiles)]


def _row(box: Box, name: str, scale: Scale, y: float) -> Markup:
    found, kind = box.result.estimate, series(box.result.cell.identity.method.name)
    ends = (
        [] if found.ci_low is None or found.ci_high is None else [(scale(found.ci_low), y), (scale(found.ci_high), y)]
    )
    heavy = [svg.line(ends, "heavy")] if ends else []
    value = svg.mark("D", (scale(found.value or 0.0), y), 4, "mark")
    label = svg.text(name, (scale.start - 8, y + 4), "label", "end")
    return element("g", {"class": kind}, element("title", {}, box.name), label, *_box(box, scale, y), *heavy, value)


def _box(box: Box, scale: Scale, y: float) -> list[Markup]:
    if box.quantiles is None:
        return []
    low, first, middle, third, high = (scale(float(q)) for q in box.quantiles)
    corners = [(first, y - _BOX), (third, y - _BOX), (third, y + _BOX), (first, y + _BOX)]
    whiskers = [svg.line([(low, y), (first, y)], "thin"), svg.line([(third, y), (high, y)], "thin")]
    return [*whiskers, svg.area(corners, "box"), svg.line([(middle, y - _BOX), (middle, y + _BOX)], "thin")]


def _numbers(shown: Mapping[str, Sequence[Box]], name: str) -> Markup:
    texts = ("method", "variant", "value", *(f"P{q}" for q in QUANTILES), "images")
    header = [column(text, numeric=text not in {"method", "variant"}) for text in texts]
    rows = [Row(cells=_box_cells(box), is_control=box.is_control) for drawn in shown.values() for box in drawn]
    return table(name, header, rows)


def _box_cells(box: Box) -> tuple[Markup, ...]:
    found = box.result.estimate
    small = element("span", {"class": "interval"}, interval(found.ci_low, found.ci_high))
    value = cell(joined([number(found.value or 0.0), " ", small]), "number", found.value)
    spread = ["-"] * len(QUANTILES) if box.quantiles is None else [number(float(q)) for q in box.quantiles]
    of_images = [cell(text) for text in spread]
    return (row_head(box.name), cell(box.result.variant, "words"), value, *of_images, cell(str(found.n)))

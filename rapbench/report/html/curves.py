"""Curves of a page with their bands, a picture a panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rapbench.report.curves import Curve, Plot, entry, title
from rapbench.report.formats import interval, number, printable
from rapbench.report.html import svg
from rapbench.report.html.figures import Place, figure, panel
from rapbench.report.html.markup import Markup, element, joined, prose
from rapbench.report.html.parts import Part
from rapbench.report.html.svg import Scale
from rapbench.report.html.tables import Row, cell, column, row_head, table
from rapbench.report.html.theme import series
from rapbench.results.select import Group

_WIDTH, _HEIGHT = 560, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 24, 14, 52


def curves(plot: Plot, at: Place) -> tuple[Part, ...]:
    """Curves of one setting, a picture a panel, with a legend and their points."""
    panels = [_panel(group, plot, at.title) for group in plot.panels]
    shown = element("figure", {"class": "panels"}, *panels, _legend(plot))
    notes = [prose(note, "note") for note in plot.notes]
    return figure(at, joined([shown, *notes]), table(at.numbers, _header(plot), _rows(plot)), plot.points)


def _panel(group: Group[Curve], plot: Plot, name: str) -> Markup:
    drawn = [found for found in group.members if found.n]
    across = Scale(low=0, high=max((int(f.x[-1]) for f in drawn), default=1), start=_LEFT, end=_WIDTH - _RIGHT)
    upwards = Scale(low=plot.lowest, high=plot.top, start=_HEIGHT - _BOTTOM, end=_TOP)
    lines = [_curve(found, n, len(drawn), plot.looks[found.name], across, upwards) for n, found in enumerate(drawn)]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    picture = svg.picture(
        *(_WIDTH, _HEIGHT, f"{name}, {title(group)[0]}", _told(drawn, plot)),
        svg.across(across, _TOP, _HEIGHT - _BOTTOM),
        svg.upwards(upwards, _LEFT, _WIDTH - _RIGHT),
        *(_band(found, across, upwards) for found in drawn if not found.is_control),
        *lines,
        svg.text(printable(plot.labels.x_label), (middle, _HEIGHT - 12), "axis", "middle"),
    )
    caption = joined([element("strong", {}, title(group)[0]), " ", title(group)[1], f" — {plot.labels.y_label}"])
    return panel(title(group)[0], caption, picture)


def _told(drawn: Sequence[Curve], plot: Plot) -> str:
    """What is seen, in words."""
    ends = [f"{found.name} ends at {number(float(found.y[-1]))}" for found in drawn]
    return f"{plot.labels.y_label} against {plot.labels.x_label}, with 95 % bands: {'; '.join(ends)}."


def _band(found: Curve, across: Scale, upwards: Scale) -> Markup:
    places = [across(float(x)) for x in found.x]
    high = [(x, upwards(float(y))) for x, y in zip(places, found.ci_high, strict=True)]
    low = [(x, upwards(float(y))) for x, y in zip(places, found.ci_low, strict=True)]
    return svg.area([*high, *reversed(low)], f"band {series(found.cell.identity.method.name)}")


def _curve(found: Curve, n: int, count: int, look: Mapping[str, Any], across: Scale, upwards: Scale) -> Markup:
    """A curve with a few marks; those of neighbouring curves do not cover each other."""
    places = [(across(float(x)), upwards(float(y))) for x, y in zip(found.x, found.y, strict=True)]
    every = max(1, len(places) // 8)
    kind = series(found.cell.identity.method.name)
    marks = places[n * every // count :: every] if "marker" in look else []
    drawn = svg.line(places, "curve", svg.dashes(look["linestyle"], 1.6 * look["linewidth"]))
    name = element("title", {}, found.name)
    return element("g", {"class": kind}, name, drawn, *(svg.mark(look["marker"], at, 3.2, "mark") for at in marks))


def _legend(plot: Plot) -> Markup:
    methods = {found.name: found.cell.identity.method.name for found in plot.curves}
    entries = [
        element("li", {}, _sample(look, series(methods[name])), entry(name, plot.curves, plot.lowest))
        for name, look in plot.looks.items()
    ]
    return element("ul", {"class": "legend"}, *entries)


def _sample(look: Mapping[str, Any], kind: str) -> Markup:
    size = {"viewBox": "0 0 36 12", "aria-hidden": "true", "class": f"sample {kind}"}
    mark = [svg.mark(look["marker"], (18, 6), 3.2, "mark")] if "marker" in look else []
    drawn = svg.line([(1, 6), (35, 6)], "curve", svg.dashes(look["linestyle"], 1.6 * look["linewidth"]))
    return element("svg", size, drawn, *mark)


def _header(plot: Plot) -> list[Markup]:
    named = [_column_of(found, plot) for found in plot.curves if found.n]
    return [column(plot.labels.x), *named]


def _column_of(found: Curve, plot: Plot) -> Markup:
    several = len(plot.panels) > 1
    return column(found.name, f"{found.cell.model_title}, {found.cell.dataset}" if several else plot.labels.y)


def _rows(plot: Plot) -> list[Row]:
    """A row a step, a column a curve."""
    drawn = [found for found in plot.curves if found.n]
    steps = sorted({int(x) for found in drawn for x in found.x})
    places = [{int(x): place for place, x in enumerate(found.x)} for found in drawn]
    return [
        Row(cells=(row_head(str(x)), *(_at(found, of.get(x)) for found, of in zip(drawn, places, strict=True))))
        for x in steps
    ]


def _at(found: Curve, place: int | None) -> Markup:
    if place is None:
        return cell("-", "number none")
    y, low, high = (float(values[place]) for values in (found.y, found.ci_low, found.ci_high))
    small = element("span", {"class": "interval"}, interval(low, high))
    return cell(joined([number(y), " ", small]), "number", y)

"""Critical-difference diagrams of a page: mean ranks over images, and which methods are not told apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rapbench.report.cliques import Separation
from rapbench.report.critical_difference import bars, drawn, notes, points
from rapbench.report.html import svg
from rapbench.report.html.figures import Place, figure, panel
from rapbench.report.html.markup import Markup, element, joined, prose
from rapbench.report.html.parts import Part
from rapbench.report.html.svg import Scale
from rapbench.report.html.tables import Row, cell, column, row_head, table
from rapbench.report.html.theme import series
from rapbench.report.ranks import Ranks
from rapbench.results.select import method_of

_WIDTH, _LEFT, _TOP, _LINE, _LETTER = 560, 170, 34, 20, 6.6
READING = (
    "Each method stands at its mean rank over images, 1 the best. A bar joins methods that are not told apart; it "
    "passes over a method without a dot on it. Controls are grey and move no method."
)


def separations(found: Ranks, at: Place) -> tuple[Part, ...]:
    """A diagram for each variant whose images have values of their own."""
    diagrams = drawn(found)
    if not diagrams:
        return ()
    pictures = [_diagram(title, told, found.controls) for title, (_, told) in diagrams.items()]
    shown = element("figure", {"class": "panels"}, *pictures)
    below = [prose(text, "note") for text in (READING, *notes(found))]
    header = [column("method", numeric=False), *map(column, diagrams)]
    ranks = {title: told.image_ranks for title, (_, told) in diagrams.items()}
    rows = [
        Row(
            cells=(row_head(name), *(_rank(of.get(name)) for of in ranks.values())),
            is_control=name in found.controls,
        )
        for name in (*found.methods, *found.controls)
    ]
    return figure(at, joined([shown, *below]), table(at.numbers, header, rows), points(found))


def _rank(value: float | None) -> Markup:
    return cell("-", "number none") if value is None else cell(f"{value:.2f}", "number", value)


def _diagram(title: str, told: Separation, controls: Collection[str]) -> Markup:
    """The better half of the names stands on the left, the other on the right."""
    ordered = sorted(told.image_ranks, key=lambda name: (told.image_ranks[name], name))
    groups, half = bars(told), (len(ordered) + 1) // 2
    highest = 0.5 + sum(name not in controls for name in ordered)
    scale = Scale(low=0.5, high=max(highest, 1.5), start=_LEFT, end=_WIDTH - _LEFT)
    below = _TOP + 12 * len(groups)
    lines = [
        _name(name, told, scale, below + _LINE * (_level(n, len(ordered)) + 1), left=n < half)
        for n, name in enumerate(ordered)
    ]
    height = below + _LINE * (half + 1)
    description = "; ".join(f"{name} {told.image_ranks[name]:.2f}" for name in ordered)
    joint = [
        _bar([scale(told.image_ranks[name]) for name in clique], _TOP + 12 * n) for n, clique in enumerate(groups, 1)
    ]
    picture = svg.picture(
        _WIDTH, height, title, f"Mean ranks over images: {description}.", _axis(scale), *lines, *joint
    )
    return panel(title, joined([element("strong", {}, title)]), picture)


def _level(n: int, count: int) -> int:
    """Which line a name stands on: those at the ends are the highest."""
    return min(n, count - 1 - n)


def _axis(scale: Scale) -> Markup:
    ticks = [value for value in scale.ticks(8) if value == int(value)]
    numbers = [svg.text(f"{value:g}", (scale(value), _TOP - 12), "tick", "middle") for value in ticks]
    marks = [svg.line([(scale(value), _TOP - 5), (scale(value), _TOP)], "axis") for value in ticks]
    return joined([svg.line([(scale.start, _TOP), (scale.end, _TOP)], "axis"), *numbers, *marks])


def _name(name: str, told: Separation, scale: Scale, y: float, *, left: bool) -> Markup:
    x, end = scale(told.image_ranks[name]), scale.start if left else scale.end
    most = int(_LEFT / _LETTER) - 7
    text = f"{svg.shortened(name, most)} {told.image_ranks[name]:.2f}"
    at, anchor = (end - 6, "end") if left else (end + 6, "start")
    kind = series(method_of(name))
    content = [
        element("title", {}, name),
        svg.line([(x, _TOP), (x, y), (end, y)], "thin"),
        svg.mark("o", (x, _TOP), 3.2, "mark"),
        svg.text(text, (at, y + 4), "label", anchor),
    ]
    return element("g", {"class": kind}, *content)


def _bar(places: Sequence[float], y: float) -> Markup:
    dots = [svg.mark("o", (x, y), 2.6, "dot") for x in places]
    return joined([svg.line([(min(places), y), (max(places), y)], "bar"), *dots])

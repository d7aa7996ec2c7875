"""Pictures of lines and shapes inside a page: text stays text, colours are the page's, and a name says what is seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rapbench.report.html.markup import Attributes, Markup, classed, element, joined

Point = tuple[float, float]

_STEPS = (1, 2, 5, 10)
_MARKS: dict[str, tuple[int, float, float]] = {
    "s": (4, 45, 1),
    "D": (4, 0, 1),
    "^": (3, 0, 1),
    "v": (3, 180, 1),
    "<": (3, 270, 1),
    ">": (3, 90, 1),
    "p": (5, 0, 1),
    "*": (5, 0, 0.4),
    "P": (4, 0, 0.4),
    "X": (4, 45, 0.4),
}
"""Corners, turn in degrees, and inner radius; a circle is none of these."""
_DASHES = {"-": (), "--": (3.7, 1.6), "-.": (6.4, 1.6, 1, 1.6)}
"""Matplotlib's patterns in widths of the line."""


def picture(width: float, height: float, name: str, description: str, *content: Markup) -> Markup:
    """An image of such a size, which readers who do not see it are told of by its name and description."""
    size: Attributes = {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": f"{name}. {description}"}
    return element("svg", size, element("title", {}, name), element("desc", {}, description), *content)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """From numbers to places in a picture.

    Attributes:
        low: number at the start.
        high: number at the end.
        start: place of the lowest, in units of the picture.
        end: place of the highest; may lie before the start.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a number is; beyond the ends, at the nearer one."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers within, at most so many and one more."""
        span = self.high - self.low
        if not span:
            return [self.low]
        size = 10.0 ** math.floor(math.log10(span / most))
        step = next(size * k for k in _STEPS if span / (size * k) <= most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]


def line(points: Iterable[Point], kind: str, attributes: Attributes | None = None) -> Markup:
    """A line through points."""
    return element("path", {**classed(kind), "d": _path(points), **(attributes or {})})


def area(points: Iterable[Point], kind: str) -> Markup:
    """A filled shape with these corners."""
    return element("path", {**classed(kind), "d": f"{_path(points)}Z"})


def text(content: str, at: Point, kind: str = "", anchor: str = "start") -> Markup:
    """Text that begins, or by its anchor ends or is centred, at a point of its baseline."""
    x, y = at
    return element("text", {**classed(kind), "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}, content)


def shortened(name: str, most: int) -> str:
    """A name of at most so many letters, the last of which says that there are more."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def mark(shape: str, at: Point, radius: float, kind: str) -> Markup:
    """One of matplotlib's markers at a point."""
    x, y = at
    if shape not in _MARKS:
        return element("circle", {**classed(kind), "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius:g}"})
    corners, turn, inner = _MARKS[shape]
    count = corners if inner == 1 else 2 * corners
    angles = [math.radians(turn) + 2 * math.pi * k / count for k in range(count)]
    radii = [radius * 1.3 * (inner if k % 2 and inner < 1 else 1) for k in range(count)]
    return area([(x + r * math.sin(a), y - r * math.cos(a)) for r, a in zip(radii, angles, strict=True)], kind)


def dashes(style: str | tuple[float, Sequence[float]], width: float) -> Attributes:
    """How a line is dashed that matplotlib draws in this style, and how wide it is."""
    pattern = _DASHES[style] if isinstance(style, str) else style[1]
    dashed = " ".join(f"{part * width:.1f}" for part in pattern)
    return {"stroke-width": f"{width:g}"} | ({"stroke-dasharray": dashed} if dashed else {})


def across(scale: Scale, top: float, bottom: float) -> Markup:
    """The numbers of a horizontal axis, with light lines from top to bottom."""
    ticks = [(scale(value), _tick(value)) for value in scale.ticks()]
    lines = [line([(x, top), (x, bottom)], "grid") for x, _ in ticks]
    return joined([*lines, *(text(label, (x, bottom + 17), "tick", "middle") for x, label in ticks)])


def upwards(scale: Scale, left: float, right: float) -> Markup:
    """The numbers of a vertical axis, with light lines from left to right."""
    ticks = [(scale(value), _tick(value)) for value in scale.ticks()]
    lines = [line([(left, y), (right, y)], "grid") for y, _ in ticks]
    return joined([*lines, *(text(label, (left - 7, y + 4), "tick", "end") for y, label in ticks)])


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _path(points: Iterable[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)

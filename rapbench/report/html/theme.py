"""The colours of a page, light and dark, and how well each is seen on its ground."""

from __future__ import annotations

from collections.abc import Mapping

from rapbench.methods import is_control
from rapbench.report.figures import COLOURS, place

LIGHT: Mapping[str, str] = {
    "ground": "#ffffff",
    "raised": "#f5f6f8",
    "ink": "#1b1f24",
    "soft": "#535b66",
    "line": "#d9dde3",
    "accent": "#1a5fb4",
    "best": "#e3f0e6",
    "warn": "#8f3a00",
}
DARK: Mapping[str, str] = {
    "ground": "#14171b",
    "raised": "#1e2227",
    "ink": "#e7eaee",
    "soft": "#a7b0bb",
    "line": "#363c44",
    "accent": "#8ab8f2",
    "best": "#1f3a29",
    "warn": "#f0a875",
}
SHAPE_CONTRAST = 3.0
"""The least contrast of lines in a figure. Source: WCAG 2.2, criterion 1.4.11, level AA."""
_GREY = "#8c8c8c"
_STEPS = 50


def series(method: str) -> str:
    """The class of what is drawn of a method: its colour in every figure."""
    return "grey" if is_control(method) else f"s{place(method) % len(COLOURS)}"


def variables(theme: Mapping[str, str]) -> str:
    """A theme's colours as declarations of CSS."""
    drawn = {f"s{n}": seen(colour, theme) for n, colour in enumerate(COLOURS)} | {"grey": seen(_GREY, theme)}
    return "".join(f"--{name}:{colour};" for name, colour in {**theme, **drawn}.items())


def seen(colour: str, theme: Mapping[str, str]) -> str:
    """A colour of the figures, as near to itself as its lines are seen on a theme's grounds."""
    to = theme["ink"]
    shades = (_mixed(colour, to, step / _STEPS) for step in range(_STEPS + 1))
    grounds = [theme[name] for name in ("ground", "raised")]
    return next(shade for shade in shades if min(contrast(shade, ground) for ground in grounds) >= SHAPE_CONTRAST)


def contrast(one: str, other: str) -> float:
    """Ratio of the luminances of two colours #rrggbb, from 1 to 21. Source: WCAG 2.2, "contrast ratio"."""
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    """Source: WCAG 2.2, "relative luminance"."""
    shares = [part / 255 for part in _parts(colour)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _mixed(one: str, other: str, share: float) -> str:
    """A colour on its way to another."""
    parts = zip(_parts(one), _parts(other), strict=True)
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in parts)


def _parts(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))

"""HTML as a tree of elements whose texts cannot be taken for markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rapbench.report.formats import html_prose, html_safe

Attributes = Mapping[str, str | float | bool]
"""A true one stands without a value, a false one is left out."""

_VOID = frozenset({"br", "img", "input", "link", "meta"})
"""Elements without content or end."""


class Markup(str):
    """Text that is HTML already; any other text is escaped."""

    __slots__ = ()


def element(name: str, attributes: Attributes, *content: str) -> Markup:
    """An element with its attributes around its content."""
    opening = "".join([f"<{name}", *map(_attribute, attributes.items()), ">"])
    return Markup(opening if name in _VOID else f"{opening}{joined(content)}</{name}>")


def joined(parts: Iterable[str]) -> Markup:
    """Parts one after another."""
    return Markup("".join(part if isinstance(part, Markup) else html_safe(part) for part in parts))


def lines(text: str) -> Markup:
    """Text whose line breaks are kept."""
    return Markup("\n".join(map(html_safe, text.split("\n"))))


def prose(text: str, kind: str = "") -> Markup:
    """A paragraph whose commands stand in backticks."""
    return element("p", classed(kind), Markup(html_prose(text)))


def classed(names: str) -> Attributes:
    """The attribute of these classes; none where there are none."""
    return {"class": names} if names else {}


def _attribute(pair: tuple[str, str | float | bool]) -> str:
    name, value = pair
    if isinstance(value, bool):
        return f" {name}" if value else ""
    return f' {name}="{value if isinstance(value, Markup) else html_safe(str(value))}"'

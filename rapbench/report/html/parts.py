"""Pieces of a page, the first that it can do without, and files that lie in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from rapbench.report.html.markup import Markup, element

_KINDS = {"csv": "text/csv;charset=utf-8", "json": "application/json", "svg": "image/svg+xml"}


class Worth(IntEnum):
    """What a page that grows too large leaves out first."""

    PICTURE = 1
    POINTS = 2
    VARIANTS = 3
    JSON = 4
    CSV = 5
    FIGURE = 6
    NEEDED = 7


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A piece of a section.

    Attributes:
        content: as HTML.
        worth: of all pieces of the page, those of the least worth are left out first.
        what: how a sentence calls it.
        cure: how else to get it, in words.
        name: its address within the page, which leads to a line where it is left out; may be empty.
    """

    content: Markup
    worth: Worth = Worth.NEEDED
    what: str = ""
    cure: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page with a heading, which the list at its top leads to.

    Attributes:
        name: its address within the page.
        title: its heading.
        parts: its pieces, one below another.
    """

    name: str
    title: str
    parts: tuple[Part, ...]


def embedded(content: bytes, kind: str) -> Markup:
    """The address of a file that lies in the page itself."""
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")


def download(content: str, name: str, form: str, label: str) -> Markup:
    """A link that saves a file; it needs no JavaScript."""
    address = embedded(content.encode(), _KINDS[form])
    return element("a", {"class": "download", "download": f"{name}.{form}", "href": address}, label)


def needed(*content: Markup) -> tuple[Part, ...]:
    """Pieces that stay in the page."""
    return tuple(Part(content=piece) for piece in content)


def heading(text: str, name: str, level: int = 3) -> Markup:
    """A heading that can be referred to."""
    return element(f"h{level}", {"id": name}, text)


def details(summary: str, *content: Markup, name: str = "") -> Markup:
    """What is folded away until it is asked for, under a summary that can be referred to by its name."""
    return element("details", {}, element("summary", {"id": name} if name else {}, summary), *content)


def fitted(sections: Sequence[Section], limit: int) -> tuple[list[Section], list[Part]]:
    """Sections whose content has at most so many bytes, as far as that can be, and what they leave out, in order."""
    parts = [part for section in sections for part in section.parts]
    surplus = sum(len(part.content.encode()) for part in parts) - limit
    out: set[Part] = set()
    last_first = sorted(enumerate(parts), key=lambda placed: (placed[1].worth, -placed[0]))
    for _, part in last_first:
        if surplus <= 0 or part.worth is Worth.NEEDED:
            break
        surplus -= len(part.content.encode())
        out.add(part)
    left = [replace(section, parts=tuple(part for part in section.parts if part not in out)) for section in sections]
    return left, [part for part in parts if part in out]

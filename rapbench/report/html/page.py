"""A page of sections: one file, which asks for nothing else and is read without JavaScript."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files

from rapbench.core.errors import BadConfig
from rapbench.report.html.markup import Attributes, Markup, element, prose
from rapbench.report.html.parts import Part, Section, fitted
from rapbench.report.html.theme import DARK, LIGHT, variables

LIMIT = 10_000_000
"""Bytes of a page at most."""


def page(title: str, lead: str, sections: Sequence[Section], limit: int = LIMIT) -> str:
    """The HTML of a page with a list of its sections.

    Args:
        title: of the page.
        lead: a sentence below it.
        sections: in order; those without parts are left out.
        limit: bytes at most; what the page leaves out for that, it says, with how else to get it.

    Raises:
        BadConfig: even then it is larger.
    """
    full = [section for section in sections if section.parts]
    whole = _page(title, lead, full, [])
    if len(whole.encode()) <= limit:
        return whole
    bare = [replace(section, parts=()) for section in full]
    room = limit - len(_page(title, lead, bare, []).encode())
    stubs = sum(len(_stub(part).encode()) for section in full for part in section.parts)
    left, missing = fitted(full, room - 2 * stubs)
    whole = _page(title, lead, _with_stubs(full, left), missing)
    if (size := len(whole.encode())) > limit:
        raise BadConfig(
            f"a report of all this has {size / 1e6:.0f} MB, and at most {limit / 1e6:.0f} are wanted: narrow it by "
            "--dataset, --model or --method"
        )
    return whole


def _with_stubs(full: Sequence[Section], left: Sequence[Section]) -> list[Section]:
    """Sections with a line in the place of what they leave out."""
    kept = {part for section in left for part in section.parts}
    return [
        replace(s, parts=tuple(part if part in kept else Part(content=_stub(part)) for part in s.parts)) for s in full
    ]


def _stub(part: Part) -> Markup:
    about: Attributes = {"class": "note left-out", "id": part.name} if part.name else {"class": "note left-out"}
    return element("p", about, f"Left out, as the page would be too large: {part.what}.")


def _page(title: str, lead: str, sections: Sequence[Section], missing: Sequence[Part]) -> str:
    style, script = (files(__package__).joinpath(name).read_text("utf-8") for name in ("style.css", "page.js"))
    links = [element("li", {}, element("a", {"href": f"#{s.name}"}, s.title)) for s in sections]
    body = [
        element("a", {"class": "skip", "href": "#content"}, "Skip to the content"),
        element("header", {"class": "top"}, element("h1", {}, title), prose(lead, "lead"), _left_out(missing)),
        element("nav", {"aria-label": "Sections"}, element("ul", {}, *links)),
        element("main", {"id": "content"}, *map(_section, sections)),
        element("script", {}, Markup(script)),
    ]
    head = [
        element("meta", {"charset": "utf-8"}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": _policy(script)}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("title", {}, title),
        element("style", {}, Markup(_themes() + style)),
    ]
    whole = element("html", {"lang": "en"}, element("head", {}, *head), element("body", {}, *body))
    return f"<!DOCTYPE html>\n{whole}\n"


def _section(section: Section) -> Markup:
    title = element("h2", {"id": f"{section.name}-title"}, section.title)
    about: Attributes = {"id": section.name, "aria-labelledby": f"{section.name}-title"}
    return element("section", about, title, *(part.content for part in section.parts))


def _left_out(missing: Sequence[Part]) -> Markup:
    """What is not in the page, and how to get it."""
    if not missing:
        return Markup()
    counts = Counter(part.what for part in missing)
    told = "; ".join(f"{count} {what}" if count > 1 else what for what, count in counts.items())
    cures = "; ".join(dict.fromkeys(part.cure for part in missing))
    summary = element("summary", {}, f"{len(missing)} pieces are left out, so that the page stays small enough to send")
    return element("details", {"class": "left-out"}, summary, prose(f"{told}."), prose(f"What gives them: {cures}."))


def _policy(script: str) -> str:
    """What the page may do: show what lies in it, and run its own script, whatever names in it say."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _themes() -> str:
    """Light or dark, as the reader's system says, or as chosen on the page."""
    light, dark = variables(LIGHT), variables(DARK)
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\n"
        f"@media screen{{:root[data-theme=dark]{{color-scheme:dark;{dark}}}}}\n"
    )

"""What is wrong with a page, by the letter: its elements, its references, its pictures and what it would ask for."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

VOID = {"br", "img", "input", "link", "meta"}
SCRIPT_FREE = {"script", "style"}


class Page(HTMLParser):
    """The elements of a page, read strictly."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.faults += [f"never closed: {name}" for name in self._open]
        self.faults += self._names() + self._references() + self._pictures() + self._addresses()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if len(given) < len(attrs):
            self.faults.append(f"an attribute twice: {tag} {attrs}")
        self.elements.append((tag, given))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.faults.append(f"closes itself: {tag}")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"closed but not open: {tag}")

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    @property
    def text(self) -> str:
        """What is read, without scripts and styles."""
        return "".join(data for element, data in self.texts if element not in SCRIPT_FREE)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of that name."""
        return [given for name, given in self.elements if name == tag]

    def _names(self) -> list[str]:
        counts = Counter(given["id"] for _, given in self.elements if "id" in given)
        return [f"id {name!r} {count} times" for name, count in counts.items() if count > 1 or not name or " " in name]

    def _references(self) -> list[str]:
        names = {given["id"] for _, given in self.elements if "id" in given}
        led = [str(given["href"])[1:] for _, given in self.elements if str(given.get("href", "")).startswith("#")]
        said = [str(given["aria-labelledby"]) for _, given in self.elements if "aria-labelledby" in given]
        return [f"leads nowhere: {name}" for name in {*led, *said} - names]

    def _pictures(self) -> list[str]:
        lacking = [f"no alt: {given}" for given in self.of("img") if not given.get("alt")]
        drawn = [given for given in self.of("svg") if given.get("aria-hidden") != "true"]
        return lacking + [f"no name: {given}" for given in drawn if not given.get("aria-label")]

    def _addresses(self) -> list[str]:
        """Whatever is fetched lies in the page."""
        asked = [str(given[key]) for _, given in self.elements for key in ("src", "href", "srcset") if key in given]
        styles = [data for element, data in self.texts if element == "style"]
        asked += re.findall(r"url\(([^)]*)\)|@import", "".join(styles))
        return [f"asks for {address[:80]}" for address in asked if not address.startswith(("#", "data:"))]


def read(html: str) -> Page:
    """The page, of which nothing is wrong."""
    assert html.startswith("<!DOCTYPE html>\n<html lang=")
    page = Page(html.removeprefix("<!DOCTYPE html>\n"))
    assert page.faults == []
    return page

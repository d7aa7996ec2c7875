"""Texts in a page are texts, whatever they hold."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from rapbench.report.formats import printable
from rapbench.report.html.markup import Markup, element, joined, lines, prose

RUDE = [
    "<script>alert(1)</script>",
    "</td></table><b>",
    "\"><img src=x onerror='alert(1)'>",
    "a & b &lt; c &#39;",
    "line\nbreak\r\ttab",
    "\u202eright to left\u2028",
    "=1+1",
    "`code` <b>`",
]


class Seen(HTMLParser):
    """The elements, attributes and text of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.names: list[str] = []
        self.values: list[str | None] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", RUDE)
def test_a_text_is_seen_as_it_is_in_an_element_and_in_an_attribute(text: str) -> None:
    seen = Seen(element("p", {"title": text}, text))
    assert seen.names == ["p"]
    assert seen.values == [printable(text)]
    assert seen.text == printable(text)


@pytest.mark.parametrize("text", RUDE)
def test_of_a_paragraph_only_commands_become_elements(text: str) -> None:
    seen = Seen(prose(text))
    assert set(seen.names) <= {"p", "code"}
    assert seen.text == printable(text).replace("`", "")


def test_markup_is_escaped_once_and_text_beside_it_still_is() -> None:
    bold = element("b", {}, "a < b")
    assert joined([bold, "<i>"]) == "<b>a &lt; b</b>&lt;i&gt;"
    assert isinstance(joined([bold]), Markup)


def test_line_breaks_are_kept_where_they_are_meant_and_nothing_else_is_obeyed() -> None:
    assert lines("a\n<b>") == "a\n&lt;b&gt;"


def test_an_attribute_that_is_true_has_no_value_and_one_that_is_false_is_not_there() -> None:
    assert element("input", {"checked": True, "disabled": False, "size": 3}) == '<input checked size="3">'

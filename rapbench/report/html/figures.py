"""Figures of a page, each with the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rapbench.report.figures import Drawing, csv_of, file_stem, rendered
from rapbench.report.html.markup import Attributes, Markup, element, joined, prose
from rapbench.report.html.parts import Part, Worth, details, download, embedded, heading

if TYPE_CHECKING:
    from pandas import DataFrame

READING = (
    "Of curves, bands are 95 % intervals over images. Of scores, a box holds the middle half of the images, its line "
    "is their median, and its whiskers reach from the 5th to the 95th percentile; the diamond is the number of the "
    "table, the heavy line its 95 % interval. Where only all images together have a value there is no box. A method "
    "has the same colour everywhere; controls are grey."
)
"""How curves and boxes are read."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A figure's place in a page.

    Attributes:
        name: its address.
        title: what it is called.
        command: what draws it, or prints its numbers, otherwise.
    """

    name: str
    title: str
    command: str

    @property
    def numbers(self) -> str:
        """The address of its numbers."""
        return f"{self.name}-points"


def figure(at: Place, picture: Markup, numbers: Markup, points: DataFrame) -> tuple[Part, ...]:
    """A figure with its heading, its numbers as a table that is folded away, and as CSV."""
    folded = details("the numbers behind it", numbers, name=at.numbers) if numbers else Markup()
    link = download(csv_of(points), file_stem(at.title), "csv", "CSV of the figure")
    cure = f"`{at.command}`"
    return (
        Part(content=heading(at.title, at.name)),
        Part(content=picture, worth=Worth.FIGURE, what=at.title, cure=cure),
        Part(content=joined([folded, link]), worth=Worth.POINTS, what=f"the numbers of {at.title}", cure=cure),
    )


def panel(name: str, caption: Markup, picture: Markup) -> Markup:
    """One of the pictures of a figure, in a box of its own that scrolls."""
    box: Attributes = {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": name}
    above = element("div", {"class": "caption"}, caption)
    return element("div", {"class": "panel"}, above, element("div", box, picture))


def drawn(drawing: Drawing, at: Place) -> tuple[Part, ...]:
    """A figure as it is drawn for print."""
    told = f"{at.title}. It shows {len(drawing.points)} numbers, which the CSV below holds."
    address = embedded(rendered(drawing.figure, "svg"), "image/svg+xml")
    image = element("img", {"class": "print", "src": address, "alt": told})
    box: Attributes = {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": at.title}
    notes = [prose(note, "note") for note in drawing.notes]
    return figure(at, joined([element("figure", {}, element("div", box, image)), *notes]), Markup(), drawing.points)

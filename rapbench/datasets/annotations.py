"""Object boxes in the XML files of Pascal VOC, which ILSVRC took over."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from rapbench.core.errors import BadData
from rapbench.datasets.geometry import Box

_MOST_DIGITS = 6
"""Of an image's width and height in pixels."""


class Annotation(NamedTuple):
    """What one XML says.

    `frame` is (width, height) of the image the boxes were drawn on, which can differ from the image file's; `objects`
    are (name, box) pairs, the box None for an object without one.
    """

    frame: tuple[int, int]
    objects: tuple[tuple[str, Box | None], ...]

    def boxes(self, name: str | None = None) -> list[Box]:
        """The boxes of all objects, or of those of one name."""
        return [box for owner, box in self.objects if box and name in (None, owner)]

    @property
    def note(self) -> str:
        """What is unusual about it, '' where nothing is."""
        return "" if self.boxes() else "annotation without boxes"


def annotation(path: Path, *, first_pixel: int) -> Annotation:
    """Reads an XML file whose coordinates call the first pixel `first_pixel`.

    Counted from zero, coordinates are taken as edges; counted from one, as the first and last pixel inside the box.
    The `filename` element is not read.

    Raises:
        BadData: 'unsafe XML' (it declares a document type), 'unreadable XML', or 'box outside the image'.
    """
    root = _root(path)
    frame = _side(root, "width", path), _side(root, "height", path)

    def box(item: ET.Element) -> Box | None:
        marked = item.find("bndbox")
        if marked is None:
            return None
        sides = [marked.findtext(side, "") for side in ("xmin", "ymin", "xmax", "ymax")]
        return box_edges(sides, frame, path, first_pixel=first_pixel)

    return Annotation(frame, tuple((item.findtext("name", "").strip(), box(item)) for item in root.iterfind("object")))


def _side(root: ET.Element, name: str, path: Path) -> int:
    """Width or height of the image."""
    text = root.findtext(f"size/{name}", "").strip()
    if not (text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise BadData("unreadable XML", path, "no image size in pixels")
    return int(text)


def box_edges(texts: Sequence[str], frame: tuple[int, int], where: object, *, first_pixel: int = 0) -> Box:
    """The edges of a box in a frame of (width, height), from its xmin, ymin, xmax and ymax as written.

    Raises:
        BadData: 'box outside the image': beyond the frame, empty, inverted, or not four numbers.
    """
    try:
        left, top, right, bottom = map(float, texts)
    except ValueError as error:
        raise BadData("box outside the image", where, f"not four numbers: {' '.join(texts)}") from error
    left, top = left - first_pixel, top - first_pixel
    if not (0 <= left < right <= frame[0] and 0 <= top < bottom <= frame[1]):
        raise BadData("box outside the image", where, f"{' '.join(texts)} in {frame[0]} x {frame[1]} pixels")
    return left, top, right, bottom


class _NoDoctype(ET.TreeBuilder):
    """Stops at a document type before its entities, which can expand without bound, are read."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise _DoctypeFoundError


class _DoctypeFoundError(Exception):
    pass


def _root(path: Path) -> ET.Element:
    parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314 - document types are refused
    try:
        parser.feed(path.read_bytes())
        root: ET.Element = parser.close()
    except _DoctypeFoundError as error:
        raise BadData("unsafe XML", path, "it declares a document type") from error
    except (ET.ParseError, OSError, ValueError, LookupError) as error:
        raise BadData("unreadable XML", path, str(error)) from error
    return root

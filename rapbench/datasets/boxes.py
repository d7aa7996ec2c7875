"""Object boxes beside pictures of one's own: XML files of Pascal VOC, text files of YOLO, or a CSV file."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapbench.core.errors import BadData, DataMissing
from rapbench.datasets.annotations import Annotation, annotation, box_edges
from rapbench.datasets.lists import lines, table
from rapbench.datasets.named_files import files_in, stem

_COLUMNS = ("image", "xmin", "ymin", "xmax", "ymax")
_NUMBERS = "class, centre x, centre y, width and height"


@dataclass(frozen=True)
class Boxes:
    """Where the boxes of pictures are written.

    Attributes:
        files: all that they are written in.
        entries: name of a picture, as written -> what is written of it.
        read: such an entry and the (width, height) of its photograph -> the boxes.
    """

    files: tuple[Path, ...]
    entries: Mapping[str, Any]
    read: Callable[[Any, tuple[int, int]], Annotation]


def boxes_in(path: Path) -> Boxes:
    """The boxes in a folder of .xml files, in one of .txt files where there are no others, or in a .csv file.

    Raises:
        DataMissing: no such file or folder, or nothing of these in it.
        BadData: 'unreadable list'.
    """
    if not path.is_dir():
        return _in_table(path)
    for suffix, read in ((".xml", _read_xml), (".txt", _read_yolo)):
        if found := files_in(path, {suffix}):
            return Boxes((*found.values(),), {stem(name): file for name, file in found.items()}, read)
    raise DataMissing(f"no boxes in {path}: neither .xml files of Pascal VOC nor .txt files of YOLO")


def _in_table(path: Path) -> Boxes:
    if not path.is_file():
        raise DataMissing(f"no boxes {path}: neither a folder nor a .csv file")
    found = defaultdict(list)
    for name, *sides in table(path, _COLUMNS):
        found[name].append((f"{path}, {name}", sides))
    return Boxes((path,), found, _read_rows)


def _read_rows(rows: list[tuple[str, list[str]]], photo: tuple[int, int]) -> Annotation:
    return Annotation(photo, tuple(("", box_edges(sides, photo, where)) for where, sides in rows))


def _read_xml(file: Path, _: tuple[int, int]) -> Annotation:
    return annotation(file, first_pixel=1)


def _read_yolo(file: Path, photo: tuple[int, int]) -> Annotation:
    rows = [line.split() for line in lines(file) if line]
    return Annotation(photo, tuple((row[0], box_edges(_pixels(row, photo, file), photo, file)) for row in rows))


def _pixels(row: list[str], photo: tuple[int, int], file: Path) -> list[str]:
    """Edges in pixels, to a hundredth: shares of the side are written to six digits."""
    try:
        x, y, width, height = map(float, row[1:])
    except ValueError as error:
        raise BadData("unreadable boxes", file, f"{' '.join(row)!r} is not {_NUMBERS}") from error
    shares = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return [f"{share * side:.2f}" for share, side in zip(shares, photo * 2, strict=True)]

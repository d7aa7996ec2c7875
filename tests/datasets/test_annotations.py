from pathlib import Path

import pytest

from rapbench.core.errors import BadData
from rapbench.datasets.annotations import annotation, box_edges

OBJECT = """<object><name>{name}</name><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>
<ymax>2</ymax></bndbox></part><bndbox><xmax>{2}</xmax><xmin>{0}</xmin><ymin>{1}</ymin><ymax>{3}</ymax></bndbox></object>"""


def _xml(folder: Path, *objects: str, size: str = "<width>500</width><height>375</height>") -> Path:
    file = folder / "image.xml"
    inside = f"<filename>elsewhere</filename><size>{size}<depth>3</depth></size>{''.join(objects)}"
    file.write_text(f"<annotation>{inside}</annotation>")
    return file


def _object(*sides: object, name: str = "cow") -> str:
    return OBJECT.format(*sides, name=name)


def test_names_and_edges_are_read_in_order(tmp_path: Path) -> None:
    file = _xml(tmp_path, _object(10, 20, 30, 40), _object("1.5", 0, 500, 375, name=" dog "))
    read = annotation(file, first_pixel=0)
    assert read.frame == (500, 375)
    assert read.objects == (("cow", (10, 20, 30, 40)), ("dog", (1.5, 0, 500, 375)))


def test_pixels_counted_from_one_include_both_ends(tmp_path: Path) -> None:
    read = annotation(_xml(tmp_path, _object(1, 1, 500, 375), _object(7, 9, 7, 9)), first_pixel=1)
    assert read.objects == (("cow", (0, 0, 500, 375)), ("cow", (6, 8, 7, 9)))


def test_an_xml_without_objects_has_no_boxes(tmp_path: Path) -> None:
    read = annotation(_xml(tmp_path), first_pixel=0)
    assert (read.objects, read.boxes(), read.note) == ((), [], "annotation without boxes")


def test_an_object_without_a_box_keeps_its_name(tmp_path: Path) -> None:
    assert annotation(_xml(tmp_path, "<object><name>cow</name></object>"), first_pixel=0).objects == (("cow", None),)


@pytest.mark.parametrize(
    "sides",
    [(-1, 0, 9, 9), (0, -1, 9, 9), (0, 0, 501, 9), (0, 0, 9, 376), (9, 0, 9, 9), (0, 9, 9, 8), ("nan", 0, 9, 9),
     (0, 0, "inf", 9), ("", 0, 9, 9), ("wide", 0, 9, 9)],
)  # fmt: skip
def test_an_impossible_box_is_refused_with_its_file(tmp_path: Path, sides: tuple[object, ...]) -> None:
    file = _xml(tmp_path, _object(10, 20, 30, 40), _object(*sides))
    with pytest.raises(BadData, match=r"^box outside the image: .*image\.xml") as error:
        annotation(file, first_pixel=0)
    assert error.value.reason == "box outside the image"


def test_a_box_needs_four_sides() -> None:
    with pytest.raises(BadData, match="box outside the image: here"):
        box_edges(["1", "2", "3"], (10, 10), "here")


@pytest.mark.parametrize(
    "size",
    ["", "<width>500</width>", "<width>x</width><height>3</height>", f"<width>{'9' * 400}</width><height>3</height>"],
)
def test_an_xml_without_the_images_size_is_unreadable(tmp_path: Path, size: str) -> None:
    with pytest.raises(BadData, match="unreadable XML"):
        annotation(_xml(tmp_path, size=size), first_pixel=0)


@pytest.mark.parametrize("content", ["", "<annotation>", "<annotation>&bomb;</annotation>", "\x00\x01", "plain"])
def test_what_is_not_xml_is_unreadable(tmp_path: Path, content: str) -> None:
    (tmp_path / "image.xml").write_text(content)
    with pytest.raises(BadData, match=r"^unreadable XML: .*image\.xml"):
        annotation(tmp_path / "image.xml", first_pixel=0)


DOCTYPES = {
    "expansion": '<!DOCTYPE a [<!ENTITY b "{}"><!ENTITY c "{}">]>'.format("ha" * 50, "&b;" * 50),
    "a file": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>',
    "plain": "<!DOCTYPE annotation>",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("doctype", DOCTYPES.values(), ids=DOCTYPES)
def test_any_document_type_is_unsafe(tmp_path: Path, doctype: str, encoding: str) -> None:
    file = tmp_path / "image.xml"
    file.write_bytes(f"{doctype}<annotation><folder>&c;</folder></annotation>".encode(encoding))
    with pytest.raises(BadData, match=r"^unsafe XML: .*image\.xml") as error:
        annotation(file, first_pixel=0)
    assert error.value.reason == "unsafe XML"

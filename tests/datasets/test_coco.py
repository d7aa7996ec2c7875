"""COCO's instances: expectations are drawn by hand, not decoded by its own library."""

from __future__ import annotations

import builtins
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadConfig, BadData, DataMissing, RapbenchError, UnknownName
from rapbench.core.types import VOID
from rapbench.datasets import DATASETS
from rapbench.datasets.coco import Coco

WIDTH, HEIGHT = 40, 30
RNG = np.random.default_rng(0)
Area = tuple[int, int, int, int]


def drawn(*areas: Area) -> np.ndarray:
    """(H, W) with rectangles (left, top, right, bottom)."""
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    for left, top, right, bottom in areas:
        found[top:bottom, left:right] = 1
    return found


def polygon(area: Area) -> list[list[int]]:
    left, top, right, bottom = area
    return [[left, top, right, top, right, bottom, left, bottom]]


def run_lengths(mask: np.ndarray) -> list[int]:
    """How many zeros, ones, zeros, ... follow each other, column by column."""
    flat = np.concatenate([[0], mask.T.ravel(), [1 - mask.T.ravel()[-1]]])
    ends = np.flatnonzero(np.diff(flat))
    return np.diff(ends, prepend=0).tolist()


def compressed(counts: list[int]) -> str:
    """Run lengths from the fourth on as differences to the last but one; 5 bits a character, lowest first."""

    def characters(value: int) -> Iterator[str]:
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            yield chr((bits | 32 * more) + 48)

    steps = [count - counts[n - 2] if n > 2 else count for n, count in enumerate(counts)]
    return "".join(character for step in steps for character in characters(step))


def instance(image: int, category: int, area: Area, segmentation: object, *, crowd: bool = False) -> dict[str, Any]:
    left, top, right, bottom = area
    box = [left, top, right - left, bottom - top]
    found = {"image_id": image, "category_id": category, "bbox": box, "segmentation": segmentation}
    return {**found, "iscrowd": int(crowd)}


CAT, DOG, SMALL, CROWD = (4, 6, 20, 24), (16, 2, 36, 14), (1, 1, 4, 3), (0, 10, 40, 30)


def run_length_encoded(area: Area, *, packed: bool) -> dict[str, Any]:
    counts = run_lengths(drawn(area))
    return {"size": [HEIGHT, WIDTH], "counts": compressed(counts) if packed else counts}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Four photographs: a cat and a dog before a crowd, a dog, a crowd alone, nothing."""
    (tmp_path / "val").mkdir()
    for name in ("first", "second", "third", "fourth"):
        pixels = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"val/{name}.jpg")
    names = ("first", "second", "third", "fourth")
    images = [
        {"id": 10 + n, "file_name": f"{name}.jpg", "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)
    ]
    annotations = [
        instance(10, 17, CAT, polygon(CAT)),
        instance(10, 18, DOG, run_length_encoded(DOG, packed=True)),
        instance(10, 17, CROWD, run_length_encoded(CROWD, packed=False), crowd=True),
        instance(11, 18, SMALL, polygon(SMALL)),
        instance(12, 17, CROWD, run_length_encoded(CROWD, packed=True), crowd=True),
    ]
    write(tmp_path, {"images": images, "annotations": annotations, "categories": [
        {"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}, {"id": 19, "name": "horse"}]})  # fmt: skip
    return tmp_path


def write(tree: Path, document: object) -> None:
    (tree / "instances.json").write_text(json.dumps(document))


def coco(tree: Path, category: str | None = None) -> Coco:
    """At the photographs' own height, so that squares are what they were drawn as, but for columns."""
    return Coco(annotations=tree / "instances.json", images=tree / "val", category=category, size=HEIGHT)


def columns(mask: np.ndarray) -> np.ndarray:
    """A mask of the photographs, squashed to a square by nearest neighbour."""
    return np.asarray(Image.fromarray(mask).resize((HEIGHT, HEIGHT), Image.Resampling.NEAREST))


def test_the_mask_is_the_union_of_the_objects_and_a_crowd_is_void(tree: Path) -> None:
    first = coco(tree)[0]
    objects = drawn(CAT, DOG)
    expected = np.where((drawn(CROWD) == 1) & (objects == 0), VOID, objects).astype(np.uint8)
    assert first.mask is not None
    assert np.array_equal(first.mask, columns(expected))
    assert first.boxes is not None
    assert first.boxes.tolist() == [[3, 6, 15, 24], [12, 2, 27, 14]]


def test_images_without_an_object_are_left_out_and_a_category_makes_the_others_background(tree: Path) -> None:
    assert coco(tree).ids == ("first", "second")
    assert coco(tree, "dog").ids == coco(tree, "18").ids == ("first", "second")
    cats = coco(tree, "cat")
    expected = np.where((drawn(CROWD) == 1) & (drawn(CAT) == 0), VOID, drawn(CAT)).astype(np.uint8)
    assert (cats.ids, cats[0].label) == (("first",), None)
    assert cats[0].mask is not None
    assert np.array_equal(cats[0].mask, columns(expected))
    whole, dogs = coco(tree), coco(tree, "dog")
    shown = [whole[0].box_classes, whole[1].box_classes, dogs[0].box_classes]
    assert [None if classes is None else classes.int().tolist() for classes in shown] == [
        [[1, 0, 0], [0, 1, 0]],  # of cat, dog and horse
        [[0, 1, 0]],
        [[0, 1, 0]],
    ]
    assert len({found.fingerprint for found in (coco(tree), cats)}) == 2


def test_a_category_that_is_not_there_is_said(tree: Path) -> None:
    with pytest.raises(UnknownName, match=r"no category 'dogs': did you mean dog\?"):
        coco(tree, "dogs")
    with pytest.raises(DataMissing, match="no object of category horse in any image"):
        coco(tree, "horse")


def test_boxes_end_where_the_photograph_does(tree: Path) -> None:
    document = json.loads((tree / "instances.json").read_text())
    document["annotations"][3]["bbox"] = [30, 20, 10.04, 10.3]
    write(tree, document)
    second = coco(tree)[1]
    assert second.boxes is not None
    assert second.boxes.tolist() == [[22, 20, 30, 30]]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("segmentation", [[1, 2, 3, 4]], "unreadable mask: .*json, second (a polygon of 4 coordinates)"),
        ("segmentation", 7, "unreadable mask: .*second"),
        ("segmentation", {"size": [5, 5], "counts": [25]}, "unreadable mask: .*second (of size .5, 5. in an image of"),
        (
            "segmentation",
            {"size": [30, 40], "counts": [5000, 9]},
            "unreadable mask: .*second (run lengths that do not fill",
        ),
        ("bbox", [50, 1, 2, 2], "box outside the image: .*second (.* in 40 x 30 pixels)"),
        ("bbox", None, "box outside the image: .*second (not four numbers"),
    ],
)
def test_what_is_impossible_spoils_its_own_image_only(key: str, value: object, said: str, tree: Path) -> None:
    document = json.loads((tree / "instances.json").read_text())
    document["annotations"][3][key] = value
    write(tree, document)
    found = coco(tree)
    with pytest.raises(BadData, match=said.replace("(", r"\(").replace(")", r"\)")):
        found[1]
    assert found[0].id == "first"


def test_a_photograph_of_another_size_is_refused(tree: Path) -> None:
    Image.new("RGB", (WIDTH - 1, HEIGHT)).save(tree / "val/second.jpg")
    with pytest.raises(
        BadData, match=r"mask of another size than its image: .*second \(\(40, 30\) against \(39, 30\)\)"
    ):
        coco(tree)[1]


def _no_file(tree: Path) -> None:
    (tree / "instances.json").unlink()


def _captions(tree: Path) -> None:
    document = json.loads((tree / "instances.json").read_text())
    document["annotations"] = [{"image_id": 10, "caption": "a cat"}]
    write(tree, document)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_no_file, "^no annotations .*json$"),
        (lambda tree: (tree / "instances.json").write_text("{"), "^unreadable list: .*json"),
        (lambda tree: write(tree, {"images": []}), "lists of images, annotations, categories are wanted"),
        (_captions, "not COCO's instances: KeyError"),
        (lambda tree: (tree / "val/second.jpg").unlink(), "is of second, but there is no .*second.jpg"),
    ],
)
def test_files_that_are_not_instances_are_refused_at_once(spoil: Any, said: str, tree: Path) -> None:
    spoil(tree)
    with pytest.raises(RapbenchError, match=said):
        coco(tree)


def test_it_is_what_the_catalogue_builds_and_can_be_pickled(tree: Path) -> None:
    typed = f"coco(annotations={tree}/instances.json, images={tree}/val, category=dog)"
    built = DATASETS.build(parse_call(typed), size=16)
    copy = pickle.loads(pickle.dumps(built))  # noqa: S301 - our own bytes
    assert copy[1].image.equal(built[1].image)
    assert built.provides == {"boxes", "box_classes", "mask"}


def test_without_its_library_a_line_says_how_to_install_it(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def lacking(name: str, *rest: Any) -> Any:
        if name == "pycocotools":
            raise ImportError
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(BadConfig, match=r'pip install "rapbench\[coco\]"'):
        coco(tree)

"""Pictures of one's own: which are found, and what belongs to each."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadConfig, BadData, DataMissing
from rapbench.core.named import Named, parameters
from rapbench.core.types import VOID
from rapbench.datasets import DATASETS
from rapbench.datasets.folder import Folder
from rapbench.datasets.imagenet_classes import class_indices
from rapbench.datasets.voc import Voc
from rapbench.run.resolve import settings
from rapbench.run.spec import RunSpec

RNG = np.random.default_rng(0)
WIDTH, HEIGHT = 60, 40


def picture(file: Path, width: int = WIDTH) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (HEIGHT, width, 3), dtype=np.uint8)).save(file)


def mask(file: Path, values: list[list[int]], mode: str = "L") -> None:
    """A mask of 2 x 3 squares."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.kron(np.array(values, np.uint8), np.ones((HEIGHT // 2, WIDTH // 3), np.uint8)))
    if mode == "P":
        image.putpalette(RNG.integers(0, 256, 768, dtype=np.uint8).tobytes())
    (image if mode in {image.mode, "P"} else image.convert(mode)).save(file)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Three pictures."""
    for name in ("a.png", "b.JPG", "c.v2.jpeg"):
        picture(tmp_path / "birds" / name)
    return tmp_path / "birds"


def test_pictures_are_found_by_suffix_flat_and_in_sub_folders_in_the_order_of_their_paths(birds: Path) -> None:
    picture(birds / "n01440764" / "x.PNG")
    picture(birds / ".hidden" / "y.png")
    picture(birds / "n01440764" / "._x.png")
    (birds / "notes.txt").write_text("no picture")
    (birds / "folder.jpg").mkdir()
    found = Folder(path=birds)
    assert found.ids == ("a", "b", "c.v2", "n01440764/x")
    assert [found[index].image.shape for index in range(len(found))] == [(3, 224, 224)] * 4
    assert (found.provides, found[0].mask, found[0].boxes) == (frozenset(), None, None)


def test_pictures_of_one_stem_keep_their_suffixes_and_no_mask_is_both_s(birds: Path) -> None:
    picture(birds / "a.bmp")
    assert Folder(path=birds).ids == ("a.bmp", "a.png", "b", "c.v2")
    mask(birds.parent / "masks" / "a.png", [[0, 1, 1], [0, 0, 0]])
    with pytest.raises(BadData, match=r"^ambiguous name: .*masks \('a' may be a\.bmp or a\.png\)$"):
        Folder(path=birds, masks=birds.parent / "masks")


@pytest.mark.parametrize(
    ("lay", "said"),
    [
        (lambda path: None, r"^no folder .*nothing$"),
        (lambda path: path.mkdir(), r"^no pictures \(\.jpg, .*\) in .*nothing or its sub-folders$"),
        (lambda path: picture(path / "a" / "b" / "deep.png"), r"^no pictures"),
    ],
)
def test_a_folder_without_pictures_is_refused(lay: object, said: str, tmp_path: Path) -> None:
    assert callable(lay)
    lay(tmp_path / "nothing")
    with pytest.raises(DataMissing, match=said):
        Folder(path=tmp_path / "nothing")


def test_what_is_not_zero_is_object_and_255_in_a_palette_is_void(birds: Path) -> None:
    masks = birds.parent / "masks"
    mask(masks / "a.png", [[0, 1, 255], [7, 0, 0]])
    mask(masks / "b.BMP", [[0, 1, 255], [7, 0, 0]], "RGB")
    mask(masks / "c.v2.png", [[0, 1, 255], [7, 0, 0]], "P")
    found = Folder(path=birds, masks=masks, size=6)
    read = [sample.mask for sample in (found[0], found[1], found[2])]
    objects = np.kron([[0, 1, 1], [1, 0, 0]], np.ones((3, 2), int))
    with_void = np.kron([[0, 1, VOID], [1, 0, 0]], np.ones((3, 2), int))
    assert [one is not None and one.tolist() for one in read] == [
        objects.tolist(),
        objects.tolist(),
        with_void.tolist(),
    ]
    assert found.provides == {"mask"}


def test_a_picture_without_a_mask_has_none_and_masks_below_the_pictures_are_no_pictures(birds: Path) -> None:
    mask(birds / "masks" / "b.png", [[0, 1, 1], [0, 0, 0]])
    found = Folder(path=birds, masks=birds / "masks")
    assert found.ids == ("a", "b", "c.v2")
    assert [found[index].mask is not None for index in range(3)] == [False, True, False]


def test_a_mask_of_another_size_spoils_its_own_picture_only(birds: Path) -> None:
    mask(birds.parent / "masks" / "b.png", [[0, 1, 1], [0, 0, 0]])
    picture(birds / "b.JPG", width=WIDTH + 1)
    found = Folder(path=birds, masks=birds.parent / "masks")
    with pytest.raises(BadData, match=r"mask of another size than its image: .*b\.png \(\(60, 40\) against \(61, 40\)"):
        found[1]
    assert found[0].id == "a"


def test_masks_that_cannot_be_the_pictures_are_refused(birds: Path) -> None:
    masks = birds.parent / "masks"
    picture(masks / "a.jpg")
    with pytest.raises(DataMissing, match=r"^no masks \(\.png, .*masks"):
        Folder(path=birds, masks=masks)
    mask(masks / "a_mask.png", [[0, 1, 1], [0, 0, 0]])
    with pytest.raises(DataMissing, match=r"of other pictures than .*birds: it names 'a_mask', where .* 'a', 'b', ..."):
        Folder(path=birds, masks=masks)
    for suffix in ("png", "bmp"):
        mask(masks / f"a.{suffix}", [[0, 1, 1], [0, 0, 0]])
    with pytest.raises(BadData, match=r"^image listed twice: .*masks \(a\)$"):
        Folder(path=birds, masks=masks)


XML = """<annotation><size><width>60</width><height>40</height></size>
<object><name>bird</name><bndbox><xmin>21</xmin><ymin>1</ymin><xmax>40</xmax><ymax>20</ymax></bndbox></object>
</annotation>"""
YOLO = "0 0.500000 0.250000 0.333333 0.500000\r\n"
CSV = "\ufeffimage,xmin,ymin,xmax,ymax,class\r\nb.JPG,20,0,40,20,bird\r\n"


@pytest.mark.parametrize(("name", "text"), [("marks/b.xml", XML), ("marks/b.txt", YOLO), ("marks.csv", CSV)])
def test_boxes_are_read_in_three_forms(name: str, text: str, birds: Path) -> None:
    file = birds.parent / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, newline="")
    (birds.parent / "marks").mkdir(exist_ok=True)
    (birds.parent / "marks" / "classes.txt").write_text("bird")
    found = Folder(path=birds, boxes=birds.parent / Path(name).parts[0], size=60)
    boxes = found[1].boxes
    assert boxes is not None
    assert boxes.tolist() == [[20, 0, 40, 30]]
    assert (found.provides, found[0].boxes) == ({"boxes"}, None)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("marks/b.txt", "0 0.5 0.5 0.2", r"unreadable boxes: .*b\.txt \('0 0.5 0.5 0.2' is not class, centre x"),
        ("marks/b.txt", "0 0.9 0.5 0.6 0.2", r"box outside the image: .*b\.txt \(36.00 16.00 72.00 24.00 in 60 x 40"),
        ("marks.csv", "image,xmin,ymin,xmax,ymax\nb,1,2,3", r"box outside the image: .*marks\.csv, b \(not four"),
    ],
)
def test_an_impossible_box_spoils_its_own_picture_only(name: str, text: str, said: str, birds: Path) -> None:
    file = birds.parent / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    found = Folder(path=birds, boxes=birds.parent / Path(name).parts[0])
    with pytest.raises(BadData, match=said):
        found[1]
    assert found[0].id == "a"


def test_boxes_that_are_nowhere_are_refused(birds: Path) -> None:
    empty, table = birds.parent / "empty", birds.parent / "table.csv"
    empty.mkdir()
    table.write_text("b;1;2;3;4\n")
    for path, said in ((empty, "neither .xml files of"), (birds / "none", "neither a folder"), (table, "has to name")):
        with pytest.raises((DataMissing, BadData), match=said):
            Folder(path=birds, boxes=path)


@pytest.mark.parametrize("classes", [("n01440764", "n15075141"), ("Tench", "toilet_tissue"), ("0", "999")])
def test_sub_folders_are_imagenet_s_classes_by_wnid_name_or_index(classes: tuple[str, str], tmp_path: Path) -> None:
    for name in classes:
        picture(tmp_path / name / "x.png")
    picture(tmp_path / "unlabelled.png")
    found = Folder(path=tmp_path)
    assert found.label_space == "imagenet"
    labels = {found[index].id: found[index].label for index in range(3)}
    assert labels == {f"{classes[0]}/x": 0, f"{classes[1]}/x": 999, "unlabelled": None}


@pytest.mark.parametrize("classes", [("n01440764", "cats"), ("tench", "cardigan"), ("0", "1000"), ("0", "goldfish")])
def test_labels_that_are_not_all_imagenet_s_are_said_and_not_used(
    classes: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in classes:
        picture(tmp_path / name / "x.png")
    with caplog.at_level(logging.WARNING):
        found = Folder(path=tmp_path)
    assert (found.label_space, found[0].label) == ("", None)
    (line,) = caplog.messages
    assert "images are without labels" in line
    assert classes[1] in line or classes == ("0", "goldfish")


def test_labels_of_a_file_come_before_those_of_folders(birds: Path) -> None:
    file = birds.parent / "labels.csv"
    file.write_bytes(b"\xef\xbb\xbflabel, image\r\ntench, a.png\r\ngreat white shark, b\r\n")
    found = Folder(path=birds, labels=file)
    assert ([found[index].label for index in range(3)], found.label_space) == ([0, 2, None], "imagenet")
    file.write_text("image,label\na,tench\na.png,goldfish\n")
    with pytest.raises(BadData, match=r"image listed twice: .*labels\.csv \(a\)"):
        Folder(path=birds, labels=file)


def test_the_fingerprint_is_of_what_the_files_hold_and_not_of_where_they_lie(birds: Path, tmp_path: Path) -> None:
    mask(tmp_path / "masks" / "a.png", [[0, 1, 1], [0, 0, 0]])
    (tmp_path / "labels.csv").write_text("image,label\na,1\n")
    (tmp_path / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax\na,1,2,3,4\n")

    def given() -> Folder:
        return Folder(
            path=birds, masks=tmp_path / "masks", labels=tmp_path / "labels.csv", boxes=tmp_path / "boxes.csv"
        )

    prints = [Folder(path=birds).fingerprint, given().fingerprint]
    mask(tmp_path / "masks" / "a.png", [[0, 1, 0], [0, 0, 0]])
    prints.append(given().fingerprint)
    (tmp_path / "labels.csv").write_text("image,label\na,2\n")
    prints.append(given().fingerprint)
    (tmp_path / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax\na,1,2,3,5\n")
    prints.append(given().fingerprint)
    picture(birds / "a.png")
    prints.append(given().fingerprint)
    assert len(set(prints)) == 6
    birds.rename(tmp_path / "elsewhere")
    moved = Folder(path=tmp_path / "elsewhere", boxes=tmp_path / "boxes.csv")
    assert moved.fingerprint != prints[-1]
    (tmp_path / "elsewhere").rename(birds)
    assert Folder(path=birds, boxes=tmp_path / "boxes.csv").fingerprint == moved.fingerprint
    assert not any(isinstance(value, Path) for value in parameters(moved).values())


def test_a_call_is_typed_as_it_is_printed(birds: Path) -> None:
    mask(birds.parent / "masks, all" / "a.png", [[0, 1, 1], [0, 0, 0]])
    built = DATASETS.build(parse_call(f"folder(path={birds}, masks='{birds.parent}/masks, all')"), size=32)
    label = Named("folder", built, given=frozenset({"size"})).label
    assert DATASETS.build(parse_call(label), size=32) == built
    copy = pickle.loads(pickle.dumps(built))  # noqa: S301 - our own bytes
    assert copy[0].image.equal(built[0].image)


def test_metrics_are_those_that_the_parameters_provide_for() -> None:
    def metrics(dataset: str, *asked: str) -> set[str]:
        spec = RunSpec.read(None, {"dataset": dataset, "metric": list(asked), "model": "squeezenet1_1"})
        return {metric.name for metric in settings(spec).metrics}

    assert metrics("folder(path=p)").isdisjoint({"segmentation", "outside_inside"})
    assert "segmentation" in metrics("folder(path=p, masks=m)")
    assert "outside_inside" in metrics("folder(path=p, boxes=b)", "outside_inside")
    with pytest.raises(BadConfig, match=r"metric segmentation needs mask, which folder\(path=p\) lacks"):
        metrics("folder(path=p)", "segmentation")
    with pytest.raises(BadConfig, match=r"write folder\(path=\.\.\.\)"):
        DATASETS.build(parse_call("folder"))


@pytest.mark.data
def test_real_pictures_have_their_masks_and_classes(data_root: Path) -> None:
    ecssd = Folder(path=data_root / "ecssd/images", masks=data_root / "ecssd/masks", size=64)
    samples = Folder(path=data_root / "imagenet_samples", size=64)
    masks = [ecssd[index].mask for index in range(len(ecssd))]
    assert all(one is not None and 0 < one.sum() < 64 * 64 for one in masks)
    labels = torch.tensor([samples[index].label for index in range(len(samples))])
    assert (len(labels), bool((labels.diff() > 0).all()), samples.label_space) == (200, True, "imagenet")


@pytest.mark.data
def test_real_voc_is_read_as_a_folder_as_it_is_read_by_its_lists(data_root: Path) -> None:
    voc = Voc(data_root=data_root, size=64)
    root = data_root / "voc/VOCdevkit/VOC2012"
    given = Folder(path=root / "JPEGImages", masks=root / "SegmentationClass", boxes=root / "Annotations", size=64)
    assert len(voc) == len(given)
    for sample in (voc[index] for index in range(0, len(voc), 10)):
        same = given[given.ids.index(sample.id)]
        for one, other in ((sample.image, same.image), (sample.mask, same.mask), (sample.boxes, same.boxes)):
            assert (one is None) == (other is None)
            assert one is None or other is None or torch.equal(one, other)


@pytest.mark.data
def test_wnids_are_in_the_order_of_the_published_list(data_root: Path) -> None:
    published = (data_root / "imagenet/LOC_synset_mapping.txt").read_text().splitlines()
    expected = {line.split()[0]: index for index, line in enumerate(published)}
    some = list(expected)[::7]
    assert class_indices(some, [data_root / "imagenet"]) == {wnid: expected[wnid] for wnid in some}
    assert class_indices(expected) == expected
    assert class_indices(some) == {wnid: expected[wnid] for wnid in some}, "timm knows them too"


def test_wnids_whose_order_is_known_nowhere_are_no_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    picture(tmp_path / "n01440764" / "x.png")
    monkeypatch.setattr("rapbench.datasets.imagenet_classes._of_timm", frozenset)
    assert Folder(path=tmp_path).label_space == ""
    assert "LOC_synset_mapping.txt there, or pip install" in caplog.text

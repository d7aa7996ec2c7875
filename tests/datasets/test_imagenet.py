import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadData, DataMissing
from rapbench.core.types import Dataset
from rapbench.datasets import DATASETS
from rapbench.datasets.imagenet import ImageNet

RNG = np.random.default_rng(0)
WNIDS = [f"n{number:08d}" for number in range(1440764, 1440764 + 3000, 3)]
STEMS = [f"ILSVRC2012_val_{number:08d}" for number in (3, 20, 7, 41)]
ORDER = tuple(sorted(STEMS))
LABELS = {STEMS[0]: 999, STEMS[1]: 0, STEMS[2]: 17, STEMS[3]: 500}
XML = """<annotation><filename>ILSVRC2012_val_00000000</filename><size><width>{}</width><height>{}</height></size>
{}</annotation>"""
OBJECT = """<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>
</object>"""


def _photos(folder: Path, *, by_class: bool = False) -> None:
    for stem in STEMS:
        place = folder / WNIDS[LABELS[stem]] if by_class else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (100, 200, 3), dtype=np.uint8)).save(place / f"{stem}.JPEG")


def _mapping(root: Path) -> None:
    lines = [f"{wnid} some, words" for wnid in WNIDS]
    RNG.shuffle(lines)
    (root / "LOC_synset_mapping.txt").write_text("\n".join(lines) + "\n")


def _xml(folder: Path, stem: str, *objects: tuple[object, ...], frame: tuple[int, int] = (200, 100)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.xml").write_text(XML.format(*frame, "".join(OBJECT.format(*each) for each in objects)))


def _xmls(folder: Path) -> None:
    for stem in STEMS:
        _xml(folder, stem, (WNIDS[LABELS[stem]], 100, 0, 200, 50))


def _csv(root: Path, sides: str = "100 0 200 50") -> None:
    rows = [f"{stem},{WNIDS[LABELS[stem]]} {sides} " for stem in STEMS]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]) + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four photographs of 200 x 100 pixels in val, with XML files and the list of WNIDs."""
    _photos(tmp_path / "val")
    _xmls(tmp_path / "bbox/val")
    _mapping(tmp_path)
    return tmp_path


@pytest.mark.parametrize("photos", ["val", ".", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val", "imagenet/val"])
@pytest.mark.parametrize("xmls", ["bbox/val", "val", ".", "ILSVRC/Annotations/CLS-LOC/val"])
def test_every_usual_layout_gives_the_same_samples(tmp_path: Path, photos: str, xmls: str) -> None:
    inner = tmp_path / "imagenet" if photos.startswith("imagenet") else tmp_path
    _photos(tmp_path / photos)
    _xmls(inner / xmls)
    _mapping(inner)
    found = ImageNet(data_root=tmp_path, size=8)
    assert found.ids == ORDER
    assert len(found) == 4
    assert [sample.label for sample in found] == [LABELS[stem] for stem in ORDER]
    assert all(sample.boxes is not None and sample.boxes.tolist() == [[4, 0, 8, 4]] for sample in found)


def test_folders_named_after_classes_give_labels(tmp_path: Path) -> None:
    _photos(tmp_path / "val", by_class=True)
    _mapping(tmp_path)
    found = ImageNet(data_root=tmp_path)
    assert found.ids == ORDER
    assert [(sample.label, sample.boxes) for sample in found] == [(LABELS[stem], None) for stem in ORDER]


def test_a_thousand_class_folders_need_no_list(tmp_path: Path) -> None:
    _photos(tmp_path / "val", by_class=True)
    for number, wnid in enumerate(WNIDS, start=1000):
        (tmp_path / "val" / wnid).mkdir(exist_ok=True)
        (tmp_path / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG").touch()
    found = ImageNet(data_root=tmp_path)
    assert [found[index].label for index in range(4)] == [LABELS[stem] for stem in ORDER]


@pytest.mark.parametrize("boxes", ["auto", "csv"])
def test_the_csv_stands_in_for_xml_files(root: Path, boxes: str) -> None:
    shutil.rmtree(root / "bbox")
    _csv(root)
    built: Dataset = DATASETS.build(parse_call(f"imagenet(boxes={boxes})"), data_root=root, size=8)
    assert [sample.label for sample in built] == [LABELS[stem] for stem in ORDER]
    assert built[0].boxes is not None
    assert built[0].boxes.tolist() == [[4, 0, 8, 4]]


def test_the_csv_is_followed_only_when_asked_for_where_there_are_xml_files(root: Path) -> None:
    _csv(root, "0 0 100 100 " + f"{WNIDS[999]} 0 50 200 100")
    first = {boxes: ImageNet(data_root=root, size=8, boxes=boxes)[0].boxes for boxes in ("auto", "xml", "csv")}
    rows = {boxes: None if found is None else found.tolist() for boxes, found in first.items()}
    assert rows == {"auto": [[4, 0, 8, 4]], "xml": [[4, 0, 8, 4]], "csv": [[0, 0, 4, 8], [0, 4, 8, 8]]}


def test_only_boxes_of_the_images_own_class_count(root: Path) -> None:
    own, other = WNIDS[LABELS[ORDER[0]]], WNIDS[1]
    _csv(root)
    _xml(root / "bbox/val", ORDER[0], (other, 0, 0, 200, 100), (own, 0, 0, 100, 100), (own, 50, 50, 75, 75))
    sample = ImageNet(data_root=root, size=8)[0]
    assert sample.label == LABELS[ORDER[0]]
    assert sample.boxes is not None
    assert sample.boxes.dtype == torch.int64
    assert sample.boxes.tolist() == [[0, 0, 4, 8], [2, 4, 3, 6]]


def test_xml_boxes_are_relative_to_the_size_the_xml_states(root: Path) -> None:
    _xml(root / "bbox/val", ORDER[0], (WNIDS[999], 200, 0, 400, 100), frame=(400, 200))
    boxes = ImageNet(data_root=root, size=8)[0].boxes
    assert boxes is not None
    assert boxes.tolist() == [[4, 0, 8, 4]]


def test_a_photograph_without_annotation_has_neither_label_nor_boxes(root: Path) -> None:
    (root / f"bbox/val/{ORDER[1]}.xml").unlink()
    _xml(root / "bbox/val", ORDER[2])
    found = ImageNet(data_root=root)
    assert [(sample.label is None, sample.boxes is None) for sample in found] == [
        (False, False), (True, True), (True, True), (False, False),
    ]  # fmt: skip


def test_a_box_outside_the_crop_is_dropped(tmp_path: Path) -> None:
    _photos(tmp_path)
    _mapping(tmp_path)
    _csv(tmp_path, "0 0 20 100")
    assert ImageNet(data_root=tmp_path, size=56, preprocess="crop")[0].boxes is None
    assert ImageNet(data_root=tmp_path, size=56, preprocess="squash")[0].boxes is not None


def test_without_a_folder_the_option_is_named() -> None:
    with pytest.raises(DataMissing, match="--data-root"):
        ImageNet()


def test_missing_photographs_are_told_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        DataMissing, match=r"no ILSVRC2012_val_\*\.JPEG in .*CLS-LOC.*unpack ILSVRC2012_img_val\.tar"
    ) as error:
        ImageNet(data_root=tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_class_index_needs_all_thousand_classes(root: Path) -> None:
    mapping = root / "LOC_synset_mapping.txt"
    mapping.write_text("\n".join(mapping.read_text().splitlines()[:998]))
    with pytest.raises(DataMissing, match=r"LOC_synset_mapping\.txt.*name 998: put"):
        ImageNet(data_root=root)
    mapping.unlink()
    with pytest.raises(DataMissing, match=r"LOC_synset_mapping\.txt.*name 0: put"):
        ImageNet(data_root=root)


def test_missing_boxes_are_told_only_to_who_asks_for_them(root: Path) -> None:
    with pytest.raises(DataMissing, match=r"no LOC_val_solution\.csv"):
        ImageNet(data_root=root, boxes="csv")
    shutil.rmtree(root / "bbox")
    with pytest.raises(DataMissing, match="no class labels"):
        ImageNet(data_root=root)
    _csv(root)
    with pytest.raises(DataMissing, match=r"no ILSVRC2012_val_\*\.xml.*bbox/val.*unpack"):
        ImageNet(data_root=root, boxes="xml")
    assert ImageNet(data_root=root).ids == ORDER


@pytest.mark.parametrize(
    "fault", ["unreadable image", "box outside the image", "unknown class", "unsafe XML", "in the csv"]
)
def test_a_fault_spoils_its_own_sample_only(root: Path, fault: str) -> None:
    name, xml, options = ORDER[1], root / f"bbox/val/{ORDER[1]}.xml", {}
    match fault:
        case "unreadable image":
            (root / f"val/{name}.JPEG").write_bytes(b"\xff\xd8\xff")
        case "box outside the image":
            _xml(root / "bbox/val", name, (WNIDS[17], 100, 0, 201, 50))
        case "unknown class":
            _xml(root / "bbox/val", name, ("n99999999", 100, 0, 200, 50))
        case "unsafe XML":
            xml.write_text(f"<!DOCTYPE a>{xml.read_text()}")
        case "in the csv":
            _csv(root)
            file = root / "LOC_val_solution.csv"
            file.write_text(file.read_text().replace(f"{WNIDS[17]} 100 0 200 50", f"{WNIDS[17]} 100 0 200"))
            options, fault = {"boxes": "csv"}, "box outside the image"
    found = ImageNet(data_root=root, **options)
    with pytest.raises(BadData, match=name) as error:
        found[1]
    assert error.value.reason == fault
    assert [found[index].label for index in (0, 2, 3)] == [LABELS[ORDER[index]] for index in (0, 2, 3)]


def test_a_used_data_set_can_be_pickled(root: Path) -> None:
    found = ImageNet(data_root=root, size=8)
    _ = found[0]
    copy = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    assert copy == found
    assert (copy[1].label, copy[1].image.equal(found[1].image)) == (LABELS[ORDER[1]], True)


@pytest.mark.data
@pytest.mark.parametrize("boxes", ["xml", "csv"])
def test_the_real_photographs_carry_a_label_and_boxes(data_root: Path, boxes: str) -> None:
    for sample in ImageNet(data_root=data_root, boxes=boxes):
        assert sample.image.shape == (3, 224, 224)
        assert sample.label is not None
        assert 0 <= sample.label < 1000
        assert sample.boxes is not None
        assert (sample.boxes[:, :2] < sample.boxes[:, 2:]).all()


@pytest.mark.data
def test_real_xml_files_and_the_csv_agree(data_root: Path) -> None:
    xml, table = (ImageNet(data_root=data_root, boxes=boxes) for boxes in ("xml", "csv"))
    for ours, theirs in zip(xml, table, strict=True):
        assert ours.label == theirs.label
        assert ours.boxes is not None
        assert theirs.boxes is not None
        assert torch.equal(ours.boxes, theirs.boxes)


@pytest.mark.data
def test_the_source_of_boxes_is_part_of_the_fingerprint(data_root: Path) -> None:
    prints = {ImageNet(data_root=data_root, boxes=boxes).fingerprint for boxes in ("auto", "xml", "csv")}
    assert len(prints) == 2

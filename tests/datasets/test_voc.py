import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadConfig, BadData, DataMissing
from rapbench.core.types import VOID, Dataset
from rapbench.datasets import DATASETS
from rapbench.datasets.voc import Voc

IDS = ("2007_000033", "2007_000042", "2007_000061", "2007_000123", "2007_000129")
RNG = np.random.default_rng(0)
CLASSES = np.kron(np.array([[0, 1, 20], [255, 7, 0]], np.uint8), np.ones((100, 100), np.uint8))
XML = """<annotation><filename>other.jpg</filename><size><width>300</width><height>200</height><depth>3</depth></size>
<object><name>cow</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>
</annotation>"""

OTHER = """<object><name>dog</name><bndbox><xmin>120</xmin><ymin>90</ymin><xmax>150</xmax><ymax>110</ymax></bndbox>
</object>"""


def _indexed(classes: np.ndarray) -> Image.Image:
    image = Image.fromarray(classes)
    image.putpalette(RNG.integers(0, 256, 768, dtype=np.uint8).tobytes())
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A VOC2012 of five photographs of 300 x 200 pixels, of which the second has an XML file."""
    folder = tmp_path / "data" / "voc" / "VOCdevkit" / "VOC2012"
    for name in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass", "Annotations"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets/Segmentation/val.txt").write_text("".join(f"{name}\n" for name in IDS))
    for name in IDS:
        pixels = RNG.integers(0, 256, (200, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"JPEGImages/{name}.jpg")
        _indexed(CLASSES).save(folder / f"SegmentationClass/{name}.png")
    (folder / f"Annotations/{IDS[1]}.xml").write_text(XML.format(101, 1, 200, 200))
    return folder


def test_any_folder_on_the_way_to_the_images_will_do(folder: Path) -> None:
    roots = [folder, folder.parent, folder.parent.parent, folder.parent.parent.parent]
    sets = [Voc(data_root=root) for root in roots]
    assert {found.ids for found in sets} == {IDS}
    assert len({found.fingerprint for found in sets}) == 1
    assert [len(found) for found in sets] == [5] * 4


def test_it_is_what_the_catalogue_builds(folder: Path) -> None:
    built: Dataset = DATASETS.build(parse_call("voc(preprocess=crop)"), data_root=folder, size=64)
    assert built == Voc(data_root=folder, size=64, preprocess="crop")
    assert built[0].image.shape == (3, 64, 64)
    with pytest.raises(BadConfig, match="'squash' or 'crop'"):
        DATASETS.build(parse_call("voc(preprocess=stretch)"), data_root=folder, size=64)


def test_order_is_the_lists(folder: Path) -> None:
    (folder / "ImageSets/Segmentation/val.txt").write_text("\n".join(reversed(IDS)))
    assert Voc(data_root=folder).ids == tuple(reversed(IDS))


def test_the_mask_joins_the_classes_and_keeps_void(folder: Path) -> None:
    mask = Voc(data_root=folder, size=6)[0].mask
    assert mask is not None
    expected = np.kron(np.array([[0, 1, 1], [VOID, 1, 0]]), np.ones((3, 2), int))
    assert mask.dtype == torch.uint8
    assert mask.tolist() == expected.tolist()


def test_boxes_count_pixels_from_one_and_are_absent_without_an_xml_file(folder: Path) -> None:
    samples = list(Voc(data_root=folder, size=6))
    assert [sample.boxes is None for sample in samples] == [True, False, True, True, True]
    assert samples[1].boxes is not None
    assert samples[1].boxes.dtype == torch.int64
    assert samples[1].boxes.tolist() == [[2, 0, 4, 6]]
    classes = [sample.box_classes for sample in samples if sample.box_classes is not None]
    assert [its.shape for its in classes] == [(0, 20), (1, 20), (0, 20), (0, 20), (0, 20)]
    assert classes[1].nonzero().tolist() == [[0, 9]], "a cow"


def test_classes_are_of_the_boxes_that_a_crop_leaves(folder: Path) -> None:
    two = XML.replace("</annotation>", OTHER + "</annotation>")
    (folder / f"Annotations/{IDS[1]}.xml").write_text(two.format(1, 1, 20, 20))  # a cow outside, a dog inside
    cropped, squashed = (Voc(data_root=folder, preprocess=how)[1] for how in ("crop", "squash"))
    assert cropped.boxes is not None
    assert cropped.box_classes is not None
    assert (len(cropped.boxes), cropped.box_classes.nonzero().tolist()) == (1, [[0, 11]])
    assert squashed.box_classes is not None
    assert squashed.box_classes.nonzero().tolist() == [[0, 9], [1, 11]]


def test_a_sample_has_no_label(folder: Path) -> None:
    sample = Voc(data_root=folder)[-1]
    assert (sample.id, sample.label) == (IDS[-1], None)
    assert (sample.image.shape, sample.image.dtype) == ((3, 224, 224), torch.float32)
    assert 0 <= sample.image.min() < sample.image.max() <= 1


def test_images_of_another_size_change_the_fingerprint(folder: Path) -> None:
    before = Voc(data_root=folder).fingerprint
    Image.new("RGB", (300, 200)).save(folder / f"JPEGImages/{IDS[3]}.jpg")
    assert Voc(data_root=folder).fingerprint != before


def test_another_year_and_split_are_lists_of_their_own(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "VOC2007")
    for name, ids in (("train", IDS[:2]), ("test", IDS[2:])):
        (folder.parent / f"VOC2007/ImageSets/Segmentation/{name}.txt").write_text("\n".join(ids))
    train, test = (Voc(data_root=folder.parent, year="2007", split=split) for split in ("train", "test"))
    assert (train.ids, test.ids) == (IDS[:2], IDS[2:])
    assert (train.full_size, test.full_size, Voc(data_root=folder).full_size) == (209, 210, 1449)
    with pytest.raises(DataMissing, match=r"no ImageSets/Segmentation/none\.txt in .*VOCtrainval_06-Nov-2007\.tar"):
        Voc(data_root=folder.parent, year="2007", split="none")
    with pytest.raises(BadConfig, match="'2012' or '2007'"):
        DATASETS.build(parse_call("voc(year=2008)"), data_root=folder)


def test_the_main_image_set_has_boxes_and_no_masks(folder: Path) -> None:
    shutil.rmtree(folder / "SegmentationClass")
    (folder / "ImageSets/Main").mkdir()
    (folder / "ImageSets/Main/val.txt").write_text("\n".join(IDS))
    (folder / "ImageSets/Main/cow_val.txt").write_text(f"{IDS[0]} -1\n{IDS[1]}  1\n{IDS[2]}  0\n{IDS[3]}  1\n")
    main = Voc(data_root=folder, imageset="main")
    assert (main.ids, main[1].mask, main.full_size) == (IDS, None, 5823)
    assert main[1].boxes is not None
    assert main.provides == Voc.provided({"imageset": "main"}) == {"boxes", "box_classes"}
    assert Voc.provided({}) == {"boxes", "box_classes", "mask"}
    cows = Voc(data_root=folder, imageset="main", split="cow_val")
    assert (cows.ids, cows.full_size) == ((IDS[1], IDS[3]), None)
    with pytest.raises(DataMissing, match=r"no ImageSets/Segmentation/cow_val\.txt in .*: write imageset=main"):
        Voc(data_root=folder, split="cow_val")


def test_without_a_folder_the_archive_is_named() -> None:
    with pytest.raises(DataMissing, match=r"VOCtrainval.*--data-root"):
        Voc()


def test_an_empty_folder_is_told_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        DataMissing, match=r"no ImageSets/Segmentation/val\.txt in .* VOCdevkit/VOC2012.*unpack"
    ) as error:
        Voc(data_root=tmp_path)
    assert str(tmp_path) in str(error.value)


def test_an_empty_list_is_missing_data(folder: Path) -> None:
    (folder / "ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(DataMissing, match=r"val\.txt lists no image"):
        Voc(data_root=folder)


def test_a_list_with_blank_lines_and_windows_ends_is_the_same_list(folder: Path) -> None:
    (folder / "ImageSets/Segmentation/val.txt").write_bytes(b"\r\n" + "\r\n \r\n".join(IDS).encode())
    assert Voc(data_root=folder).ids == IDS


def test_an_image_listed_twice_is_refused(folder: Path) -> None:
    (folder / "ImageSets/Segmentation/val.txt").write_text("\n".join([*IDS, IDS[1], IDS[3]]))
    with pytest.raises(BadData, match=rf"^image listed twice: .*val\.txt \({IDS[1]} and 1 more\)$"):
        Voc(data_root=folder)


def test_a_list_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "ImageSets/Segmentation/val.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(BadData, match=r"^unreadable list: .*val\.txt"):
        Voc(data_root=folder)


def test_a_used_data_set_can_be_pickled(folder: Path) -> None:
    voc = Voc(data_root=folder, size=16)
    _ = voc[0]
    copy = pickle.loads(pickle.dumps(voc))  # noqa: S301 - our own bytes
    assert copy == voc
    assert copy[1].image.equal(voc[1].image)


@pytest.mark.parametrize(
    "lost", [f"JPEGImages/{IDS[0]}.jpg", f"SegmentationClass/{IDS[2]}.png", f"JPEGImages/{IDS[4]}.jpg"]
)
def test_a_half_extracted_archive_is_noticed_at_once(folder: Path, lost: str) -> None:
    (folder / lost).unlink()
    with pytest.raises(DataMissing, match=lost):
        Voc(data_root=folder)


def _spoil(folder: Path, fault: str) -> None:
    name = IDS[1]
    photo, mask = folder / f"JPEGImages/{name}.jpg", folder / f"SegmentationClass/{name}.png"
    xml = folder / f"Annotations/{name}.xml"
    match fault:
        case "missing image":
            photo.unlink()
        case "unreadable image":
            photo.write_bytes(photo.read_bytes()[:-2000])
        case "mask without class indices":
            _indexed(CLASSES).convert("RGB").save(mask)
        case "mask of another size than its image":
            _indexed(CLASSES[:, 1:]).save(mask)
        case "impossible class in mask":
            _indexed(CLASSES + 14).save(mask)
        case "box outside the image":
            xml.write_text(XML.format(0, 1, 20, 20))
        case "unsafe XML":
            xml.write_text("<!DOCTYPE annotation>" + XML.format(1, 1, 20, 20))
        case "unreadable XML":
            shutil.copy(photo, xml)


@pytest.mark.parametrize(
    "fault",
    ["missing image", "unreadable image", "mask without class indices", "mask of another size than its image",
     "impossible class in mask", "box outside the image", "unsafe XML", "unreadable XML"],
)  # fmt: skip
def test_a_fault_spoils_its_own_sample_only(folder: Path, fault: str) -> None:
    _spoil(folder, fault)
    voc = Voc(data_root=folder)
    with pytest.raises(BadData, match=IDS[1]) as error:
        voc[1]
    assert error.value.reason == fault
    assert [voc[index].id for index in (0, 2, 3, 4)] == [IDS[0], *IDS[2:]]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_photographs_have_three_channels(folder: Path, mode: str) -> None:
    file = folder / f"JPEGImages/{IDS[0]}.jpg"
    with Image.open(file) as image:
        converted = image.convert(mode)
    converted.save(file)
    assert Voc(data_root=folder)[0].image.shape == (3, 224, 224)


@pytest.mark.data
def test_the_real_photographs_are_whole(data_root: Path) -> None:
    voc = Voc(data_root=data_root, size=64)
    counts = np.zeros(256, int)
    for sample in voc:
        assert sample.mask is not None
        counts += np.bincount(sample.mask.flatten(), minlength=256)
        assert sample.boxes is None or ((sample.boxes >= 0) & (sample.boxes <= 64)).all()
    assert counts[[0, 1, VOID]].sum() == counts.sum() == len(voc) * 64 * 64
    assert 0.2 < counts[1] / counts[:2].sum() < 0.35


@pytest.mark.data
def test_real_boxes_hold_nearly_all_of_the_foreground(data_root: Path) -> None:
    inside = outside = 0
    for sample in Voc(data_root=data_root):
        if sample.boxes is None or sample.mask is None:
            continue
        covered = torch.zeros(224, 224, dtype=torch.bool)
        for col0, row0, col1, row1 in sample.boxes.tolist():
            covered[row0:row1, col0:col1] = True
        inside += int((covered & (sample.mask == 1)).sum())
        outside += int((~covered & (sample.mask == 1)).sum())
    assert outside / (inside + outside) < 0.02

import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from rapbench.core.errors import BadData, DataMissing, RapbenchError
from rapbench.datasets.imagenet import ImageNet
from rapbench.datasets.imagenet_labels import read_devkit

RNG = np.random.default_rng(0)
WNIDS = [f"n{number:08d}" for number in range(1440764, 1440764 + 3000, 3)]
OTHERS = [f"n{number:08d}" for number in range(1, 20)]
NUMBERS = RNG.permutation(1000) + 1
"""ILSVRC2012_ID of each WNID: the devkit's order is not the sorted one."""
PHOTOS = {3: 999, 7: 17, 20: 0, 41: 500}
"""Number of a photograph -> the rank of its WNID."""
IDS = tuple(f"ILSVRC2012_val_{number:08d}" for number in PHOTOS)
LABELS = list(PHOTOS.values())
XML = """<annotation><size><width>20</width><height>10</height></size><object><name>{}</name><bndbox><xmin>10</xmin>
<ymin>0</ymin><xmax>20</xmax><ymax>5</ymax></bndbox></object></annotation>"""


def _meta(file: Path, numbers: list[int], **changes: object) -> None:
    """meta.mat: the classes and, mixed among them, synsets that have children."""
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "num_train_images"]
    rows = [(number, wnid, "a, b", "gloss", 0, [], 1300) for number, wnid in zip(numbers, WNIDS, strict=True)]
    rows += [(1001 + k, wnid, "a", "gloss", 2, [k, k + 1], 0) for k, wnid in enumerate(OTHERS)]
    synsets = np.empty((len(rows), 1), [(name, object) for name in fields])
    for place, row in zip(RNG.permutation(len(rows)), rows, strict=True):
        synsets[place, 0] = row
    savemat(file, {"synsets": synsets} | changes, do_compression=True)


def _truth(count: int) -> list[str]:
    return [str(NUMBERS[PHOTOS.get(number, number % 1000)]) for number in range(1, count + 1)]


def _devkit(folder: Path, count: int = 60) -> Path:
    """A development kit that labels as many photographs."""
    data = folder / "ILSVRC2012_devkit_t12/data"
    data.mkdir(parents=True)
    _meta(data / "meta.mat", NUMBERS.tolist())
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(_truth(count)) + "\n")
    return data.parent


def _photos(folder: Path, *, by_class: bool = False) -> None:
    for name, label in zip(IDS, LABELS, strict=True):
        place = folder / WNIDS[label] if by_class else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (10, 20, 3), dtype=np.uint8)).save(place / f"{name}.JPEG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four photographs in val and the development kit beside it."""
    root = tmp_path / "data/imagenet"
    _photos(root / "val")
    _devkit(root)
    return root


def _truth_file(root: Path) -> Path:
    return root / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"


def _labels(found: ImageNet) -> list[int | None]:
    assert found.ids == IDS
    return [sample.label for sample in found]


@pytest.mark.parametrize("photos", ["val", ".", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val"])
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("place", [".", ".."])
def test_the_devkit_gives_the_rank_of_the_wnid_in_every_layout(
    tmp_path: Path, photos: str, by_class: bool, place: str
) -> None:
    root = tmp_path / "root"
    _photos(root / photos, by_class=by_class)
    _devkit(root / place)
    assert _labels(ImageNet(data_root=root, size=8)) == LABELS
    assert [NUMBERS[label] - 1 for label in LABELS] != LABELS


@pytest.mark.parametrize("inner", ["", "imagenet", "imagenet/val"])
def test_any_folder_on_the_way_to_the_photographs_finds_the_devkit(root: Path, inner: str) -> None:
    assert _labels(ImageNet(data_root=root.parent / inner, size=8)) == LABELS


def test_boxes_of_the_devkits_class_come_from_xml_files_or_the_csv(root: Path) -> None:
    for name, label in zip(IDS, LABELS, strict=True):
        (root / f"{name}.xml").write_text(XML.format(WNIDS[label]))
    rows = [f"{name},{WNIDS[label]} 0 0 10 10" for name, label in zip(IDS, LABELS, strict=True)]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]))
    for boxes, expected in (("xml", [[4, 0, 8, 4]]), ("csv", [[0, 0, 4, 8]])):
        for sample in ImageNet(data_root=root, size=8, boxes=boxes):
            assert sample.boxes is not None
            assert sample.boxes.tolist() == expected


def test_boxes_of_other_classes_only_are_noted(root: Path) -> None:
    for name in IDS:
        (root / f"{name}.xml").write_text(XML.format(WNIDS[17]))
    found = ImageNet(data_root=root, size=8)
    assert _labels(found) == LABELS
    assert [sample.note for sample in found] == [
        "" if label == 17 else "boxes of other classes only" for label in LABELS
    ]
    assert [sample.boxes is None for sample in found] == [label != 17 for label in LABELS]


def test_lists_of_kaggle_may_lie_beside_the_folder(root: Path) -> None:
    shutil.rmtree(root / "ILSVRC2012_devkit_t12")
    (root.parent / "LOC_synset_mapping.txt").write_text("\n".join(f"{wnid} words" for wnid in WNIDS))
    rows = [f"{name},{WNIDS[label]} 0 0 10 10 " for name, label in zip(IDS, LABELS, strict=True)]
    (root.parent / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]))
    assert _labels(ImageNet(data_root=root, size=8)) == LABELS


def test_only_a_ground_truth_that_ends_before_a_photograph_is_too_short(root: Path) -> None:
    for count in (41, 70_000):
        _truth_file(root).write_text("\n".join(_truth(count)))
        assert _labels(ImageNet(data_root=root)) == LABELS
    _truth_file(root).write_text("\n".join(_truth(40)))
    with pytest.raises(DataMissing, match=r"labels photographs 1 to 40, but not ILSVRC2012_val_00000041: unpack"):
        ImageNet(data_root=root)


@pytest.mark.parametrize("line", ["0", "1001", "-1", "1.0", "n01440764", "", "7 8", "1e2", "9" * 50])
def test_a_line_that_is_no_label_is_named(root: Path, line: str) -> None:
    lines = _truth(60)
    lines[4] = line
    _truth_file(root).write_text("\n".join(lines))
    with pytest.raises(
        BadData, match=r"^impossible label: .*ground_truth\.txt, line 5 \(.* is not one of 1 to 1000\)$"
    ):
        ImageNet(data_root=root)


@pytest.mark.parametrize("lost", ["data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"])
def test_half_a_devkit_is_missing_data(root: Path, lost: str) -> None:
    (root / "ILSVRC2012_devkit_t12" / lost).unlink()
    with pytest.raises(DataMissing, match=rf"no .*{lost}: unpack ILSVRC2012_devkit_t12\.tar\.gz"):
        ImageNet(data_root=root)


def test_a_meta_mat_of_something_else_is_told_what_it_holds(tmp_path: Path) -> None:
    devkit = _devkit(tmp_path)
    file = devkit / "data/meta.mat"
    savemat(file, {"wnids": np.zeros((3, 2)), "other": np.array([(1, 2)], [("a", object), ("b", object)])})
    with pytest.raises(
        DataMissing, match=r"holds wnids \(3, 2\); other of a, b, but no struct array synsets of ILSVRC"
    ):
        read_devkit(devkit)
    savemat(file, {})
    with pytest.raises(DataMissing, match="holds nothing, but no struct array"):
        read_devkit(devkit)
    _meta(file, NUMBERS.tolist(), synsets=np.array([("n1", 0)], [("WNID", object), ("num_children", object)]))
    with pytest.raises(DataMissing, match="holds synsets of WNID, num_children, but no"):
        read_devkit(devkit)


@pytest.mark.parametrize("numbers", [range(1000), [1, *range(1, 1000)], range(2, 1002)])
def test_classes_are_numbered_from_one_to_a_thousand(tmp_path: Path, numbers: list[int]) -> None:
    devkit = _devkit(tmp_path)
    _meta(devkit / "data/meta.mat", list(numbers))
    with pytest.raises(DataMissing, match="holds 1019 synsets, 1000 of them without children"):
        read_devkit(devkit)


def test_a_meta_mat_of_another_format_is_one_clear_line(tmp_path: Path) -> None:
    devkit = _devkit(tmp_path)
    file = devkit / "data/meta.mat"
    whole = file.read_bytes()
    contents = [whole[:kept] for kept in (0, 3, 100, 130, 1000, len(whole) // 2, len(whole) - 9)] + [b"text" * 99]
    for content in contents:
        file.write_bytes(content)
        with pytest.raises(DataMissing, match=r"meta\.mat .*unpack ILSVRC2012_devkit_t12\.tar\.gz") as error:
            read_devkit(devkit)
        assert "\n" not in str(error.value)
    with h5py.File(file, "w", userblock_size=512) as hdf5:
        hdf5["synsets"] = 0
    with file.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(DataMissing, match=r"cannot read .*meta\.mat as a MATLAB 5 file"):
        read_devkit(devkit)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(DataMissing, match=r"cannot read .*meta\.mat"):
        read_devkit(devkit)


def test_a_folder_against_the_devkit_spoils_its_own_sample_only(tmp_path: Path) -> None:
    _photos(tmp_path / "val", by_class=True)
    _devkit(tmp_path)
    (tmp_path / "val" / WNIDS[18]).mkdir()
    shutil.move(tmp_path / f"val/{WNIDS[17]}/{IDS[1]}.JPEG", tmp_path / f"val/{WNIDS[18]}")
    found = ImageNet(data_root=tmp_path, size=8)
    with pytest.raises(
        BadData, match=rf"{IDS[1]}\.JPEG \(its folder says {WNIDS[18]}, .*devkit_t12 says {WNIDS[17]}\)"
    ) as error:
        found[1]
    assert error.value.reason == "contradicting labels"
    assert [found[index].label for index in (0, 2, 3)] == [LABELS[index] for index in (0, 2, 3)]


def test_the_csv_against_the_devkit_spoils_its_own_sample_only(root: Path) -> None:
    (root / "LOC_val_solution.csv").write_text(f"{IDS[0]},{WNIDS[5]} 0 0 5 5\n{IDS[1]},{WNIDS[17]} 0 0 5 5\n")
    found = ImageNet(data_root=root, size=8)
    with pytest.raises(BadData, match=r"^contradicting labels: .*LOC_val_solution\.csv says"):
        found[0]
    assert [found[index].label for index in (1, 2, 3)] == LABELS[1:]


@pytest.mark.parametrize("places", [(WNIDS[3], WNIDS[4]), ("", WNIDS[4])])
def test_a_photograph_in_two_places_is_refused(root: Path, places: tuple[str, str]) -> None:
    for place in places:
        (root / "val" / place).mkdir(exist_ok=True)
        shutil.copy(root / f"val/{IDS[0]}.JPEG", root / f"val/{place}/ILSVRC2012_val_00000009.JPEG")
    with pytest.raises(BadData, match=r"^image listed twice: .*val \(ILSVRC2012_val_00000009\)$"):
        ImageNet(data_root=root)


def test_a_csv_with_two_lines_for_a_photograph_or_damage_is_refused(root: Path) -> None:
    file = root / "LOC_val_solution.csv"
    file.write_text(f"{IDS[0]},{WNIDS[999]} 0 0 5 5\n{IDS[0]},{WNIDS[999]} 0 0 6 6\n")
    with pytest.raises(BadData, match=rf"image listed twice: .*LOC_val_solution\.csv \({IDS[0]}\)"):
        ImageNet(data_root=root)
    for content in (b"\xff\xfe\x00a", b"a" * 200_000):
        file.write_bytes(content)
        with pytest.raises(RapbenchError, match=r"unreadable list: .*LOC_val_solution\.csv"):
            ImageNet(data_root=root)


@pytest.mark.data
def test_a_devkit_beside_the_real_photographs_agrees_with_both_annotation_forms(
    data_root: Path, tmp_path: Path
) -> None:
    real = data_root / "imagenet"
    wnids = sorted(line.split()[0] for line in (real / "LOC_synset_mapping.txt").read_text().splitlines())
    (tmp_path / "val").symlink_to(real / "val")
    expected = {sample.id: sample for sample in ImageNet(data_root=data_root)}
    numbers = {wnid: int(number) for wnid, number in zip(wnids, NUMBERS, strict=True)}
    truth = ["1"] * 50_000
    for name, sample in expected.items():
        assert sample.label is not None
        truth[int(name[-8:]) - 1] = str(numbers[wnids[sample.label]])
    devkit = _devkit(tmp_path)
    rows = [(numbers[wnid], wnid, 0) for wnid in wnids]
    synsets = np.array(rows, [(name, object) for name in ("ILSVRC2012_ID", "WNID", "num_children")])
    savemat(devkit / "data/meta.mat", {"synsets": synsets.reshape(-1, 1)})
    _truth_file(tmp_path).write_text("\n".join(truth))
    for part in ("bbox", "LOC_val_solution.csv"):
        (tmp_path / part).symlink_to(real / part)
        for sample in ImageNet(data_root=tmp_path):
            assert sample.label == expected[sample.id].label
            assert sample.boxes is not None
            assert sample.boxes.tolist() == expected[sample.id].boxes.tolist()
        (tmp_path / part).unlink()

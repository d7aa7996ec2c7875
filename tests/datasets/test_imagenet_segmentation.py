import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torch.utils.data import DataLoader

from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadData, DataMissing
from rapbench.core.types import Dataset
from rapbench.datasets import DATASETS
from rapbench.datasets.imagenet_segmentation import ImageNetSegmentation

RNG = np.random.default_rng(0)
SHAPES = ((40, 60), (50, 30), (33, 33), (64, 48))
PHOTOS = [RNG.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]
MASKS = [RNG.integers(0, 2, shape, dtype=np.uint8) for shape in SHAPES]

Refs = list[h5py.Reference]


def _columns(file: h5py.File, photos: list[np.ndarray], masks: list[np.ndarray]) -> tuple[Refs, Refs]:
    """References to photographs, and to cells whose first entry refers to a mask and whose second is to be ignored."""
    hidden = file.create_group("#refs#")
    images, cells = [], []
    for number, (photo, mask) in enumerate(zip(photos, masks, strict=True)):
        images.append(hidden.create_dataset(f"p{number}", data=photo.transpose(), compression="gzip").ref)
        entries = [
            hidden.create_dataset(f"m{number}{k}", data=data.transpose()) for k, data in enumerate((mask, 1 - mask))
        ]
        cell = hidden.create_dataset(f"c{number}", data=[[entry.ref] for entry in entries], dtype=h5py.ref_dtype)
        cells.append(cell.ref)
    return images, cells


def _mat(path: Path, photos: list[np.ndarray] = PHOTOS, masks: list[np.ndarray] = MASKS, **names: str) -> Path:
    """A MATLAB 7.3 file of the structure that gtsegs_ijcv.mat has: axes in reverse, a block of text in front."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for refs, name in zip(_columns(file, photos, masks), ("img", "gt"), strict=True):
            column = np.array(refs, h5py.ref_dtype).reshape(-1, 1)
            file.create_dataset(f"value/{names.get(name, name)}", data=column, dtype=h5py.ref_dtype)
        file.create_dataset("value/id", data=np.arange(len(photos))[:, None])
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file of four photographs."""
    _mat(tmp_path / "gtsegs_ijcv.mat")
    return tmp_path


@pytest.fixture
def changed(root: Path) -> Callable[[Callable[[h5py.File], None]], ImageNetSegmentation]:
    """Changes the file, then gives its data set."""

    def change(edit: Callable[[h5py.File], None]) -> ImageNetSegmentation:
        with h5py.File(root / "gtsegs_ijcv.mat", "r+") as file:
            edit(file)
        return ImageNetSegmentation(data_root=root)

    return change


def test_photographs_and_masks_come_in_the_files_order_with_rows_first(root: Path) -> None:
    built: Dataset = DATASETS.build(parse_call("imagenet_segmentation"), data_root=root, size=16)
    assert built.ids == ("gtsegs-0000", "gtsegs-0001", "gtsegs-0002", "gtsegs-0003")
    for sample, photo, mask in zip(built, PHOTOS, MASKS, strict=True):
        pixels = np.asarray(Image.fromarray(photo).resize((16, 16), Image.Resampling.BILINEAR))
        assert torch.equal(sample.image, torch.tensor(pixels).permute(2, 0, 1) / 255)
        rows, cols = (np.arange(16) * 2 + 1) * mask.shape[0] // 32, (np.arange(16) * 2 + 1) * mask.shape[1] // 32
        assert sample.mask is not None
        assert sample.mask.tolist() == mask[np.ix_(rows, cols)].tolist()
        assert (sample.label, sample.boxes, sample.note) == (None, None, "")


def test_a_crop_cuts_photograph_and_mask_alike(root: Path) -> None:
    mask = np.zeros(SHAPES[0], np.uint8)
    mask[:, 30:] = 1
    photo = np.stack([255 * mask] * 3, 2)
    _mat(root / "gtsegs_ijcv.mat", [photo], [mask])
    sample = ImageNetSegmentation(data_root=root, size=28, preprocess="crop")[0]
    assert sample.mask is not None
    assert (sample.mask - sample.image[0]).abs().mean() < 0.05
    assert sample.mask.float().mean() == pytest.approx(0.5, abs=0.05)


def test_the_file_may_lie_in_a_folder_of_its_own(root: Path) -> None:
    (root / "imagenet_segmentation").mkdir()
    before = ImageNetSegmentation(data_root=root).fingerprint
    shutil.move(root / "gtsegs_ijcv.mat", root / "imagenet_segmentation")
    assert ImageNetSegmentation(data_root=root).fingerprint == before
    assert ImageNetSegmentation(data_root=root)[3].id == "gtsegs-0003"


def test_another_file_has_another_fingerprint(root: Path) -> None:
    before = ImageNetSegmentation(data_root=root).fingerprint
    _mat(root / "gtsegs_ijcv.mat", PHOTOS[:3], MASKS[:3])
    fewer = ImageNetSegmentation(data_root=root).fingerprint
    _mat(root / "gtsegs_ijcv.mat", [photo // 2 for photo in PHOTOS[:3]], MASKS[:3])
    assert len({before, fewer, ImageNetSegmentation(data_root=root).fingerprint}) == 3


def test_reading_leaves_the_file_closed_and_as_it_was(root: Path) -> None:
    before = (root / "gtsegs_ijcv.mat").read_bytes()
    found = ImageNetSegmentation(data_root=root)
    _ = found[0]
    with h5py.File(root / "gtsegs_ijcv.mat", "r+"):  # refused while the file is open for reading
        pass
    (root / "gtsegs_ijcv.mat").write_bytes(before)
    (root / "gtsegs_ijcv.mat").chmod(0o400)
    _ = found[1]
    assert (root / "gtsegs_ijcv.mat").read_bytes() == before


def _total(dataset: ImageNetSegmentation) -> float:
    return sum(float(sample.image.sum()) for sample in dataset)


def test_a_used_data_set_can_be_pickled(root: Path) -> None:
    found = ImageNetSegmentation(data_root=root, size=8)
    expected = _total(found)
    assert _total(pickle.loads(pickle.dumps(found))) == expected  # noqa: S301 - our own bytes


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_workers_forked_while_threads_read_get_the_same(root: Path) -> None:
    found = ImageNetSegmentation(data_root=root, size=8)
    expected = [float(sample.image.sum()) for sample in found]
    with ThreadPoolExecutor(2) as readers:
        busy = [readers.submit(lambda: [_total(found) for _ in range(30)]) for _ in range(2)]
        context = multiprocessing.get_context("fork")
        loader = DataLoader(found, batch_size=None, num_workers=2, multiprocessing_context=context, timeout=60)
        assert [float(sample.image.sum()) for sample in loader] == expected
        assert {total for future in busy for total in future.result()} == {sum(expected)}


def test_without_a_folder_the_option_is_named() -> None:
    with pytest.raises(DataMissing, match=r"gtsegs_ijcv\.mat.*--data-root"):
        ImageNetSegmentation()


def test_a_missing_file_is_told_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"no gtsegs_ijcv\.mat in .* or its imagenet_segmentation: put") as error:
        ImageNetSegmentation(data_root=tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("lost", ["img", "gt"])
def test_a_file_without_a_member_is_told_what_it_holds(root: Path, lost: str) -> None:
    _mat(root / "gtsegs_ijcv.mat", **{lost: "other"})
    with pytest.raises(
        DataMissing, match=r"gtsegs_ijcv\.mat holds .*/value/other \(4, 1\).*but not /value/img and"
    ) as error:
        ImageNetSegmentation(data_root=root)
    assert "#refs#" not in str(error.value)


def test_an_hdf5_file_of_something_else_is_told_what_it_holds(root: Path) -> None:
    with h5py.File(root / "gtsegs_ijcv.mat", "w") as file:
        file["value"] = np.zeros((2, 3))
        file.create_group("empty")
        for number in range(20):
            file[f"z{number:02d}"] = 0
    with pytest.raises(DataMissing, match=r"holds /empty, /value \(2, 3\), /z00 \(\),.*, \.\.\., but not"):
        ImageNetSegmentation(data_root=root)
    with h5py.File(root / "gtsegs_ijcv.mat", "w"):
        pass
    with pytest.raises(DataMissing, match=r"holds nothing, but not"):
        ImageNetSegmentation(data_root=root)


COLUMNS = {
    "numbers": lambda refs: np.zeros((4, 1)),
    "a row": lambda refs: refs.T,
    "one axis": lambda refs: refs[:, 0],
    "three of four": lambda refs: refs[:3],
}


@pytest.mark.parametrize("column", COLUMNS)
def test_columns_of_another_kind_are_not_the_data_set(
    changed: Callable[[Callable[[h5py.File], None]], ImageNetSegmentation], column: str
) -> None:
    def edit(file: h5py.File) -> None:
        values = COLUMNS[column](file["value/gt"][()])
        del file["value/gt"]
        file.create_dataset("value/gt", data=values, dtype=h5py.ref_dtype if values.dtype == object else None)

    with pytest.raises(DataMissing, match=r"holds /value/gt \(.*but not /value/img and /value/gt"):
        changed(edit)


def test_a_file_without_images_is_missing_data(root: Path) -> None:
    _mat(root / "gtsegs_ijcv.mat", [], [])
    with pytest.raises(DataMissing, match=r"gtsegs_ijcv\.mat lists no image: put"):
        ImageNetSegmentation(data_root=root)


def test_a_matlab_5_file_is_named_as_one(root: Path) -> None:
    savemat(root / "gtsegs_ijcv.mat", {"value": np.zeros(3)})
    with pytest.raises(BadData, match=r"^unreadable file: .*gtsegs_ijcv\.mat \(a MATLAB 5 file, where version 7\.3"):
        ImageNetSegmentation(data_root=root)


@pytest.mark.parametrize("kept", [0, 3, 512, 600, 0.3, 0.9])
def test_a_truncated_file_is_one_clear_line(root: Path, kept: float) -> None:
    whole = (root / "gtsegs_ijcv.mat").read_bytes()
    (root / "gtsegs_ijcv.mat").write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(BadData, match=r"^unreadable file: .*gtsegs_ijcv\.mat \(.*is the download whole\?\)$") as error:
        ImageNetSegmentation(data_root=root)
    assert "\n" not in str(error.value)


def _replace(file: h5py.File, name: str, data: np.ndarray) -> None:
    del file[f"#refs#/{name}"]
    target = file.create_dataset(f"#refs#/{name}", data=data)
    if name == "p1":
        file["value/img"][1, 0] = target.ref
    else:
        file["#refs#/c1"][0, 0] = target.ref


FAULTS = {
    "mask of another size": ("mask of another size than its image", "m10", MASKS[1]),  # rows and columns swapped
    "mask of three axes": ("mask of another size than its image", "m10", np.zeros((30, 50, 1), np.uint8)),
    "classes in the mask": ("impossible class in mask", "m10", MASKS[1].T * 255),
    "no number in the mask": ("impossible class in mask", "m10", np.full((30, 50), np.nan)),
    "grey": ("unreadable image", "p1", PHOTOS[1][..., 0].T),
    "four channels": ("unreadable image", "p1", np.zeros((4, 30, 50), np.uint8)),
    "floating point": ("unreadable image", "p1", PHOTOS[1].T / 255),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_spoils_its_own_sample_only(
    changed: Callable[[Callable[[h5py.File], None]], ImageNetSegmentation], fault: str
) -> None:
    reason, name, data = FAULTS[fault]
    found = changed(lambda file: _replace(file, name, data))
    with pytest.raises(BadData, match=r"gtsegs_ijcv\.mat, gtsegs-0001") as error:
        found[1]
    assert error.value.reason == reason
    assert [found[index].id for index in (0, 2, 3)] == ["gtsegs-0000", "gtsegs-0002", "gtsegs-0003"]


def test_an_array_that_claims_more_than_any_photograph_is_not_read(
    changed: Callable[[Callable[[h5py.File], None]], ImageNetSegmentation],
) -> None:
    def claim(file: h5py.File) -> None:
        file["value/img"][1, 0] = file.create_dataset("large", shape=(3, 10**6, 10**6), dtype="u1").ref

    with pytest.raises(BadData, match=r"unreadable image: .*an array of shape \(3, 1000000, 1000000\)"):
        changed(claim)[1]


@pytest.mark.parametrize("place", ["value/img", "value/gt", "#refs#/c1"])
def test_a_reference_to_nothing_spoils_its_own_sample_only(
    changed: Callable[[Callable[[h5py.File], None]], ImageNetSegmentation], place: str
) -> None:
    def edit(file: h5py.File) -> None:
        file[place][(0 if "#" in place else 1), 0] = h5py.Reference()

    found = changed(edit)
    with pytest.raises(BadData, match=r"^unreadable image: .*gtsegs-0001"):
        found[1]
    assert found[2].id == "gtsegs-0002"


def test_a_logical_or_floating_mask_of_zeros_and_ones_will_do(
    changed: Callable[[Callable[[h5py.File], None]], ImageNetSegmentation],
) -> None:
    mask = changed(lambda file: _replace(file, "m10", MASKS[1].T.astype(float)))[1].mask
    assert mask is not None
    assert mask.dtype == torch.uint8


def test_a_damaged_photograph_is_refused_and_the_others_are_read(root: Path) -> None:
    with h5py.File(root / "gtsegs_ijcv.mat", "r") as file:
        chunk = file["#refs#/p1"].id.get_chunk_info(0)
    file = root / "gtsegs_ijcv.mat"
    damaged = bytearray(file.read_bytes())
    start = chunk.byte_offset + 512
    damaged[start : start + chunk.size] = bytes(chunk.size)
    file.write_bytes(damaged)
    found = ImageNetSegmentation(data_root=root)
    with pytest.raises(BadData, match=r"^unreadable image: .*gtsegs-0001"):
        found[1]
    assert found[0].id == "gtsegs-0000"


def test_an_index_counts_from_either_end_and_stops_there(root: Path) -> None:
    found = ImageNetSegmentation(data_root=root)
    assert found[-1].id == "gtsegs-0003"
    with pytest.raises(IndexError):
        found[4]

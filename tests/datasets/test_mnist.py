"""MNIST's files: both forms, every fault, and the digits that come out."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from rapbench.core.catalogue import Call, Catalogue, Entry
from rapbench.core.errors import BadConfig, BadData, DataMissing
from rapbench.datasets.digits import Digits
from rapbench.datasets.mnist import Mnist, idx

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def header(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def images(count: int = 5, side: int = 28) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)


def write(folder: Path, *, pixels: np.ndarray | None = None, labels: tuple[int, ...] = (7, 8, 0, 8, 9)) -> None:
    pixels = images() if pixels is None else pixels
    folder.mkdir(exist_ok=True)
    (folder / IMAGES).write_bytes(header(2051, *pixels.shape) + pixels.tobytes())
    (folder / LABELS).write_bytes(header(2049, len(labels)) + bytes(labels))


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("folder", [".", "mnist"])
def test_both_forms_in_both_places_give_the_images_in_order(tmp_path: Path, folder: str, gzipped: bool) -> None:
    write(tmp_path / folder)
    if gzipped:
        for name in (IMAGES, LABELS):
            file = tmp_path / folder / name
            file.with_name(f"{name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    data = Mnist(data_root=tmp_path)
    assert (len(data), data.ids[1]) == (5, "test-00001")
    sample = data[1]
    assert (sample.image.shape, sample.image.dtype, sample.label) == ((1, 28, 28), torch.float32, 8)
    assert np.array_equal((sample.image[0] * 255).round().byte().numpy(), images()[1])


def test_one_digit_keeps_the_names_of_its_images(tmp_path: Path) -> None:
    write(tmp_path)
    eights = Mnist(data_root=tmp_path, digit=8)
    assert eights.ids == ("test-00001", "test-00003")
    assert [eights[n].label for n in range(2)] == [8, 8]
    assert torch.equal(eights[1].image, Mnist(data_root=tmp_path)[3].image)


def test_the_fingerprint_changes_with_a_pixel(tmp_path: Path) -> None:
    write(tmp_path)
    before = Mnist(data_root=tmp_path).fingerprint
    pixels = images()
    pixels[0, 0, 0] ^= 1
    write(tmp_path, pixels=pixels)
    assert Mnist(data_root=tmp_path).fingerprint != before


FAULTS = {
    "magic number 2049, not 2051": (IMAGES, lambda b: header(2049) + b[4:]),
    "magic number 2051, not 2049": (LABELS, lambda b: header(2051) + b[4:]),
    "truncated idx file: .*3919 bytes of data, 3920 by its header": (IMAGES, lambda b: b[:-1]),
    "truncated idx file: .*header is cut off": (IMAGES, lambda b: b[:9]),
    "magic number 0, not 2049": (LABELS, lambda _: b""),
    "overlong idx file: .*6 bytes of data, 5 by its header": (LABELS, lambda b: b + b"\0"),
    "other number of labels than images: .*4 for 5 images": (LABELS, lambda b: header(2049, 4) + b[8:12]),
    "no digits: .*from 0 to 9": (LABELS, lambda b: b[:-1] + b"\x0a"),
    "wrong image size: .*14 x 56 pixels": (IMAGES, lambda b: header(2051, 5, 14, 56) + b[16:]),
    "unreadable idx file": (LABELS, lambda b: gzip.compress(b)[:-9]),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_malformed_file_is_one_clear_line(tmp_path: Path, message: str) -> None:
    write(tmp_path)
    name, spoil = FAULTS[message]
    (tmp_path / name).write_bytes(spoil((tmp_path / name).read_bytes()))
    with pytest.raises(BadData, match=message) as error:
        Mnist(data_root=tmp_path)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_of_dimensions_beyond_any_memory_are_refused_by_their_length(tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(header(2051, 2**31, 2**16, 2**16))
    with pytest.raises(BadData, match="truncated"):
        idx(tmp_path / "huge", 2051)


def test_a_small_file_that_unpacks_to_more_than_any_is_read_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rapbench.datasets.mnist._MOST_BYTES", 1000)
    write(tmp_path)
    (tmp_path / LABELS).write_bytes(gzip.compress(header(2049, 10**6) + bytes(10**6)))
    with pytest.raises(BadData, match="992 bytes of data, 1000000 by its header"):
        idx(tmp_path / LABELS, 2049)


def test_missing_files_are_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=f"no {IMAGES} or {IMAGES}.gz in"):
        Mnist(data_root=tmp_path)
    with pytest.raises(DataMissing, match="--data-root"):
        Mnist()


def test_a_network_of_another_size_and_no_digit_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(BadConfig, match="use --model mnist_cnn"):
        Mnist(data_root=tmp_path, size=224)
    catalogue = Catalogue("dataset", {"mnist": Entry("rapbench.datasets.mnist:Mnist", "")})
    with pytest.raises(BadConfig, match="digit=10: Input should be less than or equal to 9"):
        catalogue.build(Call("mnist", {"digit": "10"}), data_root=tmp_path)


def test_training_images_are_those_of_the_other_part(tmp_path: Path) -> None:
    write(tmp_path)
    for name in (IMAGES, LABELS):
        (tmp_path / name.replace("t10k", "train")).write_bytes((tmp_path / name).read_bytes())
    pixels, labels = Mnist(data_root=tmp_path, digit=8).training()
    assert (pixels.shape, pixels.dtype, labels.dtype) == ((5, 1, 28, 28), torch.uint8, torch.int64)
    assert labels.tolist() == [7, 8, 0, 8, 9]
    assert Mnist(data_root=tmp_path, part="train").ids[0] == "train-00000"


@pytest.mark.data
def test_the_genuine_files_hold_ten_thousand_digits(data_root: Path) -> None:
    data = Mnist(data_root=data_root)
    assert len(data) == 10_000
    assert [data[n].label for n in (0, 1, 2, 5846)] == [7, 2, 1, 8]
    assert len(Mnist(data_root=data_root, digit=8)) == 974


# --- the digits that scikit-learn ships -------------------------------------------------------------------------------


def test_embedded_digits_are_enlarged_and_framed() -> None:
    data = Digits()
    image = data[0].image
    assert (len(data), image.shape) == (500, (1, 28, 28))
    frame = torch.ones(28, 28, dtype=torch.bool)
    frame[4:-4, 4:-4] = False
    assert all((data[n].image[0][frame] == 0).all() for n in range(50))
    assert image.max() > 0.9
    assert sorted({data[n].label for n in range(500)}) == list(range(10))


def test_no_embedded_digit_is_in_both_parts() -> None:
    pixels, labels = Digits().training()
    assert (len(pixels), len(labels)) == (1297, 1297)
    assert len(Digits(part="train")) == 1297
    tested = {(data.image * 255).round().byte().numpy().tobytes() for data in map(Digits().__getitem__, range(500))}
    assert not tested & {image.numpy().tobytes() for image in pixels}

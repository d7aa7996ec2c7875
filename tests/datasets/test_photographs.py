import io
import shutil
import struct
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import ExifTags, Image

from rapbench.core.errors import BadData
from rapbench.datasets import photographs
from rapbench.datasets.photographs import fingerprint, photograph

RNG = np.random.default_rng(0)
COLOUR = Image.fromarray(RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8))


def _saved(image: Image.Image, file: Path, fmt: str) -> Path:
    image.save(file, fmt)
    return file


@pytest.mark.parametrize("fmt", ["PNG", "BMP", "TIFF"])
def test_rgb_pixels_are_read_as_they_are(tmp_path: Path, fmt: str) -> None:
    image, note = photograph(_saved(COLOUR, tmp_path / "a.JPEG", fmt))
    assert note == ""
    assert np.array_equal(image, COLOUR)


def test_a_grey_photograph_has_three_equal_channels(tmp_path: Path) -> None:
    grey = COLOUR.convert("L")
    image, note = photograph(_saved(grey, tmp_path / "a.png", "PNG"))
    assert (image.mode, note) == ("RGB", "converted from grey")
    assert all(np.array_equal(channel, grey) for channel in image.split())


@pytest.mark.parametrize(("fmt", "dtype"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32)])
def test_sixteen_bits_are_scaled_to_eight_and_not_clipped(tmp_path: Path, fmt: str, dtype: type) -> None:
    values = np.array([[0, 128, 129, 257], [300, 32767, 32768, 65535]])
    image, note = photograph(_saved(Image.fromarray(values.astype(dtype)), tmp_path / "a", fmt))
    assert note == "converted from 16-bit grey"
    assert np.asarray(image)[..., 0].tolist() == [[0, 0, 1, 1], [1, 127, 128, 255]]


def test_a_cmyk_photograph_becomes_rgb(tmp_path: Path) -> None:
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    flat.save(tmp_path / "a.JPEG", "JPEG", quality=100)
    image, note = photograph(tmp_path / "a.JPEG")
    assert (image.mode, note) == ("RGB", "converted from CMYK")
    assert np.abs(np.asarray(image).astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_turn_that_exif_asks_for_is_noted_and_not_made(tmp_path: Path, orientation: int, mode: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    COLOUR.convert(mode).save(tmp_path / "a.png", exif=exif)
    image, note = photograph(tmp_path / "a.png")
    assert np.array_equal(image, COLOUR.convert(mode).convert("RGB"))
    grey, turned = mode == "L", orientation != 1
    assert note == "; ".join(["converted from grey"] * grey + ["rotated by EXIF, read as stored"] * turned)


def test_damaged_exif_leaves_the_pixels_right(tmp_path: Path) -> None:
    COLOUR.save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    image, note = photograph(tmp_path / "a.png")
    assert (np.array_equal(image, COLOUR), note) == (True, "")


def test_a_palette_is_looked_up_even_beside_transparency(tmp_path: Path) -> None:
    palette = COLOUR.quantize(16)
    expected = palette.convert("RGB")
    palette.save(tmp_path / "a.png", transparency=bytes(range(16)))
    image, note = photograph(tmp_path / "a.png")
    assert (image.mode, note) == ("RGB", "converted from palette")
    assert np.array_equal(image, expected)


def test_an_alpha_channel_is_dropped_and_colours_stay(tmp_path: Path) -> None:
    clear = COLOUR.copy()
    clear.putalpha(Image.fromarray(RNG.integers(0, 256, (30, 40), dtype=np.uint8)))
    image, note = photograph(_saved(clear, tmp_path / "a.png", "PNG"))
    assert note == "converted from RGB with alpha"
    assert np.array_equal(image, COLOUR)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "TIFF"])
def test_a_file_cut_off_anywhere_is_unreadable(tmp_path: Path, fmt: str) -> None:
    whole = io.BytesIO()
    COLOUR.save(whole, fmt)
    file = tmp_path / "cut.JPEG"
    for kept in range(0, len(whole.getvalue()) * 9 // 10, 97):
        file.write_bytes(whole.getvalue()[:kept])
        with pytest.raises(BadData, match=r"^unreadable image: .*cut\.JPEG \(.+\)$") as error:
            photograph(file)
        assert error.value.reason == "unreadable image"


@pytest.mark.filterwarnings("ignore")
def test_random_damage_gives_an_image_or_the_one_error(tmp_path: Path) -> None:
    file = tmp_path / "a.JPEG"
    for fmt, mode in [("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "P"), ("PNG", "LA"), ("GIF", "P"), ("BMP", "RGB")]:
        whole = io.BytesIO()
        COLOUR.convert(mode).save(whole, fmt)
        for _ in range(60):
            damaged = np.frombuffer(whole.getvalue(), np.uint8).copy()
            damaged[RNG.integers(0, min(200, len(damaged)), 3)] = RNG.integers(0, 256, 3)
            file.write_bytes(damaged.tobytes())
            try:
                image, _ = photograph(file)
            except BadData as error:
                assert error.reason == "unreadable image"  # noqa: PT017 - either outcome is right
            else:
                assert image.mode == "RGB"


def test_text_named_like_an_image_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.JPEG").write_text("<html>Not found</html>")
    with pytest.raises(BadData, match="unreadable image"):
        photograph(tmp_path / "a.JPEG")


def test_a_missing_file_is_told_apart_from_an_unreadable_one(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"^missing image: .*nowhere\.jpg") as error:
        photograph(tmp_path / "nowhere.jpg")
    assert error.value.reason == "missing image"


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    file = _saved(Image.fromarray(RNG.random((8, 8)).astype(np.float32)), tmp_path / "a.tif", "TIFF")
    with pytest.raises(BadData, match="floating-point"):
        photograph(file)


def test_more_than_sixteen_bits_are_refused(tmp_path: Path) -> None:
    file = _saved(Image.fromarray(np.full((8, 8), 70000, np.int32)), tmp_path / "a.tif", "TIFF")
    with pytest.raises(BadData, match="more than 16 bits"):
        photograph(file)


@pytest.mark.parametrize(("module", "name"), [(Image, "MAX_IMAGE_PIXELS"), (photographs, "_MOST_PIXELS")])
def test_a_file_that_claims_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    file = _saved(COLOUR, tmp_path / "a.png", "PNG")
    monkeypatch.setattr(module, name, 300)
    with pytest.raises(BadData, match=r"unreadable image: .*pixels"):
        photograph(file)


@pytest.mark.filterwarnings("ignore")
def test_damage_outside_the_pixels_is_no_reason_to_refuse(tmp_path: Path) -> None:
    file = _saved(COLOUR, tmp_path / "a.png", "PNG")
    data = file.read_bytes()
    exif = b"eXIf" + b"II*\x00\x08\x00\x00\x00\xff\xff"
    chunk = struct.pack(">I", len(exif) - 4) + exif + struct.pack(">I", zlib.crc32(exif))
    file.write_bytes(data[:33] + chunk + data[33:])
    assert np.array_equal(photograph(file)[0], COLOUR)


def test_the_fingerprint_sees_ids_and_contents_but_not_the_folder(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    files = [first / "a", first / "b"]
    for file in files:
        file.write_bytes(b"1234")
    shutil.copytree(first, second)
    same = fingerprint(("a", "b"), files)
    assert len(same) == 16
    assert fingerprint(("a", "b"), [second / "a", second / "b"]) == same
    assert fingerprint(("a", "c"), files) != same
    files[1].write_bytes(b"1235")
    other = fingerprint(("a", "b"), files)
    files[1].unlink()
    assert len({same, other, fingerprint(("a", "b"), files)}) == 3

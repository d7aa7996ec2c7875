from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from rapbench.datasets.geometry import view

RNG = np.random.default_rng(0)
SHAPES = [(500, 375), (333, 500), (224, 224), (97, 61), (640, 230)]


def _photo(shape: tuple[int, int]) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (shape[1], shape[0], 3), dtype=np.uint8))


def _tensor(photo: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 255


@pytest.mark.parametrize("shape", SHAPES)
def test_squash_is_torchvisions_resize_of_the_photograph(shape: tuple[int, int]) -> None:
    photo = _photo(shape)
    image = view("squash", shape, 224).image(photo)
    assert image.dtype == torch.float32
    assert torch.equal(image, _tensor(v2.Resize((224, 224))(photo)))


@pytest.mark.parametrize(("size", "shorter"), [(224, 256), (299, 342), (64, 73)])
@pytest.mark.parametrize("shape", SHAPES)
def test_crop_is_torchvisions_resize_and_centre_crop(shape: tuple[int, int], size: int, shorter: int) -> None:
    photo = _photo(shape)
    expected = _tensor(v2.CenterCrop(size)(v2.Resize(shorter)(photo)))
    assert torch.equal(view("crop", shape, size).image(photo), expected)


def _touched(low: float, high: float, frame: int, size: int, offset: int, cut: int) -> list[int]:
    """Columns of the cut whose stretch of the resized frame shares some length with [low, high], by exact fractions."""
    stretch = Fraction(size, frame)
    pairs = ((Fraction(c + offset), Fraction(c + offset + 1)) for c in range(cut))
    return [c for c, (a, b) in enumerate(pairs) if a < Fraction(high) * stretch and b > Fraction(low) * stretch]


@pytest.mark.parametrize("preprocess", ["squash", "crop"])
@pytest.mark.parametrize("frame", [(500, 375), (333, 500), (250, 187)])
def test_a_box_covers_exactly_the_pixels_it_touches(preprocess: str, frame: tuple[int, int]) -> None:
    seen = view(preprocess, (500, 375), 64)
    for _ in range(60):
        x0, y0 = (int(RNG.integers(0, side - 1)) for side in frame)
        x1, y1 = (int(RNG.integers(low + 1, side + 1)) for low, side in zip((x0, y0), frame, strict=True))
        cols = _touched(x0, x1, frame[0], seen.width, seen.left, 64)
        rows = _touched(y0, y1, frame[1], seen.height, seen.top, 64)
        boxes = seen.boxes([(x0, y0, x1, y1)], frame)
        if cols and rows:
            assert boxes is not None
            assert boxes.tolist() == [[cols[0], rows[0], cols[-1] + 1, rows[-1] + 1]]
        else:
            assert boxes is None


def test_the_frame_of_the_boxes_may_have_another_scale_than_the_photograph() -> None:
    seen = view("crop", (500, 400), 224)
    small = seen.boxes([(50, 40, 150, 120)], (250, 200))
    large = seen.boxes([(100, 80, 300, 240)], (500, 400))
    assert small is not None
    assert large is not None
    assert torch.equal(small, large)


def test_a_box_narrower_than_a_pixel_is_one_pixel_wide() -> None:
    boxes = view("squash", (2000, 2000), 224).boxes([(1000, 7, 1001, 8)], (2000, 2000))
    assert boxes is not None
    assert boxes.tolist() == [[112, 0, 113, 1]]


def test_a_box_beside_the_crop_is_dropped_and_one_across_its_edge_is_cut() -> None:
    seen = view("crop", (600, 300), 224)
    boxes = seen.boxes([(0, 0, 100, 300), (100, 0, 300, 300), (590, 0, 600, 300)], (600, 300))
    assert boxes is not None
    assert boxes.tolist() == [[0, 0, 112, 224]]


def test_a_photograph_without_boxes_has_none() -> None:
    assert view("squash", (500, 375), 224).boxes([], (500, 375)) is None


@pytest.mark.parametrize("preprocess", ["squash", "crop"])
def test_image_mask_and_box_of_an_object_stay_together(preprocess: str) -> None:
    x0, y0, x1, y1 = 150, 60, 420, 300
    pixels = np.zeros((375, 500, 3), np.uint8)
    pixels[y0:y1, x0:x1] = 255
    seen = view(preprocess, (500, 375), 224)
    mask = seen.mask(Image.fromarray((pixels[..., 0] > 0).astype(np.uint8)))
    boxes = seen.boxes([(x0, y0, x1, y1)], (500, 375))
    assert boxes is not None
    col0, row0, col1, row1 = boxes[0].tolist()
    inside = torch.zeros_like(mask)
    inside[row0:row1, col0:col1] = 1
    assert mask.dtype == torch.uint8
    assert (mask <= inside).all()
    assert (inside - mask).sum() <= 2 * (col1 - col0 + row1 - row0)
    assert torch.equal(seen.image(Image.fromarray(pixels))[0] > 0.5, mask > 0)


def test_mask_values_are_never_mixed() -> None:
    mask = Image.fromarray(RNG.choice(np.array([0, 1, 255], np.uint8), (375, 500)))
    assert set(view("squash", (500, 375), 224).mask(mask).unique().tolist()) == {0, 1, 255}

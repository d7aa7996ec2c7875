"""Generated photographs of twelve textured objects, with exact boxes and masks: a data set without a download.

An image is drawn back to front as a painter would: a soft background, scratches, blobs of no class, and last the
object. Every layer is blended in whole numbers from a coverage in 0..255: an index gives the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rapbench.core.ranges import Seed
from rapbench.core.seeds import image_seed
from rapbench.core.types import Need, Sample

GENERATOR = 1
"""Raised whenever a change to this file changes an image."""

_LENGTH = {"train": 1_000_000, "val": 50_000}
_SUPERSAMPLING = 4
_SHARE = (0.04, 0.29)
"""Least and greatest share of the image that an object is meant to cover."""

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


# --- silhouettes: (V, 2) corner points of a closed outline, y down ---------------------------------------------------


def _polar(radius: Callable[[Floats], Floats], count: int = 120) -> Floats:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack((radius(angle) * np.sin(angle), radius(angle) * -np.cos(angle)), 1)


def _star(corners: int, inner: float) -> Floats:
    return _polar(lambda a: np.where(np.arange(a.size) % 2, inner, 1.0), 2 * corners)


def _arc(radius: float, centre_x: float, start: float, stop: float) -> Floats:
    angle = np.linspace(start, stop, 60)
    return np.stack((centre_x + radius * np.cos(angle), radius * np.sin(angle)), 1)


def _heart() -> Floats:
    t = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack((16 * np.sin(t) ** 3, -y), 1)


def _crescent() -> Floats:
    """A disc less a disc: the outer arc there, the inner arc back."""
    meet = 1.05
    reach = np.hypot(np.cos(meet) - 0.75, np.sin(meet))
    turn = np.arctan2(np.sin(meet), np.cos(meet) - 0.75)
    return np.concatenate((_arc(1, 0, meet, 2 * np.pi - meet), _arc(reach, 0.75, 2 * np.pi - turn, turn)))


def _annulus() -> Floats:
    """The outer circle, a cut to the inner one, and that circle the other way round."""
    return np.concatenate((_arc(1, 0, 0, 2 * np.pi), _arc(0.42, 0, 2 * np.pi, 0)))


def _drop() -> Floats:
    t = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    return np.stack((0.95 * np.sin(t) * np.sin(t / 2) ** 1.3, -np.cos(t)), 1)


_SQUARE = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
_PLUS = np.array([(-3, -1), (-1, -1), (-1, -3), (1, -3), (1, -1), (3, -1)], float) / 3
_ARROW = np.array([(0, -1), (0.9, 0), (0.4, 0), (0.4, 1), (-0.4, 1), (-0.4, 0), (-0.9, 0)], float)


def _unit(outline: Floats) -> Floats:
    """The outline about the centre of its bounding box, scaled to enclose an area of one."""
    x, y = (outline - (outline.max(0) + outline.min(0)) / 2).T
    area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
    return np.stack((x, y), 1) / float(np.sqrt(area))


# --- textures: signed distance, in object units, to the border between two tones; positive in the first tone ---------


def _wave(t: Floats, per_unit: float) -> Floats:
    wave: Floats = np.sin(2 * np.pi * per_unit * t) / (2 * np.pi * per_unit)
    return wave


def _cell(t: Floats, per_unit: float) -> Floats:
    """Offset from the nearest lattice line, in units."""
    return t - np.round(t * per_unit) / per_unit


def _checks(x: Floats, y: Floats) -> Floats:
    return np.multiply(_wave(x, 2), np.sin(2 * np.pi * 2 * y))


def _stripes(x: Floats, y: Floats) -> Floats:  # noqa: ARG001 - every texture is a function of both
    return _wave(x, 3.4)


def _dots(x: Floats, y: Floats) -> Floats:
    return 0.4 / 3.8 - np.hypot(_cell(x, 3.8), _cell(y, 3.8))


def _rings(x: Floats, y: Floats) -> Floats:
    return _wave(np.hypot(x, y), 4.0)


def _grid(x: Floats, y: Floats) -> Floats:
    return 0.34 / 4.5 - np.maximum(abs(_cell(x, 4.5)), abs(_cell(y, 4.5)))


def _zigzag(x: Floats, y: Floats) -> Floats:
    return 0.75 * _wave(y + abs(_cell(x, 2.5)), 3.4)


def _sectors(x: Floats, y: Floats) -> Floats:
    distance: Floats = np.hypot(x, y) * np.sin(8 * np.arctan2(y, x)) / 8
    return distance


def _bricks(x: Floats, y: Floats) -> Floats:
    odd = np.round(y * 5) % 2
    return np.minimum(0.32 / 5 - abs(_cell(y, 5)), 0.40 / 2.6 - abs(_cell(x + odd / 5.2, 2.6)))


def _spiral(x: Floats, y: Floats) -> Floats:
    return np.sin(2 * np.pi * 3.2 * np.hypot(x, y) - np.arctan2(y, x)) / (2 * np.pi * 3.2)


def _halves(x: Floats, y: Floats) -> Floats:  # noqa: ARG001 - every texture is a function of both
    return x


def _eye(x: Floats, y: Floats) -> Floats:
    return 0.36 - np.hypot(x, y)


def _quarters(x: Floats, y: Floats) -> Floats:
    y = y - 0.15
    return np.sign(x * y) * np.minimum(abs(x), abs(y))


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What all objects of a class share."""

    name: str
    outline: Floats
    texture: Callable[[Floats, Floats], Floats]


_KINDS = (
    _Kind(name="checked square", outline=_SQUARE, texture=_checks),
    _Kind(name="striped disc", outline=_polar(np.ones_like), texture=_stripes),
    _Kind(name="dotted triangle", outline=_polar(np.ones_like, 3), texture=_dots),
    _Kind(name="ringed star", outline=_star(5, 0.5), texture=_rings),
    _Kind(name="barred cross", outline=np.concatenate((_PLUS, -_PLUS)), texture=_grid),
    _Kind(name="zigzag heart", outline=_heart(), texture=_zigzag),
    _Kind(name="spoked wheel", outline=_annulus(), texture=_sectors),
    _Kind(name="brick crescent", outline=_crescent(), texture=_bricks),
    _Kind(name="spiral hexagon", outline=_polar(np.ones_like, 6), texture=_spiral),
    _Kind(name="halved arrow", outline=_ARROW, texture=_halves),
    _Kind(name="eyed flower", outline=_polar(lambda a: 0.75 + 0.25 * np.cos(6 * a)), texture=_eye),
    _Kind(name="quartered drop", outline=_drop(), texture=_quarters),
)
CLASSES = tuple(kind.name for kind in _KINDS)
"""Name of each class index."""
_OUTLINES = tuple(_unit(kind.outline) for kind in _KINDS)


# --- painting ---------------------------------------------------------------------------------------------------------


def _coverage(outlines: list[Floats], height: int, width: int) -> Bytes:
    """How much of each pixel (height, width) lies inside any outline (V, 2) given in pixels: 0 none, 255 all."""
    canvas = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for outline in outlines:
        draw.polygon([(x, y) for x, y in np.round(outline * _SUPERSAMPLING).astype(int).tolist()], fill=255)
    return np.asarray(canvas.reduce(_SUPERSAMPLING))


def _blend(below: NDArray[np.integer], above: NDArray[np.integer], coverage: Bytes) -> Bytes:
    """`above` over `below`, both (..., 3) in 0..255, with coverage (...) of `above`."""
    a = coverage[..., None].astype(np.int32)
    return ((a * above + (255 - a) * below + 127) // 255).astype(np.uint8)


def _tones(rng: np.random.Generator) -> NDArray[np.int64]:
    """Two colours (2, 3) in random order: of six random pairs, the one whose brightness differs most."""
    pairs = rng.integers(0, 256, (6, 2, 3))
    contrast = abs((pairs[:, 0] - pairs[:, 1]) @ np.array((3, 6, 1)))
    best: NDArray[np.int64] = pairs[contrast.argmax()]
    return best


def _noise(rng: np.random.Generator, cells: int, size: int, channels: int = 3) -> NDArray[np.int32]:
    """Smooth noise (size, size, channels) in 0..255, with `cells` random values a side."""
    values = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)[..., :channels].squeeze()
    smooth = np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC))
    return smooth.reshape(size, size, channels).astype(np.int32)


def _background(rng: np.random.Generator, size: int) -> Bytes:
    """Coloured noise of a coarse scale and grey noise of two finer ones, over a plain colour."""
    coarse, middle, fine = (int(cells) for cells in rng.integers((2, 8, 28), (7, 24, 90)))
    colour, grey, rough, plain = (int(weight) for weight in rng.integers((4, 0, 0, 4), (24, 18, 14, 20)))
    mixed = (
        colour * _noise(rng, coarse, size) + grey * _noise(rng, middle, size, 1) + rough * _noise(rng, fine, size, 1)
    )
    mixed = mixed + plain * rng.integers(0, 256, 3, dtype=np.int32)
    return (mixed // (colour + grey + rough + plain)).astype(np.uint8)


def _line(rng: np.random.Generator, size: int) -> Floats:
    """Corners (4, 2) of a thin random bar."""
    start, stop = rng.random((2, 2)) * size * 1.2 - size * 0.1
    along = stop - start
    across = np.array((-along[1], along[0])) / max(float(np.sqrt(along @ along)), 1.0)
    half = across * (0.3 + 1.7 * rng.random()) * size / 224
    return np.stack((start - half, start + half, stop + half, stop - half))


def _scratch(rng: np.random.Generator, image: Bytes) -> None:
    size = len(image)
    lines = [_line(rng, size) for _ in range(rng.integers(1, 6))]
    image[:] = _blend(image, rng.integers(0, 256, 3), _coverage(lines, size, size))


def _lit(rng: np.random.Generator, colours: NDArray[np.int64], x: Floats, y: Floats) -> NDArray[np.int64]:
    """Colours (h, w, 3) under light that falls off across an object of unit area."""
    angle, strength = rng.random(2) * (2 * np.pi, 0.45)
    light = 256 * (1 - strength / 2 + strength * (np.cos(angle) * x + np.sin(angle) * y))
    lit: NDArray[np.int64] = np.minimum(colours * np.round(light).astype(np.int64)[..., None] >> 8, 255)
    return lit


@dataclass(frozen=True, kw_only=True)
class _Patch:
    """The part of an image that an outline covers, with coordinates in the object's own turned frame of unit area."""

    rows: slice
    cols: slice
    coverage: Bytes
    x: Floats
    y: Floats
    unit: float

    def tone(self, distance: Floats) -> Bytes:
        """Coverage of the tone whose signed distance, in object units, is given."""
        return np.round(255 * np.clip(0.5 + distance * self.unit, 0, 1)).astype(np.uint8)


def _placed(rng: np.random.Generator, outline: Floats, share: float, size: int) -> _Patch:
    """A unit outline at a random turn and place, covering about `share` of the image, wholly inside it."""
    angle = 2 * np.pi * rng.random()
    turn = np.array(((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))))
    turned = outline @ turn
    span = turned.max(0) - turned.min(0)
    unit = min(np.sqrt(share) * size, (size - 6) / span.max())
    width, height = (int(s) for s in np.ceil(span * unit) + 2)
    col, row = int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))
    centre = 1 - turned.min(0) * unit
    grid = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1) - centre
    x, y = np.moveaxis(grid / unit @ turn.T, -1, 0)
    coverage = _coverage([turned * unit + centre], height, width)
    return _Patch(
        rows=slice(row, row + height), cols=slice(col, col + width), coverage=coverage, x=x, y=y, unit=float(unit)
    )


def _blob(rng: np.random.Generator) -> Floats:
    """A random outline that belongs to no class: a pebble, or a long bar."""
    if rng.random() < 0.3:
        return _unit(_SQUARE * (1, 2.5 + 3 * rng.random()))
    size, phase = rng.random((2, 3)) * ((0.25,), (2 * np.pi,))
    lobes = np.arange(1, 4)
    return _unit(_polar(lambda a: 1 + np.cos(a[:, None] * lobes + phase) @ size, 60))


def _distract(rng: np.random.Generator, image: Bytes) -> None:
    """Paints a blob: plain, or in two tones without order."""
    size = len(image)
    patch = _placed(rng, _blob(rng), 0.01 + 0.06 * rng.random(), size)
    tones = _tones(rng)
    shape = patch.coverage.shape
    mottle = _noise(rng, int(rng.integers(3, 9)), max(shape), 1)[: shape[0], : shape[1], 0]
    plain = rng.random() < 0.5
    tone = np.full(shape, 255, np.uint8) if plain else patch.tone((mottle - 128) / 1280)
    colours = _lit(rng, _blend(tones[1], tones[0], tone).astype(np.int64), patch.x, patch.y)
    image[patch.rows, patch.cols] = _blend(image[patch.rows, patch.cols], colours, patch.coverage)


def _paint_object(rng: np.random.Generator, image: Bytes, label: int) -> Bytes:
    """Paints an object of a class and returns its mask (size, size): 1 where it covers at least half the pixel."""
    size = len(image)
    low, high = _SHARE
    patch = _placed(rng, _OUTLINES[label], low + (high - low) * rng.random(), size)
    dark, light = _tones(rng)
    tone = patch.tone(_KINDS[label].texture(patch.x, patch.y))
    colours = _lit(rng, _blend(dark, light, tone).astype(np.int64), patch.x, patch.y)
    image[patch.rows, patch.cols] = _blend(image[patch.rows, patch.cols], colours, patch.coverage)
    mask = np.zeros((size, size), np.uint8)
    mask[patch.rows, patch.cols] = patch.coverage >= 128
    return mask


def render(rng: np.random.Generator, size: int) -> tuple[Bytes, Bytes, int]:
    """One image (size, size, 3), its object's mask (size, size) of 0 and 1, and the class index."""
    label = int(rng.integers(len(CLASSES)))
    image = _background(rng, size)
    for _ in range(rng.integers(0, 3)):
        _scratch(rng, image)
    for _ in range(rng.integers(1, 5)):
        _distract(rng, image)
    mask = _paint_object(rng, image, label)
    grain = rng.integers(-6, 7, image.shape, dtype=np.int16)
    return np.clip(image + grain, 0, 255).astype(np.uint8), mask, label


def _tight_box(mask: Bytes) -> tuple[int, int, int, int]:
    """(col0, row0, col1, row1), half open, of the ones in a mask."""
    rows, cols = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Generated images of twelve classes; each class has a silhouette and a texture of its own, colours are random.

    Attributes:
        data_root: not used; nothing is read from disk.
        size: side of the square images in pixels.
        seed: another seed gives other images.
        stream: 'train' and 'val' share no image.
    """

    name: ClassVar[str] = "scenes"
    label_space: ClassVar[str] = "scenes"
    provides: ClassVar[frozenset[Need]] = frozenset({"boxes", "mask"})
    default_limit: ClassVar[int | None] = 96
    full_size: ClassVar[int | None] = None

    data_root: Path | None = None
    size: int = 224
    seed: Seed = 0
    stream: Literal["train", "val"] = "val"

    def __post_init__(self) -> None:
        if self.size < 64:
            raise ValueError(f"size must be at least 64 pixels, got {self.size}")
        if self.stream not in _LENGTH:
            raise ValueError(f"stream must be train or val, got {self.stream!r}")

    @property
    def fingerprint(self) -> str:
        return f"scenes-{GENERATOR}-{self.size}-{self.seed}-{self.stream}"

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._id(index) for index in range(len(self)))

    def __len__(self) -> int:
        return _LENGTH[self.stream]

    def __getitem__(self, index: int) -> Sample:
        """Image `index`, a pure function of seed, stream and index."""
        pixels, mask, label = self.rendered(index)
        return Sample(
            id=self._id(index),
            image=torch.from_numpy(pixels).permute(2, 0, 1).float() / 255,
            label=label,
            boxes=torch.tensor([_tight_box(mask)]),
            mask=torch.from_numpy(mask),
        )

    def rendered(self, index: int) -> tuple[Bytes, Bytes, int]:
        """Image (size, size, 3) and mask (size, size) as bytes, and the class index."""
        if not 0 <= index < len(self):
            raise IndexError(f"no image {index} in {len(self)}")
        return render(np.random.default_rng(image_seed(self.seed, self._id(index))), self.size)

    def _id(self, index: int) -> str:
        return f"{self.stream}-{index:06d}"

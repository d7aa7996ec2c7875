"""Pictures and maps as the bytes of small picture files, and the outlines that are drawn over them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from rapbench.report.heatmaps import COLOURS, colour_end

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 224
"""Pixels of the longer side of what is shown; what is larger is averaged down to it."""
PERCENTILE = 99.5
"""Of a map's magnitudes, where its colours end. Source: Rao et al. 2022, Section 4."""
_LEVELS = 24
"""Shades on each side of white: fewer make files small that hold what is seen exactly."""
_QUALITY = 85
Box = Sequence[int]


def photo_webp(photo: NDArray[Any]) -> bytes:
    """A picture (H, W, 3) or (H, W, 1) in [0, 1] as WebP."""
    pixels = np.rint(photo.clip(0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    return _file(_small(image, Image.Resampling.LANCZOS), "WEBP", quality=_QUALITY, method=4)


def map_png(values: NDArray[Any]) -> bytes:
    """A signed map (h, w) as PNG, its colours from blue by white (zero) to red, up to its end; grey is not finite."""
    end = colour_end(values, PERCENTILE)
    reduced = np.array(_small(Image.fromarray(values.astype(np.float32)), Image.Resampling.BOX))
    finite = np.isfinite(reduced)
    levels = np.rint(np.where(finite, reduced, 0.0).clip(-end, end) / end * _LEVELS).astype(np.int16) + _LEVELS
    image = Image.fromarray(np.where(finite, levels, 2 * _LEVELS + 1).astype(np.uint8))
    image.putpalette(_PALETTE)
    return _file(image, "PNG", compress_level=6)


def outline(mask: NDArray[np.bool_] | None, boxes: Sequence[Box]) -> str:
    """The edges of a mask (H, W) and of boxes (col0, row0, col1, row1), as the path of a picture of that size."""
    around = [f"M{c0} {r0}H{c1}V{r1}H{c0}Z" for c0, r0, c1, r1 in boxes]
    return "".join([*around, *([] if mask is None else _edges(mask))])


def _edges(mask: NDArray[np.bool_]) -> Iterator[str]:
    """The sides that its pixels share with others, those in line as one."""
    padded = np.pad(mask, 1)
    for row, start, stop in _runs(padded[1:, 1:-1] != padded[:-1, 1:-1]):
        yield f"M{start} {row}H{stop}"
    for column, start, stop in _runs((padded[1:-1, 1:] != padded[1:-1, :-1]).T):
        yield f"M{column} {start}V{stop}"


def _runs(lines: NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """Each line's stretches of true: line, start, stop (exclusive)."""
    steps = np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, stops = np.argwhere(steps == 1), np.argwhere(steps == -1)
    for (line, start), (_, stop) in zip(starts.tolist(), stops.tolist(), strict=True):
        yield line, start, stop


def _small(image: Image.Image, filtering: Image.Resampling) -> Image.Image:
    share = SIDE / max(image.size)
    return image if share >= 1 else image.resize((round(image.width * share), round(image.height * share)), filtering)


def _file(image: Image.Image, form: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def _palette() -> list[int]:
    """Red, green and blue of each level, the last of what is not finite."""
    shades = np.linspace(0, 1, 2 * _LEVELS + 1)
    colours = np.vstack([COLOURS(shades), COLOURS(np.array([np.nan]))])[:, :3]
    return [int(part) for part in np.rint(colours * 255).ravel()]


_PALETTE = _palette()

"""Image files: read as RGB whatever they hold, refused in one way, told apart by their content."""

import hashlib
import struct
import warnings
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from rapbench.core.contents import content_digests
from rapbench.core.errors import BadData, first_line

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF")
_DECODING = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, MemoryError, struct.error, zlib.error),
    Image.DecompressionBombError,
)
"""What Pillow raises on files that are truncated, corrupt or far too large."""
_MOST_PIXELS = 2**26
"""More than any photograph has; a few bytes can claim more, and would fill the memory."""
_MODES = {"1": "black and white", "L": "grey", "P": "palette", "RGBA": "RGB with alpha", "LA": "grey with alpha"}


def picture(path: Path) -> Image.Image:
    """The decoded file in its own pixel mode.

    Raises:
        BadData: 'missing image' or 'unreadable image'.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"more than {_MOST_PIXELS} pixels")
            image.load()
            return image.copy()
    except FileNotFoundError as error:
        raise BadData("missing image", path) from error
    except _DECODING as error:
        raise _unreadable(path, error) from error


def photograph(path: Path) -> tuple[Image.Image, str]:
    """The file as 8-bit RGB, and a note on what is unusual about it: 'converted from CMYK', '' where nothing is.

    Grey, palette and CMYK files are converted, an alpha channel is dropped, 16 bits a pixel are scaled to 8. Pixels
    stay as they are stored, as masks and boxes are drawn on these: a turn that EXIF asks for is noted and not made.

    Raises:
        BadData: 'missing image' or 'unreadable image'.
    """
    image = picture(path)
    try:
        return _rgb(image), "; ".join(filter(None, (_conversion(image.mode), _turn(image))))
    except ValueError as error:
        raise _unreadable(path, error) from error


def _conversion(mode: str) -> str:
    if mode == "RGB":
        return ""
    return f"converted from {'16-bit grey' if mode.startswith('I') else _MODES.get(mode, mode)}"


def _turn(image: Image.Image) -> str:
    with suppress(*_DECODING), warnings.catch_warnings():  # damaged EXIF fields leave the pixels right
        warnings.simplefilter("ignore")
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            return "rotated by EXIF, read as stored"
    return ""


def fingerprint(told: Iterable[str], files: Iterable[Path]) -> str:
    """16 hexadecimal digits over ids and what else is told, and over what files hold, wherever they lie."""
    return hashlib.sha256("\n".join((*told, *content_digests(files))).encode()).hexdigest()[:16]


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _from_16_bits(np.asarray(image))
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    # by way of RGBA, as a palette with transparency has no direct way to RGB without a warning
    return image.convert("RGBA").convert("RGB") if "transparency" in image.info else image.convert("RGB")


def _from_16_bits(values: np.ndarray) -> Image.Image:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("more than 16 bits a pixel")
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))


def _unreadable(path: Path, error: Exception) -> BadData:
    return BadData("unreadable image", path, first_line(error))

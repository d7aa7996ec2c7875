"""Digits: 1,797 real handwritten digits that scikit-learn ships, enlarged to MNIST's size."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from rapbench.datasets.mnist import SIDE, Bytes, HandwrittenDigits, Part

_INNER = 20
"""Side of the square that the digit fills, in the middle of the image, as in MNIST."""
_WHITE = 16
_NUM_TEST = 500


@dataclass(frozen=True, kw_only=True)
class Digits(HandwrittenDigits):
    """The last 500 of the images are for testing, the 1,297 before them for training.

    Each is of 8 x 8 pixels, enlarged bilinearly to 20 x 20 and framed in black.

    Attributes:
        data_root: not used; the images are part of scikit-learn.

    Source: Alpaydin and Kaynak 1998, the test set of their optical recognition data.
    """

    name: ClassVar[str] = "digits"
    full_size: ClassVar[int | None] = _NUM_TEST

    def arrays(self, part: Part) -> tuple[Bytes, Bytes]:
        from sklearn.datasets import load_digits

        loaded = load_digits()
        taken = slice(-_NUM_TEST, None) if part == "test" else slice(-_NUM_TEST)
        small = np.rint(loaded.images[taken] * (255 / _WHITE)).astype(np.uint8)
        return np.stack([_enlarged(image) for image in small]), loaded.target[taken].astype(np.uint8)


def _enlarged(image: Bytes) -> Bytes:
    inner = Image.fromarray(image).resize((_INNER, _INNER), Image.Resampling.BILINEAR)
    return np.pad(np.asarray(inner), (SIDE - _INNER) // 2)

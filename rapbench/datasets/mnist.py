"""MNIST: 70,000 handwritten digits in four idx files."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from rapbench.core.errors import BadConfig, BadData, DataMissing
from rapbench.core.types import Need, Sample

SIDE = 28
"""Pixels along each side of an image."""

_FOLDERS = (".", "mnist", "MNIST/raw")
_PREFIX = {"train": "train", "test": "t10k"}
_IMAGES, _LABELS = 2051, 2049
"""Magic numbers: two zero bytes, type 8 (unsigned byte), and the number of dimensions."""
_MOST_BYTES = 2**27
"""More than the largest of the files unpacks to; a small one can claim more, and would fill the memory."""
_GZIP = b"\x1f\x8b"

Bytes = NDArray[np.uint8]
Part = Literal["test", "train"]


@dataclass(frozen=True, kw_only=True)
class HandwrittenDigits:
    """Grey images (1, 28, 28) of the digits 0 to 9, white on black, in two parts.

    Attributes:
        data_root: folder of the files.
        size: side of the network's input, which must be the images' own.
        part: 'test', or 'train', on which a network may have been trained.
        digit: take the images of this digit only; all by default.
    """

    name: ClassVar[str]
    label_space: ClassVar[str] = "digits"
    provides: ClassVar[frozenset[Need]] = frozenset({"digits"})
    default_limit: ClassVar[int | None] = None
    full_size: ClassVar[int | None]

    data_root: Path | None = None
    size: int = SIDE
    part: Part = "test"
    digit: Annotated[int, Field(ge=0, le=9)] | None = None

    def __post_init__(self) -> None:
        if self.size != SIDE:
            raise BadConfig(f"{self.name} has grey images of {SIDE} x {SIDE} pixels: use --model mnist_cnn")
        assert len(self.ids) == len(self)

    def arrays(self, part: Part) -> tuple[Bytes, Bytes]:
        """Images (N, 28, 28) and labels (N,) of a part, all digits."""
        raise AssertionError

    def training(self) -> tuple[Tensor, Tensor]:
        """What a network may be trained on: images (N, 1, 28, 28) uint8 and labels (N,) int64."""
        images, labels = self.arrays("train")
        return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))

    @cached_property
    def fingerprint(self) -> str:
        images, labels = self._arrays
        return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()[:16]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"{self.part}-{place:05d}" for place in self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        images, labels = self._arrays
        place = self._places[index]
        image = torch.from_numpy(images[place]).unsqueeze(0).float() / 255
        return Sample(id=self.ids[index], image=image, label=int(labels[place]))

    @cached_property
    def _arrays(self) -> tuple[Bytes, Bytes]:
        return self.arrays(self.part)

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Places in the part of the images taken."""
        labels = self._arrays[1]
        return np.flatnonzero(labels == self.digit) if self.digit is not None else np.arange(len(labels))


@dataclass(frozen=True, kw_only=True)
class Mnist(HandwrittenDigits):
    """10,000 test and 60,000 training images of handwritten digits.

    Attributes:
        data_root: folder that holds the four idx files, gzipped or not, or holds them in `mnist` or `MNIST/raw`.

    Source: LeCun et al. 1998.
    """

    name: ClassVar[str] = "mnist"
    full_size: ClassVar[int | None] = 10_000

    def arrays(self, part: Part) -> tuple[Bytes, Bytes]:
        images_file, labels_file = (self._file(part, kind) for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        images, labels = idx(images_file, _IMAGES), idx(labels_file, _LABELS)
        if images.shape[1:] != (SIDE, SIDE):
            height, width = images.shape[1:]
            raise BadData("wrong image size", images_file, f"{height} x {width} pixels, not {SIDE} x {SIDE}")
        if len(images) != len(labels):
            raise BadData("other number of labels than images", labels_file, f"{len(labels)} for {len(images)} images")
        if not len(labels) or labels.max() > 9:
            raise BadData("no digits", labels_file, "labels must be from 0 to 9")
        return images, labels

    def _file(self, part: Part, kind: str) -> Path:
        if self.data_root is None:
            raise DataMissing("mnist needs --data-root: the folder of the four idx files")
        name = f"{_PREFIX[part]}-{kind}"
        for folder in _FOLDERS:
            for file in (self.data_root / folder / name, self.data_root / folder / f"{name}.gz"):
                if file.is_file():
                    return file
        raise DataMissing(
            f"no {name} or {name}.gz in {self.data_root} or its folder mnist: put MNIST's idx files there"
        )


def idx(file: Path, magic: int) -> Bytes:
    """The array in an idx file of unsigned bytes, gzipped or not.

    Raises:
        BadData: unreadable, of another magic number, or of another length than its header says.
    """
    try:
        with file.open("rb") as stream:
            packed = stream.peek(2).startswith(_GZIP)
            content = (gzip.GzipFile(fileobj=stream) if packed else stream).read(_MOST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData("unreadable idx file", file, str(error)) from error
    found, dims = int.from_bytes(content[:4], "big"), magic % 256
    if found != magic:
        raise BadData("wrong idx file", file, f"magic number {found}, not {magic}")
    start = 4 + 4 * dims
    if len(content) < start:
        raise BadData("truncated idx file", file, "the header is cut off")
    shape = np.frombuffer(content[4:start], ">u4").tolist()
    if len(content) - start != (wanted := math.prod(shape)):
        reason = "truncated idx file" if len(content) - start < wanted else "overlong idx file"
        raise BadData(reason, file, f"{len(content) - start} bytes of data, {wanted} by its header")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()

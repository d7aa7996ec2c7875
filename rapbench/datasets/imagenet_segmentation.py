"""ImageNet-Segmentation: photographs with object masks in one MATLAB 7.3 file, which is HDF5 inside."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
from PIL import Image

from rapbench.core.errors import BadData, DataMissing, first_line
from rapbench.core.types import Need, Sample
from rapbench.datasets.geometry import Preprocess, view
from rapbench.datasets.photographs import fingerprint

_FILE = "gtsegs_ijcv.mat"
_FOLDERS = (".", "imagenet_segmentation")
_IMAGES, _MASKS = "/value/img", "/value/gt"
_HOME = f"put {_FILE} of calvin-vision.net/bigstuff/proj-imagenet into the folder that --data-root names"
_SHOWN = 8
_MOST_BYTES = 2**28
_READING = (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, MemoryError)
"""What h5py raises on damaged files and on references that lead nowhere."""


@dataclass(frozen=True, kw_only=True)
class ImageNetSegmentation:
    """4,276 photographs of 445 ImageNet classes in the file's own order, each with the mask of its first segmentation.

    No class is read. The file is opened anew for every sample and nothing of it is kept open, so that an instance can
    be pickled and shared by threads and forked processes.

    Attributes:
        data_root: folder that holds gtsegs_ijcv.mat, or holds it in `imagenet_segmentation`.
        size: side of the square images in pixels.
        preprocess: how a photograph becomes square.

    Source: Guillaumin et al. 2014; Nam et al. 2020, Section 4.2.
    """

    name: ClassVar[str] = "imagenet_segmentation"
    label_space: ClassVar[str] = ""
    provides: ClassVar[frozenset[Need]] = frozenset({"mask"})
    default_limit: ClassVar[int | None] = None
    full_size: ClassVar[int | None] = 4276

    data_root: Path | None = None
    size: int = 224
    preprocess: Preprocess = "squash"

    def __post_init__(self) -> None:
        if not self.ids:
            raise DataMissing(f"{self._file} lists no image: {_HOME}")

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.ids, [self._file])

    @cached_property
    def ids(self) -> tuple[str, ...]:
        with _opened(self._file) as file:
            shapes = [file[name].shape if _holds_references(file, name) else None for name in (_IMAGES, _MASKS)]
            if shapes[0] is None or shapes[0] != shapes[1] or shapes[0][1:] != (1,):
                raise DataMissing(
                    f"{self._file} holds {_contents(file)}, but not {_IMAGES} and {_MASKS}, two columns of as many "
                    f"references: {_HOME}"
                )
            return tuple(f"gtsegs-{index:04d}" for index in range(shapes[0][0]))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Photograph `index` of the file.

        Raises:
            BadData: the photograph or its mask is unreadable or impossible.
        """
        name = self.ids[index]
        where = f"{self._file}, {name}"
        pixels, mask = self._arrays(range(len(self))[index], where)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise BadData("unreadable image", where, f"{pixels.dtype} of shape {pixels.shape}, not RGB bytes")
        if mask.shape != pixels.shape[:2]:
            raise BadData("mask of another size than its image", where, f"{mask.shape} against {pixels.shape[:2]}")
        photo = Image.fromarray(pixels)
        seen = view(self.preprocess, photo.size, self.size)
        return Sample(id=name, image=seen.image(photo), mask=seen.mask(Image.fromarray(_binary(mask, where))))

    @cached_property
    def _file(self) -> Path:
        if self.data_root is None:
            raise DataMissing(f"imagenet_segmentation is read from disk: {_HOME}")
        for folder in _FOLDERS:
            file = self.data_root / folder / _FILE
            if file.is_file():
                return file
        raise DataMissing(f"no {_FILE} in {self.data_root} or its {_FOLDERS[1]}: {_HOME}")

    def _arrays(self, index: int, where: str) -> tuple[np.ndarray, np.ndarray]:
        """Photograph (H, W, 3) and mask (H, W); MATLAB stores columns first, so that HDF5 has axes in reverse."""
        with _opened(self._file) as file:
            try:
                segmentations = file[file[_MASKS][index, 0]]
                photo, mask = _read(file[file[_IMAGES][index, 0]]), _read(file[segmentations[0, 0]])
            except _READING as error:
                raise BadData("unreadable image", where, first_line(error)) from error
        return np.ascontiguousarray(photo.T), np.ascontiguousarray(mask.T)


def _read(array: h5py.Dataset) -> np.ndarray:
    """An array, unless a small file claims that it is larger than any photograph."""
    if array.nbytes > _MOST_BYTES:
        raise ValueError(f"an array of shape {array.shape}")
    return np.asarray(array[()])


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The file, to be read: without a lock, which read-only file systems refuse."""
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise BadData("unreadable file", path, _unreadable(path, error)) from error
    with file:
        yield file


def _unreadable(path: Path, error: OSError) -> str:
    with path.open("rb") as stream:
        old = stream.read(10) == b"MATLAB 5.0"
    return "a MATLAB 5 file, where version 7.3 is wanted" if old else f"{first_line(error)}: is the download whole?"


def _holds_references(file: h5py.File, name: str) -> bool:
    member = file.get(name)
    return isinstance(member, h5py.Dataset) and h5py.check_ref_dtype(member.dtype) is h5py.Reference


def _contents(file: h5py.File) -> str:
    """Names of what the file holds, two levels deep, without MATLAB's own groups."""
    names: list[str] = []
    for key, member in file.items():
        if key.startswith("#"):
            continue
        inner = member.items() if isinstance(member, h5py.Group) else ()
        names += [f"/{key}/{name} {getattr(below, 'shape', '')}".strip() for name, below in inner]
        names += [] if inner else [f"/{key} {getattr(member, 'shape', '')}".strip()]
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "") if names else "nothing"


def _binary(mask: np.ndarray, where: str) -> np.ndarray:
    """Mask (H, W) as bytes of 0 and 1."""
    unknown = mask[(mask != 0) & (mask != 1)]
    if unknown.size:
        raise BadData("impossible class in mask", where, f"value {unknown[0]}, where 0 and 1 are wanted")
    return mask.astype(np.uint8)

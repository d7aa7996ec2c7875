"""Files of maps that were made elsewhere: a file an image, or one file of all."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote
from zipfile import BadZipFile

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from rapbench.core.contents import content_digests
from rapbench.core.errors import BadConfig, BadData, DataMissing, first_line

_READING = (
    *(OSError, ValueError, TypeError, EOFError, MemoryError, KeyError, AttributeError, RuntimeError),
    *(BadZipFile, pickle.UnpicklingError),
)
"""What the libraries raise on files that are damaged or hold something else."""
_PREFERRED = ("relevance", "arr_0")
"""What an array of maps is called in a file that holds others beside it."""


@dataclass(frozen=True, eq=False)
class StoredMaps:
    """Maps by the images' ids, or in the order of the data set.

    Attributes:
        path: file or folder.
        files: all that the maps are in.
        named: id -> what reads the map.
        ordered: what reads all maps, None where there is no array of all.
    """

    path: Path
    files: tuple[Path, ...]
    named: Mapping[str, Callable[[], NDArray[Any]]]
    ordered: Callable[[], NDArray[Any]] | None = None

    @classmethod
    def load(cls, file: Path) -> Self:
        """The maps in a folder or a file; their values are read when they are asked for.

        Raises:
            DataMissing: no such file or folder, or no maps in it.
            BadData: it cannot be read, or images have two maps.
        """
        if file.is_dir():
            return cls._of_folder(file)
        if not file.is_file():
            raise DataMissing(f"no maps {file}: neither a file nor a folder")
        arrays = _arrays(file)
        chosen = _chosen(arrays)
        return cls(file, (file,), arrays, None if chosen is None else arrays[chosen])

    @classmethod
    def _of_folder(cls, folder: Path) -> Self:
        files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _FORMS and path.name[0] != "."]
        if not files:
            raise DataMissing(f"no maps ({', '.join(_FORMS)}) in {folder}")
        ids = (unquote(path.relative_to(folder).with_suffix("").as_posix()) for path in files)
        named = {image_id: partial(_single, path) for image_id, path in zip(ids, files, strict=True)}
        if len(named) < len(files):
            raise BadData("image listed twice", folder, f"{len(files)} files are maps of {len(named)} images")
        return cls(folder, tuple(files), named)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over ids and contents of a folder's files; of a file alone, over its content."""
        names = self.named if self.path.is_dir() else ()
        return hashlib.sha256("\n".join((*names, *content_digests(self.files))).encode()).hexdigest()

    def check(self, ids: Sequence[str], among: Sequence[str]) -> None:
        """Whether there is a map of each of some images of a data set, whose ids are all given in order.

        Raises:
            BadConfig: there is not; the message says what there is.
        """
        lacking = next((name for name in ids if name not in self.named), None)
        if lacking is None:
            return
        if self.ordered is None or not self.named.keys().isdisjoint(among):
            shown = ", ".join(map(repr, list(self.named)[:2]))
            raise BadConfig(
                f"{self.path} holds no map of image {lacking!r}: it holds {len(self.named)}, of {shown}, ..."
            )
        count = len(self._all)
        if count != len(among):
            raise BadConfig(
                f"{self.path} holds {count} maps, and the data set {len(among)} images: one array has a map of each, "
                "in the data set's order; maps of some are a file each, named after the image's id"
            )

    def read(self, image_id: str, among: Sequence[str]) -> NDArray[Any]:
        """The map of an image of a data set, as it is stored; `check` has found that there is one."""
        if image_id in self.named:
            return self.named[image_id]()
        return self._all[_places(tuple(among))[image_id]]  # type: ignore[no-any-return]

    @cached_property
    def _all(self) -> NDArray[Any]:
        assert self.ordered is not None
        found = self.ordered()
        if not found.ndim:
            raise BadData("unreadable maps", self.path, "a number, and no array")
        return found


@lru_cache(maxsize=1)
def _places(ids: tuple[str, ...]) -> Mapping[str, int]:
    return {name: place for place, name in enumerate(ids)}


def _single(file: Path) -> NDArray[Any]:
    """The one map in a file."""
    arrays = _arrays(file)
    chosen = _chosen(arrays)
    if chosen is None:
        raise BadData("unreadable maps", file, f"holds {', '.join(arrays) or 'nothing'}; name the map relevance")
    return arrays[chosen]()


def _chosen(names: Mapping[str, object]) -> str | None:
    """The array that is the maps: one of a usual name, or the only one."""
    return next((name for name in _PREFERRED if name in names), next(iter(names)) if len(names) == 1 else None)


def _arrays(file: Path) -> Mapping[str, Callable[[], NDArray[Any]]]:
    """The arrays in a file by name, each with what reads it; the name is empty where arrays have none.

    Raises:
        BadData: 'unreadable maps'.
    """
    form = _FORMS.get(file.suffix.lower())
    if form is None:
        raise BadData("unreadable maps", file, f"none of {', '.join(_FORMS)}")
    with _readable(file):
        return {name: partial(_read, read, file) for name, read in form(file).items()}


def _read(read: Callable[[], Any], file: Path) -> NDArray[Any]:
    with _readable(file):
        return np.asanyarray(read())


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except _READING as error:
        raise BadData("unreadable maps", file, first_line(error)) from error


def _npy(file: Path) -> dict[str, Callable[[], Any]]:
    return {"": partial(np.load, file, mmap_mode="r", allow_pickle=False)}


def _npz(file: Path) -> dict[str, Callable[[], Any]]:
    with np.load(file, allow_pickle=False) as held:
        return {name: partial(_npz_member, file, name) for name in held.files}


def _npz_member(file: Path, name: str) -> Any:
    with np.load(file, allow_pickle=False) as held:
        return held[name]


def _torch(file: Path) -> dict[str, Callable[[], Any]]:
    held = torch.load(file, map_location="cpu", weights_only=True)
    tensors = held if isinstance(held, dict) else {"": held}
    return {name: partial(_numpy, tensor) for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}


def _numpy(tensor: torch.Tensor) -> Any:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()


def _hdf5(file: Path) -> dict[str, Callable[[], Any]]:
    names: list[str] = []
    with h5py.File(file, "r", locking=False) as held:
        held.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return {name: partial(_hdf5_member, file, name) for name in names}


def _hdf5_member(file: Path, name: str) -> Any:
    with h5py.File(file, "r", locking=False) as held:
        return held[name][()]


_FORMS: Mapping[str, Callable[[Path], dict[str, Callable[[], Any]]]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".pt": _torch,
    ".pth": _torch,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}

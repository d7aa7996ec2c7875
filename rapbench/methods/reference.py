"""Arrays that take the place of an input: what DeepLIFT compares an image with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from rapbench.core.errors import BadConfig, BadData, DataMissing, first_line


@dataclass(frozen=True, eq=False)
class Reference:
    """One array of finite numbers, (C, H, W) float64."""

    array: NDArray[np.float64]

    @classmethod
    def load(cls, file: Path) -> Self:
        """The one array of a .npy or .npz file.

        Raises:
            BadConfig: the file's name ends otherwise.
            DataMissing: no such file.
            BadData: it cannot be read or holds something else.
        """
        if file.suffix not in {".npy", ".npz"}:
            raise BadConfig(f"reference {file} is neither a number nor a .npy or .npz file")
        if not file.is_file():
            raise DataMissing(f"no reference file {file}")
        try:
            with file.open("rb") as stream:
                content = np.load(stream, allow_pickle=False)
                arrays = list(content.values()) if isinstance(content, NpzFile) else [content]
        except (OSError, ValueError, EOFError, MemoryError, BadZipFile) as error:
            raise BadData("unreadable reference", file, first_line(error)) from error
        if len(arrays) != 1 or arrays[0].dtype.kind not in "biuf" or not np.isfinite(arrays[0]).all():
            raise BadData("unusable reference", file, "one array of finite numbers is wanted")
        return cls(arrays[0].astype(np.float64))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shape and values."""
        return hashlib.sha256(f"{self.array.shape}\n".encode() + self.array.tobytes()).hexdigest()

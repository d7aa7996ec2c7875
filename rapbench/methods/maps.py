"""Maps that were made elsewhere, scored as any method's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.errors import BadConfig
from rapbench.core.files import File
from rapbench.methods.map_files import StoredMaps

_MODES = {"bilinear": "bilinear", "nearest": "nearest-exact"}


@dataclass(frozen=True, kw_only=True)
class Maps:
    """What a file holds of each image: its relevance for the class that the run explains.

    A map of pixels (H, W) or (1, H, W) is shared evenly by the channels, so that their sum is the map.

    Attributes:
        path: a folder with a file an image, named after its id; or one file, with an array an image under its id, or
            with one array of all in the data set's order. Files are .npz, .npy, .pt or .h5.
        signed: whether negative values speak against the class.
        resize: how maps that are smaller than the images are enlarged.
    """

    title: ClassVar[str] = "Given maps"

    path: File[StoredMaps]
    signed: bool = True
    resize: Literal["bilinear", "nearest"] = "bilinear"

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        raise BadConfig(
            f"{self.path} holds maps of the data set's images as they are, for one class each: "
            "other inputs, or other classes of them, cannot be explained"
        )

    def check(self, ids: Sequence[str], among: Sequence[str]) -> None:
        self.path.read().check(ids, among)

    def of(self, ids: Sequence[str], among: Sequence[str], x: Tensor) -> Tensor:
        self.check(ids, among)
        return torch.stack([self._map(name, among, x.shape[1:]) for name in ids]).to(x.device)

    def _map(self, name: str, among: Sequence[str], shape: Sequence[int]) -> Tensor:
        """The map of an image (C, H, W), float64."""
        array = self.path.read().read(name, among)
        where = f"{self.path}, map of {name!r}"
        if array.dtype.kind not in "biuf":
            raise BadConfig(f"{where}: {array.dtype}, where numbers are wanted")
        _check_shape(array.shape, shape, where)
        relevance = torch.from_numpy(array.astype(np.float64)).reshape(-1, *array.shape[-2:])
        if unusable := int((~relevance.isfinite()).sum()):
            raise BadConfig(f"{where}: {unusable} of {relevance.numel()} values are not finite")
        if relevance.shape[1:] != shape[1:]:
            relevance = functional.interpolate(relevance[None], tuple(shape[1:]), mode=_MODES[self.resize])[0]
        return relevance if len(relevance) == shape[0] else (relevance / shape[0]).expand(*shape)


def _check_shape(found: Sequence[int], image: Sequence[int], where: str) -> None:
    """Whether a map is of an image (C, H, W), or of a smaller one of the same proportions.

    Raises:
        BadConfig: it is not.
    """
    channels, height, width = image
    *rest, rows, columns = found if len(found) > 1 else (0, 0, 0)
    if rest in ([], [1], [channels]) and 0 < rows <= height and rows * width == columns * height:
        return
    raise BadConfig(
        f"{where}: of shape {tuple(found)}, where {tuple(image)}, {(1, height, width)} or {(height, width)} is wanted, "
        "or both sides smaller in proportion"
    )

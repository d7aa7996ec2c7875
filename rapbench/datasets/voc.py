"""Pascal VOC 2012: photographs with class masks and object boxes."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from rapbench.core.errors import BadData, DataMissing
from rapbench.core.types import VOID, Need, Sample
from rapbench.datasets.annotations import annotation
from rapbench.datasets.geometry import Preprocess, view
from rapbench.datasets.lists import lines, refuse_repeated
from rapbench.datasets.photographs import fingerprint, photograph, picture

_FOLDERS = ("VOCdevkit/VOC2012", "VOC2012", ".")
_LIST = "ImageSets/Segmentation/val.txt"
_CLASSES = 20
_ARCHIVE = "unpack VOCtrainval_11-May-2012.tar and pass the folder above VOCdevkit as --data-root"


@dataclass(frozen=True, kw_only=True)
class Voc:
    """The segmentation validation list: 1,449 photographs in file order.

    The mask holds all twenty classes as one foreground, the border around objects and what is hard to tell as void.
    Boxes are those of every annotated object; a photograph without an XML file has none. Coordinates count pixels from
    one and include both ends, so pixels xmin - 1 to xmax - 1 are inside.

    Attributes:
        data_root: folder that holds `VOCdevkit`, or is it, or is its `VOC2012`, or holds any of these in `voc`.
        size: side of the square images in pixels.
        preprocess: how a photograph becomes square.

    Source: Everingham et al. 2010; Nam et al. 2020, Section 4.2.
    """

    name: ClassVar[str] = "voc"
    label_space: ClassVar[str] = ""
    provides: ClassVar[frozenset[Need]] = frozenset({"boxes", "mask"})
    default_limit: ClassVar[int | None] = None
    full_size: ClassVar[int | None] = 1449

    data_root: Path | None = None
    size: int = 224
    preprocess: Preprocess = "squash"

    def __post_init__(self) -> None:
        if not self.ids:
            raise DataMissing(f"{self._folder / _LIST} lists no image: {_ARCHIVE}")
        refuse_repeated(self.ids, self._folder / _LIST)
        for index in (0, len(self) // 2, -1):
            for file in (self._photo(self.ids[index]), self._mask_file(self.ids[index])):
                if not file.exists():
                    raise DataMissing(f"{_LIST} lists {self.ids[index]}, but there is no {file}: {_ARCHIVE}")

    @cached_property
    def fingerprint(self) -> str:
        kinds = (self._photo, self._mask_file, self._xml)
        return fingerprint(self.ids, (file(name) for file in kinds for name in self.ids))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(filter(None, lines(self._folder / _LIST)))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Photograph `index` of the list.

        Raises:
            BadData: a file is missing, unreadable or impossible.
        """
        name = self.ids[index]
        photo, note = photograph(self._photo(name))
        mask = self._mask(name, photo.size)
        xml = self._xml(name)
        noted = annotation(xml, first_pixel=1) if xml.exists() else None
        boxes, frame = (noted.boxes(), noted.frame) if noted else ([], photo.size)
        seen = view(self.preprocess, photo.size, self.size)
        return Sample(
            id=name,
            image=seen.image(photo),
            boxes=seen.boxes(boxes, frame),
            mask=seen.mask(mask),
            note=note or (noted.note if noted else ""),
        )

    @cached_property
    def _folder(self) -> Path:
        if self.data_root is None:
            raise DataMissing(f"voc is read from disk: {_ARCHIVE}")
        inner = self.data_root / "voc"
        root = inner if inner.is_dir() else self.data_root
        for folder in (root / name for name in _FOLDERS):
            if (folder / _LIST).is_file():
                return folder
        raise DataMissing(f"no {_LIST} in {root} or its {', '.join(_FOLDERS[:-1])}: {_ARCHIVE}")

    def _photo(self, name: str) -> Path:
        return self._folder / "JPEGImages" / f"{name}.jpg"

    def _xml(self, name: str) -> Path:
        return self._folder / "Annotations" / f"{name}.xml"

    def _mask_file(self, name: str) -> Path:
        return self._folder / "SegmentationClass" / f"{name}.png"

    def _mask(self, name: str, size: tuple[int, int]) -> Image.Image:
        file = self._mask_file(name)
        indexed = picture(file)
        if indexed.mode not in {"P", "L"}:
            raise BadData("mask without class indices", file, f"its pixels are {indexed.mode}")
        if indexed.size != size:
            raise BadData("mask of another size than its image", file, f"{indexed.size} against {size}")
        return Image.fromarray(_foreground(np.asarray(indexed), file))


def _foreground(classes: np.ndarray, file: Path) -> np.ndarray:
    """Mask (H, W) of class indices: any of 1..20 is object, 0 is background, 255 stays void."""
    unknown = classes[(classes > _CLASSES) & (classes != VOID)]
    if unknown.size:
        raise BadData("impossible class in mask", file, f"index {unknown[0]}")
    return np.where(classes == VOID, VOID, classes > 0).astype(np.uint8)

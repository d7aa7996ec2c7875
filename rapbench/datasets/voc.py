"""Pascal VOC 2007 and 2012: photographs with class masks and object boxes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from rapbench.core.errors import BadData, DataMissing
from rapbench.core.types import VOID, Need, Sample
from rapbench.datasets.annotations import annotation
from rapbench.datasets.geometry import Preprocess, view
from rapbench.datasets.lists import lines, refuse_repeated
from rapbench.datasets.photographs import fingerprint, photograph, picture

_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_DATES = {"2007": "06-Nov-2007", "2012": "11-May-2012"}
"""In the names of the archives."""
_SIZES = {
    "2007 segmentation": {"train": 209, "val": 213, "trainval": 422, "test": 210},
    "2007 main": {"train": 2501, "val": 2510, "trainval": 5011, "test": 4952},
    "2012 segmentation": {"train": 1464, "val": 1449, "trainval": 2913, "test": 1456},
    "2012 main": {"train": 5717, "val": 5823, "trainval": 11540, "test": 10991},
}
"""Photographs of each list as published."""


@dataclass(frozen=True, kw_only=True)
class Voc:
    """The photographs of a list in file order; by default the 1,449 of the segmentation validation list.

    The mask holds all twenty classes as one foreground, the border around objects and what is hard to tell as void.
    Boxes are those of every annotated object; a photograph without an XML file has none. Coordinates count pixels from
    one and include both ends, so pixels xmin - 1 to xmax - 1 are inside.

    Attributes:
        data_root: folder that holds `VOCdevkit`, or is it, or is its `VOC2012`, or holds any of these in `voc`.
        size: side of the square images in pixels.
        preprocess: how a photograph becomes square.
        year: of the challenge.
        split: which list in the folder of the image set, by its name: train, val, trainval, test, or another that is
            there. Of a class's list, as aeroplane_val, only the photographs that show the class are taken.
        imageset: `segmentation`, whose photographs have masks and boxes, or `main`, whose have boxes.

    Source: Everingham et al. 2010; Nam et al. 2020, Section 4.2.
    """

    name: ClassVar[str] = "voc"
    label_space: ClassVar[str] = ""
    default_limit: ClassVar[int | None] = None

    data_root: Path | None = None
    size: int = 224
    preprocess: Preprocess = "squash"
    year: Literal["2012", "2007"] = "2012"
    split: str = "val"
    imageset: Literal["segmentation", "main"] = "segmentation"

    def __post_init__(self) -> None:
        if not self.ids:
            raise DataMissing(f"{self._folder / self._list} lists no image: {self._archive}")
        refuse_repeated(self.ids, self._folder / self._list)
        for index in (0, len(self) // 2, -1):
            for file in (kind(self.ids[index]) for kind in (self._photo, *self._mask_kinds)):
                if not file.exists():
                    raise DataMissing(f"{self._list} lists {self.ids[index]}, but there is no {file}: {self._archive}")

    @classmethod
    def provided(cls, parameters: Mapping[str, str]) -> frozenset[Need]:
        boxes: frozenset[Need] = frozenset({"boxes", "box_classes"})
        return boxes if parameters.get("imageset") == "main" else boxes | {"mask"}

    @property
    def provides(self) -> frozenset[Need]:
        return self.provided({"imageset": self.imageset})

    @property
    def full_size(self) -> int | None:
        return _SIZES[f"{self.year} {self.imageset}"].get(self.split)

    @cached_property
    def fingerprint(self) -> str:
        kinds = (self._photo, *self._mask_kinds, self._xml)
        return fingerprint(self.ids, (file(name) for file in kinds for name in self.ids))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        rows = [line.split() for line in lines(self._folder / self._list) if line]
        return tuple(name for name, *shown in rows if shown in ([], ["1"]))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Photograph `index` of the list.

        Raises:
            BadData: a file is missing, unreadable or impossible.
        """
        name = self.ids[index]
        photo, note = photograph(self._photo(name))
        mask = self._mask(name, photo.size) if "mask" in self.provides else None
        xml = self._xml(name)
        noted = annotation(xml, first_pixel=1) if xml.exists() else None
        boxes, frame = (noted.boxes(), noted.frame) if noted else ([], photo.size)
        names = [name for name, box in noted.objects if box] if noted else []
        seen = view(self.preprocess, photo.size, self.size)
        return Sample(
            id=name,
            image=seen.image(photo),
            boxes=seen.boxes(boxes, frame),
            box_classes=seen.classes(boxes, frame, names, _CLASSES),
            mask=seen.mask(mask) if mask else None,
            note=note or (noted.note if noted else ""),
        )

    @cached_property
    def _folder(self) -> Path:
        if self.data_root is None:
            raise DataMissing(f"voc is read from disk: {self._archive}")
        inner = self.data_root / "voc"
        root = inner if inner.is_dir() else self.data_root
        *inside, _ = places = (f"VOCdevkit/VOC{self.year}", f"VOC{self.year}", ".")
        for folder in (root / name for name in places):
            if (folder / self._list).is_file():
                return folder
            if (folder / self._main).is_file():
                raise DataMissing(
                    f"no {self._list} in {folder}, but a list of photographs with boxes alone: write imageset=main"
                )
        raise DataMissing(f"no {self._list} in {root} or its {', '.join(inside)}: {self._archive}")

    @property
    def _list(self) -> str:
        return f"ImageSets/Segmentation/{self.split}.txt" if self.imageset == "segmentation" else self._main

    @property
    def _main(self) -> str:
        return f"ImageSets/Main/{self.split}.txt"

    @property
    def _archive(self) -> str:
        part = "test" if self.split == "test" else "trainval"
        return f"unpack VOC{part}_{_DATES[self.year]}.tar and pass the folder above VOCdevkit as --data-root"

    @property
    def _mask_kinds(self) -> tuple[Callable[[str], Path], ...]:
        """Which files of masks a photograph has."""
        return (self._mask_file,) if "mask" in self.provides else ()

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
    unknown = classes[(classes > len(_CLASSES)) & (classes != VOID)]
    if unknown.size:
        raise BadData("impossible class in mask", file, f"index {unknown[0]}")
    return np.where(classes == VOID, VOID, classes > 0).astype(np.uint8)

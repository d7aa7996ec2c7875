"""Pictures of one's own in a folder, with the masks, boxes and labels that there are."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from rapbench.core.errors import BadData, DataMissing, UnknownName
from rapbench.core.paths import TypedPath
from rapbench.core.types import VOID, Need, Sample
from rapbench.datasets.annotations import Annotation
from rapbench.datasets.boxes import Boxes, boxes_in
from rapbench.datasets.geometry import Preprocess, view
from rapbench.datasets.imagenet_classes import class_indices
from rapbench.datasets.lists import refuse_repeated, table
from rapbench.datasets.named_files import PICTURES, Pictures, files_in, stem
from rapbench.datasets.photographs import fingerprint, photograph, picture

_LOG = logging.getLogger(__name__)
_MASKS = tuple(suffix for suffix in PICTURES if suffix not in {".jpg", ".jpeg"})
"""JPEG files have no exact zeros."""
_PROVIDING: dict[str, Need] = {"masks": "mask", "boxes": "boxes"}


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The pictures in a folder and its sub-folders, ascending by path.

    Masks, boxes and labels belong to the picture of the same name: its path below the folder, or its file's name alone;
    the suffix does not matter. A picture without any is one without annotation. Labels have to be ImageNet's classes,
    all by WNID, by name or by index; others are said once, and images are without labels then.

    Attributes:
        path: the folder; sub-folders are classes.
        masks: folder of masks, in formats without loss and as large as their pictures: what is not 0 is object, and 255
            in a palette is void.
        boxes: folder of Pascal VOC's XML files, or of YOLO's text files (class, centre, width and height as shares of
            the sides), or a CSV file (image, xmin, ymin, xmax, ymax; edges in pixels, counted from zero).
        labels: CSV file (image, label), in the place of sub-folders.
        data_root: folder, or one that holds `imagenet`, with the list of WNIDs, if it does not lie beside the pictures.
        size: side of the square images in pixels.
        preprocess: how a photograph becomes square.
    """

    name: ClassVar[str] = "folder"
    label_space: ClassVar[str] = "imagenet"
    default_limit: ClassVar[int | None] = None
    full_size: ClassVar[int | None] = None

    path: TypedPath
    masks: TypedPath | None = None
    boxes: TypedPath | None = None
    labels: TypedPath | None = None
    data_root: Path | None = None
    size: int = 224
    preprocess: Preprocess = "squash"

    def __post_init__(self) -> None:
        _ = self._mask_files, self._marked
        if not self.classes:
            object.__setattr__(self, "label_space", "")  # of these images; the class says it of all that have labels

    @classmethod
    def provided(cls, parameters: Mapping[str, str]) -> frozenset[Need]:
        return frozenset(need for key, need in _PROVIDING.items() if parameters.get(key, "none").lower() != "none")

    @property
    def provides(self) -> frozenset[Need]:
        return frozenset(need for key, need in _PROVIDING.items() if getattr(self, key))

    @cached_property
    def fingerprint(self) -> str:
        labels = [f"{name} {label}" for name, label in self.classes.items()]
        boxes = self._boxes.files if self._boxes else ()
        files = (*self._pictures.files.values(), *self._mask_files.values(), *boxes)
        return fingerprint((*self.ids, *labels, *self._mask_files, *self._marked.values()), files)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._pictures.files)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Picture `index`.

        Raises:
            BadData: a file is unreadable or impossible.
        """
        name = self.ids[index]
        photo, note = photograph(self._pictures.files[name])
        noted = self._annotation(name, photo.size)
        mask = self._mask_files.get(name)
        seen = view(self.preprocess, photo.size, self.size)
        return Sample(
            id=name,
            image=seen.image(photo),
            label=self.classes.get(name),
            boxes=seen.boxes(noted.boxes(), noted.frame) if noted else None,
            mask=seen.mask(_foreground(mask, photo.size)) if mask else None,
            note=note or (noted.note if noted else ""),
        )

    @cached_property
    def _pictures(self) -> Pictures:
        found = {
            name: file
            for name, file in files_in(self.path, PICTURES).items()
            if self.masks == self.path or self.masks not in file.parents
        }
        if not found:
            raise DataMissing(f"no pictures ({', '.join(PICTURES)}) in {self.path} or its sub-folders")
        return Pictures(self.path, found)

    @cached_property
    def _mask_files(self) -> dict[str, Path]:
        """Id -> file, of the pictures that have one."""
        if self.masks is None:
            return {}
        found = files_in(self.masks, _MASKS)
        if not found:
            raise DataMissing(f"no masks ({', '.join(_MASKS)}) in {self.masks} or its sub-folders")
        refuse_repeated(map(stem, found), self.masks)
        files = {stem(name): file for name, file in found.items()}
        return {name: files[written] for name, written in self._pictures.meant(files, self.masks).items()}

    @cached_property
    def _boxes(self) -> Boxes | None:
        return None if self.boxes is None else boxes_in(self.boxes)

    @cached_property
    def _marked(self) -> dict[str, str]:
        """Id -> under which name its boxes are written, of the pictures that have some."""
        if self._boxes is None or self.boxes is None:
            return {}
        return self._pictures.meant(self._boxes.entries, self.boxes)

    def _annotation(self, name: str, photo: tuple[int, int]) -> Annotation | None:
        """The boxes of a photograph of (width, height)."""
        if self._boxes is None or name not in self._marked:
            return None
        return self._boxes.read(self._boxes.entries[self._marked[name]], photo)

    @cached_property
    def classes(self) -> dict[str, int]:
        """Id -> class index, of the pictures that have a label."""
        written = self._labels_of_folders() if self.labels is None else self._labels_of_file(self.labels)
        try:
            indices = class_indices(set(written.values()), self._places)
        except UnknownName as error:
            _LOG.warning("%s: images are without labels: %s", self.labels or self.path, error)
            return {}
        return {name: indices[label] for name, label in written.items()}

    @property
    def _places(self) -> list[Path]:
        """Where ILSVRC's list of WNIDs may lie."""
        root = self.data_root
        return [self.path, self.path.parent, *([root, root / "imagenet"] if root else [])]

    def _labels_of_folders(self) -> dict[str, str]:
        folders = {name: file.parent for name, file in self._pictures.files.items()}
        return {name: folder.name for name, folder in folders.items() if folder != self.path}

    def _labels_of_file(self, file: Path) -> dict[str, str]:
        rows = table(file, ("image", "label"))
        refuse_repeated((row[0] for row in rows), file)
        labels = {row[0]: row[1] for row in rows}
        return {name: labels[written] for name, written in self._pictures.meant(labels, file).items()}


def _foreground(file: Path, size: tuple[int, int]) -> Image.Image:
    """The mask in a file for a photograph of (width, height)."""
    image = picture(file)
    if image.size != size:
        raise BadData("mask of another size than its image", file, f"{image.size} against {size}")
    values = np.asarray(image if len(image.getbands()) == 1 else image.convert("RGB"))
    mask = (values != 0).reshape(*values.shape[:2], -1).any(2)
    return Image.fromarray(np.where((values == VOID) if image.mode == "P" else False, VOID, mask).astype(np.uint8))

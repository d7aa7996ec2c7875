"""Photographs with instances in the JSON files of COCO, and of others in its format."""

import json
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from rapbench.core.catalogue import nearest
from rapbench.core.errors import BadConfig, BadData, DataMissing, UnknownName, first_line
from rapbench.core.paths import TypedPath
from rapbench.core.types import VOID, Need, Sample
from rapbench.datasets.geometry import Box, Preprocess, view
from rapbench.datasets.lists import refuse_repeated
from rapbench.datasets.photographs import fingerprint, photograph

_LISTS = ("images", "annotations", "categories")


class _Instance(NamedTuple):
    """One object, or a crowd of them."""

    segmentation: Any
    box: Any
    category: Any
    crowd: bool


class _Photo(NamedTuple):
    """An image of the file with its (width, height), what counts in it, and the ids of all categories of the file."""

    file: Path
    size: tuple[int, int]
    instances: tuple[_Instance, ...]
    categories: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Coco:
    """The images of the file that show an object, in its order; an id is the file's name without suffix.

    The mask is the union of the objects, and what is marked as a crowd is void; boxes are the objects' own. Where a
    category is chosen, objects of others are background.

    Attributes:
        annotations: JSON file of instances, with polygons or run lengths.
        images: folder of the photographs.
        category: name or id of the one that counts; all by default.
        data_root: not used.
        size: side of the square images in pixels.
        preprocess: how a photograph becomes square.

    Source: Lin et al. 2014.
    """

    name: ClassVar[str] = "coco"
    label_space: ClassVar[str] = ""
    provides: ClassVar[frozenset[Need]] = frozenset({"boxes", "box_classes", "mask"})
    default_limit: ClassVar[int | None] = None
    full_size: ClassVar[int | None] = None

    annotations: TypedPath
    images: TypedPath
    category: str | None = None
    data_root: Path | None = None
    size: int = 224
    preprocess: Preprocess = "squash"

    def __post_init__(self) -> None:
        _codec()
        if not self._photos:
            raise DataMissing(f"{self.annotations} has no object{self._of_category} in any image")
        for name in (self.ids[0], self.ids[-1]):
            if not (file := self._photos[name].file).is_file():
                raise DataMissing(f"{self.annotations} is of {name}, but there is no {file}: images is their folder")

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.ids, (self.annotations, *(photo.file for photo in self._photos.values())))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._photos)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Photograph `index`.

        Raises:
            BadData: its file, or what is said of it, is unreadable or impossible.
        """
        name = self.ids[index]
        entry, where = self._photos[name], f"{self.annotations}, {name}"
        photo, note = photograph(entry.file)
        if photo.size != entry.size:
            raise BadData("mask of another size than its image", where, f"{entry.size} against {photo.size}")
        objects = [one for one in entry.instances if not one.crowd]
        boxes = [_edges(one.box, entry.size, where) for one in objects]
        seen = view(self.preprocess, photo.size, self.size)
        return Sample(
            id=name,
            image=seen.image(photo),
            boxes=seen.boxes(boxes, photo.size),
            box_classes=seen.classes(boxes, photo.size, [one.category for one in objects], entry.categories),
            mask=seen.mask(_mask(entry, where)),
            note=note,
        )

    @property
    def _of_category(self) -> str:
        return "" if self.category is None else f" of category {self.category}"

    @cached_property
    def _photos(self) -> dict[str, _Photo]:
        """Id -> image, of those that show an object."""
        held = _read(self.annotations)
        try:
            instances, known = self._instances(held), tuple(one["id"] for one in held["categories"])
            entries = [
                _Photo(
                    self.images / image["file_name"], (image["width"], image["height"]), instances[image["id"]], known
                )
                for image in held["images"]
                if not all(one.crowd for one in instances.get(image["id"], ()))
            ]
        except (KeyError, TypeError) as error:
            raise BadData("unreadable list", self.annotations, f"not COCO's instances: {error!r}") from error
        names = [PurePosixPath(entry.file.name).stem for entry in entries]
        refuse_repeated(names, self.annotations)
        return dict(zip(names, entries, strict=True))

    def _instances(self, held: dict[str, Any]) -> dict[Any, tuple[_Instance, ...]]:
        """Id of an image in the file -> its objects and crowds that count."""
        wanted, found = self._categories(held["categories"]), defaultdict(list)
        for one in held["annotations"]:
            if one["category_id"] in wanted:
                crowd = bool(one.get("iscrowd", 0))
                found[one["image_id"]].append(_Instance(one["segmentation"], one["bbox"], one["category_id"], crowd))
        return {image: tuple(some) for image, some in found.items()}

    def _categories(self, listed: Sequence[dict[str, Any]]) -> set[Any]:
        """Ids of the categories that count."""
        chosen = {one["id"] for one in listed if self.category in (None, one["name"], str(one["id"]))}
        if not chosen and self.category is not None:
            known = [one["name"] for one in listed]
            raise UnknownName(f"{self.annotations} has no category {self.category!r}: {nearest(self.category, known)}")
        return chosen


def _read(file: Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise DataMissing(f"no annotations {file}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadData("unreadable list", file, first_line(error)) from error
    if not isinstance(held, dict) or not all(isinstance(held.get(name), list) for name in _LISTS):
        raise BadData("unreadable list", file, f"not COCO's instances: lists of {', '.join(_LISTS)} are wanted")
    return held


def _edges(box: Sequence[float], size: tuple[int, int], where: str) -> Box:
    """The edges of a box (left, top, width, height), cut off where it leaves a photograph of (width, height)."""
    try:
        left, top, width, height = map(float, box)
    except (TypeError, ValueError) as error:
        raise BadData("box outside the image", where, f"not four numbers: {box}") from error
    if not (left < size[0] and top < size[1] and left + width > 0 and top + height > 0):
        raise BadData("box outside the image", where, f"{box} in {size[0]} x {size[1]} pixels")
    return max(left, 0), max(top, 0), min(left + width, size[0]), min(top + height, size[1])


def _mask(photo: _Photo, where: str) -> Image.Image:
    objects, crowds = (_union(photo, where, crowd=crowd) for crowd in (False, True))
    return Image.fromarray(np.where(crowds & ~objects, VOID, objects).astype(np.uint8))


def _union(photo: _Photo, where: str, *, crowd: bool) -> np.ndarray:
    """Which pixels (H, W) objects, or crowds, cover."""
    shape = photo.size[::-1]
    covered = np.zeros(shape, bool)
    for one in photo.instances:
        if one.crowd == crowd:
            covered |= _decoded(one.segmentation, shape, where)
    return covered


def _decoded(segmentation: Any, shape: tuple[int, int], where: str) -> np.ndarray:
    """Pixels (H, W) of polygons, or of run lengths as a list or compressed as a text."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "__array__", DeprecationWarning)  # pycocotools' with NumPy 2
            return _pixels(_run_lengths(segmentation, shape))
    except Exception as error:  # its own errors have no other class
        raise BadData("unreadable mask", where, first_line(error)) from error


def _pixels(runs: Any) -> np.ndarray:
    codec = _codec()
    pixels: np.ndarray = codec.decode(runs)
    if pixels.sum() != codec.area(runs):  # pixels that no run covers are whatever memory held
        raise ValueError("run lengths that do not fill the image")
    return pixels.astype(bool)


def _run_lengths(segmentation: Any, shape: tuple[int, int]) -> Any:
    """A segmentation as the compressed run lengths of pixels (H, W)."""
    codec = _codec()
    if isinstance(segmentation, list):
        return codec.merge(codec.frPyObjects([_polygon(one) for one in segmentation], *shape))
    if tuple(segmentation["size"]) != shape:
        raise ValueError(f"of size {segmentation['size']} in an image of {shape}")
    if isinstance(segmentation["counts"], str):
        return segmentation
    if sum(segmentation["counts"]) != shape[0] * shape[1]:
        raise ValueError("run lengths that do not fill the image")
    return codec.frPyObjects(segmentation, *shape)


def _polygon(points: list[float]) -> list[float]:
    if len(points) < 6 or len(points) % 2:
        raise ValueError(f"a polygon of {len(points)} coordinates")
    return points


def _codec() -> Any:
    """What reads COCO's run lengths and polygons.

    Raises:
        BadConfig: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise BadConfig('COCO\'s masks are read by pycocotools: pip install "rapbench[coco]"') from error
    return mask

"""ILSVRC2012 validation photographs with class labels and object boxes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from rapbench.core.errors import BadData, DataMissing
from rapbench.core.types import Need, Sample
from rapbench.datasets.annotations import Annotation, annotation, box_edges
from rapbench.datasets.geometry import Preprocess, view
from rapbench.datasets.imagenet_labels import (
    CLASSES,
    DEVKIT,
    MAPPING,
    STEM,
    Devkit,
    agreed,
    mapped_wnids,
    read_devkit,
    solution,
)
from rapbench.datasets.lists import refuse_repeated
from rapbench.datasets.photographs import fingerprint, photograph

_PHOTOS = ("val", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val", ".")
_XMLS = (
    *("bbox/val", "bbox", "ILSVRC2012_bbox_val_v3/val", "ILSVRC2012_bbox_val_v3"),
    *("ILSVRC/Annotations/CLS-LOC/val", "Annotations/CLS-LOC/val", "val", "."),
)
_CSV = "LOC_val_solution.csv"
_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True, kw_only=True)
class ImageNet:
    """The validation photographs found, ascending by file name; at most 50,000.

    A label is the rank of the photograph's WNID among all 1,000 in sorted order, as torchvision counts classes. The
    WNID is the photograph's folder, stands in LOC_val_solution.csv or follows from the development kit; those that are
    there must agree. Without all three, it names the first object of the photograph's XML file. Boxes are those of the
    objects that carry this WNID; their coordinates are edges counted from zero.

    Attributes:
        data_root: folder, or one that holds `imagenet`, with the photographs in it, in `val`, in `val/<WNID>` or in
            `ILSVRC/Data/CLS-LOC/val`, and with annotations and lists beside them; the lists and the development kit
            may also lie beside the folder.
        size: side of the square images in pixels.
        preprocess: how a photograph becomes square.
        boxes: where boxes come from: 'xml' files, whose coordinates are relative to the size they state; the 'csv',
            whose coordinates are relative to the photograph; or the first of these that is there.

    Source: Russakovsky et al. 2015; Nam et al. 2020, Section 4.1.
    """

    name: ClassVar[str] = "imagenet"
    label_space: ClassVar[str] = "imagenet"
    provides: ClassVar[frozenset[Need]] = frozenset({"boxes"})
    default_limit: ClassVar[int | None] = None
    full_size: ClassVar[int | None] = 50_000

    data_root: Path | None = None
    size: int = 224
    preprocess: Preprocess = "squash"
    boxes: Literal["auto", "xml", "csv"] = "auto"

    def __post_init__(self) -> None:
        _ = self._ranks
        if self.boxes == "xml" and not self._xmls:
            raise DataMissing(
                f"no {STEM}*.xml in {self._root} or its {_listed(_XMLS)}: unpack ILSVRC2012_bbox_val_v3.tgz into bbox"
            )
        if self.boxes == "csv" and not self._rows:
            raise DataMissing(f"no {_CSV} with lines in {self._root}: it comes with Kaggle's copy of ILSVRC")
        if not (self._xmls or any(self._labels.values())):
            raise DataMissing(
                f"no class labels in {self._root}: neither {DEVKIT} (unpack {DEVKIT}.tar.gz there), nor {_CSV}, "
                f"nor {STEM}*.xml in its {_listed(_XMLS)}, nor photographs in folders named after their WNID"
            )

    @cached_property
    def fingerprint(self) -> str:
        boxes = "xml" if self._xmls and self.boxes != "csv" else "csv"
        labels = [f"{source} {sorted(named.items())}" for source, named in self._labels.items()]
        rows = [f"{name} {row}" for name, row in sorted(self._rows.items())]
        xmls = [self._xmls / f"{name}.xml" for name in self.ids] if self._xmls else []
        told = (*self.ids, boxes, *labels, *rows, f"{sorted(self._ranks)}")
        return fingerprint(told, (*self._photos.values(), *xmls))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._photos)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Photograph `index`.

        Raises:
            BadData: a file is missing, unreadable or impossible.
        """
        name = self.ids[index]
        photo, note = photograph(self._photos[name])
        noted = self._annotation(name, photo.size)
        wnid = self._wnid(name, noted)
        boxes = noted.boxes(wnid) if wnid else []
        others = "boxes of other classes only" if noted.boxes() and not boxes else ""
        seen = view(self.preprocess, photo.size, self.size)
        return Sample(
            id=name,
            image=seen.image(photo),
            label=self._label(name, wnid),
            boxes=seen.boxes(boxes, noted.frame),
            note=note or noted.note or others,
        )

    @cached_property
    def _root(self) -> Path:
        if self.data_root is None:
            raise DataMissing("imagenet is read from disk: pass the folder above ILSVRC2012's val as --data-root")
        inner = self.data_root / "imagenet"
        return inner if inner.is_dir() else self.data_root

    @cached_property
    def _photos(self) -> dict[str, Path]:
        """Id -> file, ascending."""
        for folder in (self._root / name for name in _PHOTOS):
            files = [*folder.glob(f"{STEM}*.JPEG"), *folder.glob(f"n*/{STEM}*.JPEG")]
            if files:
                refuse_repeated((file.stem for file in files), folder)
                return {file.stem: file for file in sorted(files, key=lambda file: file.name)}
        raise DataMissing(
            f"no {STEM}*.JPEG in {self._root} or its {_listed(_PHOTOS)}, nor in folders n* of these: "
            "unpack ILSVRC2012_img_val.tar into val"
        )

    @cached_property
    def _xmls(self) -> Path | None:
        """The folder of XML files."""
        folders = (self._root / name for name in _XMLS)
        return next((folder for folder in folders if any(folder.glob(f"{STEM}*.xml"))), None)

    def _beside(self, name: str) -> Path:
        """A list or folder in the root or beside it."""
        beside = self._root.parent / name
        return beside if beside.exists() and not (self._root / name).exists() else self._root / name

    @cached_property
    def _rows(self) -> dict[str, list[str]]:
        """Id -> WNID, xmin, ymin, xmax, ymax, WNID, ... as the CSV file has them."""
        file = self._beside(_CSV)
        return solution(file) if file.is_file() else {}

    @cached_property
    def _labels(self) -> dict[str, dict[str, str]]:
        """Source -> id -> WNID."""
        folders = {name: file.parent.name for name, file in self._photos.items()}
        return {
            "its folder": {name: folder for name, folder in folders.items() if _WNID.fullmatch(folder)},
            _CSV: {name: row[0] for name, row in self._rows.items()},
            DEVKIT: self._devkit.labels,
        }

    @cached_property
    def _devkit(self) -> Devkit:
        folder = self._beside(DEVKIT)
        if not folder.is_dir():
            return Devkit(frozenset(), {})
        devkit = read_devkit(folder)
        beyond = next((name for name in self.ids if name not in devkit.labels), None)
        if beyond:
            count = len(devkit.labels)
            raise DataMissing(
                f"{folder} labels photographs 1 to {count}, but not {beyond}: unpack {DEVKIT}.tar.gz again"
            )
        return devkit

    @cached_property
    def _ranks(self) -> dict[str, int]:
        """WNID -> class index."""
        mapping = self._beside(MAPPING)
        listed = mapped_wnids(mapping) if mapping.is_file() else set()
        wnids = listed or self._devkit.wnids or set(self._labels["its folder"].values())
        if len(wnids) != CLASSES:
            raise DataMissing(
                f"a class index is the rank of a WNID among all {CLASSES}, but {mapping} and the photographs' "
                f"folders name {len(wnids)}: put {MAPPING} or {DEVKIT} there"
            )
        return {wnid: rank for rank, wnid in enumerate(sorted(wnids))}

    def _annotation(self, name: str, photo: tuple[int, int]) -> Annotation:
        """Objects of a photograph of (width, height); none where it has no annotation."""
        if self._xmls and self.boxes != "csv":
            xml = self._xmls / f"{name}.xml"
            return annotation(xml, first_pixel=0) if xml.exists() else Annotation(photo, ())
        row, where = self._rows.get(name, []), f"{self._beside(_CSV)}, line of {name}"
        groups = [row[start : start + 5] for start in range(0, len(row), 5)]
        return Annotation(photo, tuple((wnid, box_edges(sides, photo, where)) for wnid, *sides in groups))

    def _wnid(self, name: str, noted: Annotation) -> str | None:
        """The class of a photograph in WordNet; None where nothing says it."""
        said = {source: wnids[name] for source, wnids in self._labels.items() if name in wnids}
        return agreed(said, self._photos[name]) or (noted.objects[0][0] if noted.objects else None)

    def _label(self, name: str, wnid: str | None) -> int | None:
        if wnid is None:
            return None
        if wnid not in self._ranks:
            raise BadData("unknown class", self._photos[name], f"{wnid} is not among the {CLASSES} WNIDs")
        return self._ranks[wnid]


def _listed(folders: Iterable[str]) -> str:
    return ", ".join(folder for folder in folders if folder != ".")

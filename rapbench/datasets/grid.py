"""Grids of labelled photographs, each of another class: pictures in which it is known where a class is not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from rapbench.core.errors import DataMissing
from rapbench.core.paths import TypedPath
from rapbench.core.ranges import Seed
from rapbench.core.types import Need, Sample
from rapbench.datasets.folder import Folder
from rapbench.datasets.geometry import Preprocess


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Squares of n x n photographs of different classes, no photograph in two of them.

    Each photograph is as large as it would be alone, so that images are n times as wide as a network's usual input.
    The photographs of a folder are taken in an order drawn by a seed: into each grid in turn goes the next one of a
    class that it lacks, and there are as many grids as can be filled.

    Attributes:
        path: the folder; its sub-folders are classes of ImageNet, by WNID, name or index.
        labels: CSV file (image, label), in the place of sub-folders.
        data_root: folder, or one that holds `imagenet`, with the list of WNIDs, if it does not lie beside the pictures.
        size: side of one square photograph in pixels.
        preprocess: how a photograph becomes square.
        n: photographs across and down.
        seed: of the order.

    Source: Rao et al. 2022, GridPG.
    """

    name: ClassVar[str] = "grid"
    label_space: ClassVar[str] = "imagenet"
    provides: ClassVar[frozenset[Need]] = frozenset({"cells"})
    default_limit: ClassVar[int | None] = 500
    full_size: ClassVar[int | None] = None

    path: TypedPath
    labels: TypedPath | None = None
    data_root: Path | None = None
    size: int = 224
    preprocess: Preprocess = "crop"
    n: Annotated[int, Field(ge=2, le=8)] = 3
    seed: Seed = 1

    def __post_init__(self) -> None:
        if not self._members:
            raise DataMissing(
                f"no grid of {self.n**2} classes in {self.path}: its labelled pictures have "
                f"{len(set(self._photographs.classes.values()))}"
            )

    @cached_property
    def fingerprint(self) -> str:
        return self._photographs.fingerprint  # grids follow from it and the parameters

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"grid-{number:05d}" for number in range(len(self)))

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, index: int) -> Sample:
        """Grid `index`.

        Raises:
            BadData: a file is unreadable.
        """
        pictures = [self._photographs[place] for place in self._members[index]]
        rows = [torch.cat([p.image for p in pictures[at : at + self.n]], 2) for at in range(0, self.n**2, self.n)]
        return Sample(
            id=self.ids[index],
            image=torch.cat(rows, 1),
            cells=torch.tensor([picture.label for picture in pictures]).view(self.n, self.n),
            note=next((picture.note for picture in pictures if picture.note), ""),
        )

    @cached_property
    def _photographs(self) -> Folder:
        return Folder(
            path=self.path, labels=self.labels, data_root=self.data_root, size=self.size, preprocess=self.preprocess
        )

    @cached_property
    def _members(self) -> tuple[tuple[int, ...], ...]:
        """Of each grid, which photographs of the folder it consists of, row by row."""
        classes = self._photographs.classes
        labelled = {place: classes[name] for place, name in enumerate(self._photographs.ids) if name in classes}
        order = Random(self.seed).sample(sorted(labelled), len(labelled))  # noqa: S311 - no secret
        return tuple(groups({place: labelled[place] for place in order}, self.n**2))


def groups(classes: Mapping[int, int], count: int) -> Iterator[tuple[int, ...]]:
    """Groups of so many things of different classes, given thing -> class: the first that there are, each once."""
    left = dict(classes)
    while True:
        first: dict[int, int] = {}
        for thing, its_class in left.items():
            first.setdefault(its_class, thing)
            if len(first) == count:
                break
        if len(first) < count:
            return
        yield tuple(first.values())
        for thing in first.values():
            del left[thing]

"""Pictures as typed: a file, or an image of a data set."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_OF_A_DATASET = re.compile(r"(.+):(\d+)")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as networks see it.

    Attributes:
        name: as typed.
        id: the data set's name of it, as typed where it is a file: what it has drawn depends on this.
        image: (C, H, W) in [0, 1].
        label_space: whose classes it shows; empty where that is not known.
        note: what is unusual about its file.
        among: the ids of all images of its data set; empty where it is a file.
    """

    name: str
    id: str
    image: Tensor
    label_space: str = ""
    note: str = ""
    among: tuple[str, ...] = ()


def picture(text: str, *, size: int, data_root: Path | None) -> Picture:
    """The picture that `file.jpg` or `data set:index` names, as a square of `size` pixels.

    Raises:
        BadData: no such file, or not a picture.
        UnknownName: no such data set.
        BadConfig: the data set has no such index.
    """
    found = _of_a_dataset(text)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # damaged EXIF fields leave the pixels right
        return _of_dataset(text, found[1], int(found[2]), size, data_root) if found else _of_file(text, size)


def refuse_unknown(text: str) -> None:
    """Answers a wrong name of a data set before anything is imported that takes seconds.

    Raises:
        UnknownName: no such data set.
    """
    from rapbench.core.catalogue import parse_call
    from rapbench.datasets import DATASETS

    if found := _of_a_dataset(text):
        DATASETS.refuse_unknown(parse_call(found[1]).name)


def _of_a_dataset(text: str) -> re.Match[str] | None:
    """Data set and index, unless there is a file of that name."""
    return None if Path(text).expanduser().exists() else _OF_A_DATASET.fullmatch(text)


def _of_file(text: str, size: int) -> Picture:
    from rapbench.datasets.geometry import view
    from rapbench.datasets.photographs import photograph

    photo, note = photograph(Path(text).expanduser())
    return Picture(name=text, id=text, image=view("squash", photo.size, size).image(photo), note=note)


def _of_dataset(text: str, call: str, index: int, size: int, data_root: Path | None) -> Picture:
    from rapbench.core.errors import BadConfig
    from rapbench.run import resolve

    dataset = resolve.dataset(call, data_root, size)
    if index >= len(dataset):
        raise BadConfig(f"{text}: {call} holds images 0 to {len(dataset) - 1}")
    sample = dataset[index]
    return Picture(
        name=text,
        id=sample.id,
        image=sample.image,
        label_space=dataset.label_space,
        note=sample.note,
        among=dataset.ids,
    )

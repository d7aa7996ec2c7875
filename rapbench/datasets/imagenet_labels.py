"""Class labels of the ILSVRC2012 validation photographs, as the development kit and Kaggle's copy hold them."""

import csv
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from rapbench.core.errors import BadData, DataMissing, first_line
from rapbench.datasets.lists import lines, refuse_repeated

STEM = "ILSVRC2012_val_"
"""What names of photographs begin with; eight digits follow, counted from one."""
CLASSES = 1000
DEVKIT = "ILSVRC2012_devkit_t12"
MAPPING = "LOC_synset_mapping.txt"
"""Kaggle's list of the WNIDs, each with names."""

_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_META = "data/meta.mat"
_FIELDS = ("ILSVRC2012_ID", "WNID", "num_children")
_ARCHIVE = f"unpack {DEVKIT}.tar.gz there"
_READING = (OSError, ValueError, TypeError, LookupError, RuntimeError, EOFError, MemoryError, zlib.error, MatReadError)
"""What SciPy raises on files that are truncated, corrupt or of another version."""


def mapped_wnids(mapping: Path) -> set[str]:
    """The WNIDs in Kaggle's list."""
    return {line.split()[0] for line in lines(mapping) if line}


class Devkit(NamedTuple):
    """What the development kit says: the WNIDs of the 1,000 classes, and id -> WNID of the photographs."""

    wnids: frozenset[str]
    labels: dict[str, str]


def read_devkit(folder: Path) -> Devkit:
    """Line n of the ground truth is the ILSVRC2012_ID of photograph n, counted from one; meta.mat has the WNIDs.

    Raises:
        DataMissing: one of the two files is not there, or meta.mat does not hold the classes; the message lists what it
            holds.
        BadData: 'unreadable list', or 'impossible label' where a line is not one of 1..1000.
    """
    truth, meta = folder / _TRUTH, folder / _META
    for file in (truth, meta):
        if not file.is_file():
            raise DataMissing(f"no {file}: {_ARCHIVE}")
    wnids = _leaf_wnids(meta)
    labels = {
        f"{STEM}{number:08d}": wnids[_class(line, f"{truth}, line {number}")]
        for number, line in enumerate(lines(truth), start=1)
    }
    return Devkit(frozenset(wnids.values()), labels)


def solution(file: Path) -> dict[str, list[str]]:
    """Id -> WNID, xmin, ymin, xmax, ymax, WNID, ... as LOC_val_solution.csv has them.

    Raises:
        BadData: 'unreadable list' or 'image listed twice'.
    """
    try:
        rows = [row for row in csv.reader(lines(file)) if len(row) == 2 and row[1].split()]
    except csv.Error as error:
        raise BadData("unreadable list", file, str(error)) from error
    refuse_repeated((row[0] for row in rows), file)
    return {name: prediction.split() for name, prediction in rows}


def agreed(said: Mapping[str, str], where: object) -> str | None:
    """The WNID that all sources (name -> WNID) give one photograph; None where there is none.

    Raises:
        BadData: 'contradicting labels'; the message has them all.
    """
    if len(set(said.values())) > 1:
        raise BadData(
            "contradicting labels", where, ", ".join(f"{source} says {wnid}" for source, wnid in said.items())
        )
    return next(iter(said.values()), None)


def _leaf_wnids(file: Path) -> dict[int, str]:
    """ILSVRC2012_ID -> WNID of the synsets without children."""
    synsets = _synsets(file)
    leaves = synsets[synsets["num_children"] == 0]
    wnids = {int(number): str(wnid) for number, wnid in zip(leaves["ILSVRC2012_ID"], leaves["WNID"], strict=True)}
    if sorted(wnids) != list(range(1, CLASSES + 1)) or len(set(wnids.values())) != CLASSES:
        raise DataMissing(
            f"{file} holds {len(synsets)} synsets, {len(leaves)} of them without children, which are not the "
            f"{CLASSES} classes of ILSVRC2012 with the numbers 1 to {CLASSES}: {_ARCHIVE}"
        )
    return wnids


def _synsets(file: Path) -> np.ndarray:
    """The struct array of synsets, one record each."""
    try:
        held = {name: value for name, value in loadmat(file, squeeze_me=True).items() if not name.startswith("__")}
    except _READING as error:
        raise DataMissing(f"cannot read {file} as a MATLAB 5 file ({first_line(error)}): {_ARCHIVE}") from error
    synsets = np.atleast_1d(held.get("synsets", 0))
    if not set(_FIELDS) <= set(synsets.dtype.names or ()):
        told = "; ".join(f"{name} {_told(value)}" for name, value in held.items()) or "nothing"
        raise DataMissing(f"{file} holds {told}, but no struct array synsets of {', '.join(_FIELDS)}: {_ARCHIVE}")
    return synsets


def _told(value: object) -> str:
    array = np.asarray(value)
    return f"of {', '.join(array.dtype.names)}" if array.dtype.names else str(array.shape)


def _class(line: str, where: str) -> int:
    if not (line.isdecimal() and 1 <= int(line) <= CLASSES):
        raise BadData("impossible label", where, f"{line[:40]!r} is not one of 1 to {CLASSES}")
    return int(line)

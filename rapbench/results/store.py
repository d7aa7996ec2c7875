"""Rows on disk: one folder a cell, with its spec and a Parquet file a block, which appears whole or not at all.

The file's name ends in digits of its content's hash: one that was damaged, torn or half copied counts as missing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rapbench.core.errors import BadConfig, SpecMismatch
from rapbench.results.cell import Cell

Columns = Mapping[str, NDArray[Any]]


class Incident(NamedTuple):
    """An image that could not be read and has no row, or that has one but is unusual."""

    position: int
    id: str
    reason: str
    skipped: bool


@dataclass(frozen=True)
class Block:
    """Images `start` to `stop` (exclusive) of a run: what one file holds."""

    start: int
    stop: int

    @property
    def stem(self) -> str:
        """What its file's name begins with; the first digits of its content's hash follow."""
        return f"{self.start:07d}-{self.stop:07d}"


@dataclass(frozen=True)
class BlockFile:
    """A file with a block's rows that is whole.

    `origin` tells what computed it: versions of libraries, and the device.
    """

    block: Block
    path: Path
    origin: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Rows:
    """What the store holds of a cell: a row an image, and what happened while reading them."""

    frame: pd.DataFrame
    incidents: tuple[Incident, ...]

    def skipped(self) -> dict[str, int]:
        """How many images could not be read, by reason."""
        return dict(Counter(entry.reason for entry in self.incidents if entry.skipped))

    def noted(self) -> dict[str, int]:
        """How many images were used though they are unusual, by note."""
        return dict(Counter(entry.reason for entry in self.incidents if not entry.skipped))


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """A cell that a store holds; its rows are read when they are first looked at."""

    cell: Cell
    read: Callable[[], Rows]

    @cached_property
    def rows(self) -> Rows:
        """What the store holds of it."""
        return self.read()


class Store:
    """The results folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, cell: Cell) -> Path:
        """The folder of a cell, made with its spec if it is new.

        Raises:
            SpecMismatch: the folder holds the spec of another cell.
            BadConfig: the folder cannot be written.
        """
        folder = self.root / cell.folder
        path = folder / "spec.json"
        if not path.exists():
            write_whole(path, json.dumps(cell.document(), indent=2).encode())
        if _spec(path).identity.document() != cell.identity.document():
            raise SpecMismatch(f"{folder} holds another experiment; move it away or choose another --out")
        return folder

    def files(self, cell: Cell) -> dict[int, BlockFile]:
        """The whole files of a cell by the position they start at; of several, the longest."""
        return _files(self.root / cell.folder, "*")

    def has(self, cell: Cell, block: Block) -> bool:
        """Whether a block's rows are there and whole."""
        return covers(_files(self.root / cell.folder, f"{block.start:07d}-*"), block)

    def write(
        self, cell: Cell, block: Block, columns: Columns, incidents: list[Incident], origin: Mapping[str, str]
    ) -> None:
        """Writes one block's file; a column is (N,) or (N, L)."""
        arrays = {key: pa.array(list(a) if a.ndim > 1 else a) for key, a in columns.items()}
        notes = {"incidents": json.dumps(incidents), "origin": json.dumps(origin)}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(arrays).replace_schema_metadata(notes), sink)
        content = sink.getvalue().to_pybytes()
        write_whole(self.open(cell) / f"{block.stem}-{_digits(content)}.parquet", content)

    def rows(self, cell: Cell, blocks: list[Block]) -> Rows:
        """The rows of the given blocks, in order."""
        files = self.files(cell)
        return _read([(block, files[block.start].path) for block in blocks if covers(files, block)])

    def held(self) -> Iterator[Held]:
        """Every cell that the folder holds, ordered by name."""
        for path in sorted(self.root.glob("*/spec.json")):
            stops = [int(file.name.split("-")[1]) for file in path.parent.glob("*-*-*.parquet")]
            cell = _spec(path, limit=max(stops, default=0))
            yield Held(cell=cell, read=partial(self._all_rows, cell))

    def _all_rows(self, cell: Cell) -> Rows:
        """All rows that the folder holds of a cell, in order."""
        files = self.files(cell)
        return _read([(files[start].block, files[start].path) for start in sorted(files)])


def _spec(path: Path, limit: int = 0) -> Cell:
    try:
        return Cell.parse(json.loads(path.read_text()), limit)
    except (ValueError, KeyError, TypeError) as error:
        raise SpecMismatch(f"{path} is not a spec; move the folder away or choose another --out") from error


def _files(folder: Path, pattern: str) -> dict[int, BlockFile]:
    found: dict[int, BlockFile] = {}
    for path in sorted(folder.glob(f"{pattern}.parquet"), reverse=True):  # of one start, the longest comes first
        file = _whole(path)
        if file and file.block.start not in found:
            found[file.block.start] = file
    return found


def _whole(path: Path) -> BlockFile | None:
    """The block file at a path; None where its content is not what its name says."""
    try:
        start, stop, digits = path.stem.split("-")
        content = path.read_bytes()
        if _digits(content) != digits:
            return None
        notes = pq.read_schema(io.BytesIO(content)).metadata
        return BlockFile(Block(int(start), int(stop)), path, json.loads(notes[b"origin"]))
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None


def covers(files: Mapping[int, BlockFile], block: Block) -> bool:
    """Whether a block's rows are among the files of a cell by their start."""
    file = files.get(block.start)
    return file is not None and file.block.stop >= block.stop


def _digits(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _read(files: list[tuple[Block, Path]]) -> Rows:
    frames: list[pd.DataFrame] = []
    incidents: list[Incident] = []
    for block, path in files:
        table = pq.read_table(path)
        frame = table.to_pandas()
        if len(frame):
            frames.append(frame[frame["index"] < block.stop])
        recorded = (Incident(*entry) for entry in json.loads(table.schema.metadata[b"incidents"]))
        incidents.extend(entry for entry in recorded if entry.position < block.stop)
    return Rows(pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(), tuple(incidents))


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that it exists with all its content or not at all.

    Raises:
        BadConfig: it cannot be written.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}")  # nobody else's, wherever other writers run
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise BadConfig(
            f"cannot write {path}: {error.strerror}; what is done is kept, choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)

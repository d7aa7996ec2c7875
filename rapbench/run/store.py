"""Rows on disk: one folder a cell, with its spec and Parquet shards that appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rapbench.core.errors import BadConfig, SpecMismatch
from rapbench.run.spec import Cell

Columns = Mapping[str, NDArray[Any]]


class Incident(NamedTuple):
    """An image that could not be read and has no row, or that has one but is unusual."""

    position: int
    id: str
    reason: str
    skipped: bool


@dataclass(frozen=True)
class Block:
    """Images `start` to `stop` (exclusive) of a data set: what one shard holds."""

    start: int
    stop: int

    @property
    def file(self) -> str:
        """Name of the shard."""
        return f"{self.start:07d}-{self.stop:07d}.parquet"


@dataclass(frozen=True)
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
            write_whole(path, json.dumps({"identity": cell.identity, "display": cell.display}, indent=2).encode())
        try:
            held = json.loads(path.read_text())["identity"]
        except (ValueError, KeyError, TypeError) as error:
            raise SpecMismatch(f"{path} is not a spec; move the folder away or choose another --out") from error
        if held != json.loads(json.dumps(cell.identity)):
            raise SpecMismatch(f"{folder} holds another experiment; move it away or choose another --out")
        return folder

    def has(self, cell: Cell, block: Block) -> bool:
        """Whether a block's rows are there and readable."""
        return self._shard(self.root / cell.folder, block) is not None

    def write(self, cell: Cell, block: Block, columns: Columns, incidents: list[Incident]) -> None:
        """Writes one shard; a column is (N,) or (N, L)."""
        arrays = {key: pa.array(list(a) if a.ndim > 1 else a) for key, a in columns.items()}
        table = pa.table(arrays).replace_schema_metadata({"incidents": json.dumps(incidents)})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        write_whole(self.open(cell) / block.file, sink.getvalue().to_pybytes())

    def rows(self, cell: Cell, blocks: list[Block]) -> Rows:
        """The rows of the given blocks, in the data set's order."""
        folder = self.root / cell.folder
        return _read([(b, path) for b in blocks if (path := self._shard(folder, b))])

    def cells(self) -> Iterator[Cell]:
        """Every cell that the folder holds, ordered by name."""
        for path in sorted(self.root.glob("*/spec.json")):
            spec = json.loads(path.read_text())
            stops = [int(file.stem.split("-")[1]) for file in path.parent.glob("*.parquet")]
            yield Cell(identity=spec["identity"], display=spec["display"], limit=max(stops, default=0))

    def held(self, cell: Cell) -> Rows:
        """All rows that the folder holds of a cell, in the data set's order."""
        shards = {}
        for file in sorted((self.root / cell.folder).glob("*.parquet")):
            start, stop = (int(n) for n in file.stem.split("-"))
            shards[start] = (Block(start, stop), file)  # of two with one start, the longer sorts last
        return _read([shards[start] for start in sorted(shards)])

    def _shard(self, folder: Path, block: Block) -> Path | None:
        """The shard that holds a block: its own, or a longer one with the same start."""
        for path in (folder / block.file, *sorted(folder.glob(f"{block.start:07d}-*.parquet"))):
            if path.exists() and int(path.stem.split("-")[1]) >= block.stop and _readable(path):
                return path
        return None


def _readable(path: Path) -> bool:
    try:
        pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return False
    return True


def _read(shards: list[tuple[Block, Path]]) -> Rows:
    frames: list[pd.DataFrame] = []
    incidents: list[Incident] = []
    for block, path in shards:
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
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

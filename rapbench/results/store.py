"""Rows on disk: one folder a cell, with its spec and a Parquet file a block, which appears whole or not at all.

The file's name ends in digits of its content's hash, and the file tells whose rows it holds and of which images: one
that was damaged, torn, half copied or put into another's place counts as missing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rapbench.core.errors import SpecMismatch
from rapbench.core.writing import write_whole
from rapbench.results.cell import Cell
from rapbench.results.exported import results_folder
from rapbench.results.seal import sealed, unsealed

Columns = Mapping[str, NDArray[Any]]
_LOG = logging.getLogger(__name__)
_READERS = 2
"""Threads that read the files of a cell."""
_NAME = re.compile(r"(\d{7,18})-(\d{7,18})-([0-9a-f]{8})")
_READING = (OSError, ValueError, TypeError, LookupError, RecursionError, AttributeError, pa.ArrowException)
"""What is raised on files that are gone, torn, or hold something else."""


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

    Attributes:
        block: the images whose rows it holds.
        path: where it is.
        origin: what computed it: versions of code and libraries, and the device.
        incidents: what happened while its images were read.
    """

    block: Block
    path: Path
    origin: Mapping[str, str]
    incidents: tuple[Incident, ...]

    @property
    def skipped(self) -> frozenset[int]:
        """Positions of images that could not be read."""
        return frozenset(incident.position for incident in self.incidents if incident.skipped)


@dataclass(frozen=True, eq=False)
class Rows:
    """What the store holds of a cell: a row an image, what happened while reading, what computed them, their files."""

    frame: pd.DataFrame
    incidents: tuple[Incident, ...]
    origins: tuple[Mapping[str, str], ...] = ()
    files: tuple[Path, ...] = ()

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
        self._tried: set[Path] = set()
        self._aside: set[Path] = set()
        self._damaged: set[Path] = set()
        self._foreign: set[Path] = set()

    def open(self, cell: Cell) -> Path:
        """The folder of a cell, with its spec, which is written where it is new, damaged, or asks for fewer images.

        Raises:
            BadConfig: the folder cannot be written.
        """
        folder = self.root / cell.folder
        path = folder / "spec.json"
        held = _spec(path)
        if held is None or held.limit < cell.limit:
            write_whole(path, spec(cell))
        return folder

    def files(
        self, cell: Cell, ids: Sequence[str] | None = None, readable: Callable[[int], bool] = lambda _: False
    ) -> dict[int, BlockFile]:
        """The whole files of a cell by the position they start at; of several, the longest.

        A file that lacks an image at a position that is readable now is set aside: it counts as missing until its block
        is written again. Each file is asked about once.

        Args:
            cell: whose files.
            ids: of the images by position; a file with others counts as damaged.
            readable: whether the image at a position can be read.
        """
        opened = self.opened(cell, columns=["index", "id"])
        for path in [o.file.path for o in opened.values() if ids is not None and not o.is_of(ids)]:
            self._tell(path)
        found = {start: o.file for start, o in opened.items() if o.file.path not in self._damaged}
        new = {start: file for start, file in found.items() if file.skipped and file.path not in self._tried}
        again = {start: file.path for start, file in new.items() if any(map(readable, file.skipped))}
        self._tried.update(file.path for file in new.values())
        self._aside.update(again.values())
        return {start: file for start, file in found.items() if start not in again}

    def found(self, cell: Cell, block: Block) -> BlockFile | None:
        """The whole file that holds a block's rows, None where there is none."""
        opened = self.opened(cell, f"{block.start:07d}-*", ["index"]).get(block.start)
        return opened.file if opened and opened.file.block.stop >= block.stop else None

    def write(
        self, cell: Cell, block: Block, columns: Columns, incidents: list[Incident], origin: Mapping[str, str]
    ) -> None:
        """Writes one block's file; a column is (N,) or (N, L)."""
        arrays = {key: pa.array(list(a) if a.ndim > 1 else a) for key, a in columns.items()}
        notes = {"cell": cell.key, "incidents": json.dumps(incidents), "origin": json.dumps(origin)}
        sink = pa.BufferOutputStream()
        table = pa.table(arrays).replace_schema_metadata(notes)
        pq.write_table(table, sink, use_dictionary=False, write_statistics=False)  # nobody looks at them
        content = sink.getvalue().to_pybytes()
        path = self.open(cell) / f"{block.stem}-{_digits(content)}.parquet"
        write_whole(path, content)
        self._replace(path, block)

    def rows(self, cell: Cell, blocks: list[Block]) -> Rows:
        """The rows of the given blocks, in order."""
        stops, opened = {block.start: block.stop for block in blocks}, self.opened(cell)
        return _rows(
            [o.head(stops[start]) for start, o in opened.items() if start in stops and o.reaches(stops[start])]
        )

    def held(self) -> Iterator[Held]:
        """Every cell that the folder holds, ordered by name; folders that cannot be told are named and left out."""
        for path in sorted(self.root.glob("*/spec.json")):
            cell = _spec(path)
            if cell is None or cell.folder != path.parent.name:
                self._foreign.add(path)
                _LOG.warning("left out: %s is damaged or another's; the run that wrote it restores it", path)
                continue
            yield Held(cell=cell, read=partial(self._all_rows, cell))

    def _all_rows(self, cell: Cell) -> Rows:
        """All rows that the folder holds of a cell, in order."""
        return _rows(list(self.opened(cell).values()))

    @property
    def left_out(self) -> list[Path]:
        """Files that were read, and left out as damaged or another's."""
        return sorted(self._damaged | self._foreign)

    def __str__(self) -> str:
        return str(self.root)

    def opened(self, cell: Cell, pattern: str = "*", columns: Sequence[str] | None = None) -> dict[int, Opened]:
        """The whole files of a cell by the position they start at, in order; of several, the best."""
        paths = sorted(set((self.root / cell.folder).glob(f"{pattern}.parquet")) - self._aside - self._damaged)
        found = dict(zip(paths, _all_opened(paths, cell, columns), strict=True))
        for path in (path for path, opened in found.items() if opened is None):
            self._tell(path)
        return _best(filter(None, found.values()))

    def _tell(self, path: Path) -> None:
        """Names a damaged file, once; one that another worker has removed meanwhile is none."""
        if path.exists():
            _LOG.warning("left out: %s is damaged, or its rows are another's; they count as missing", path)
            self._damaged.add(path)

    def _replace(self, path: Path, block: Block) -> None:
        """Removes what a block's new file stands for: what was damaged from its start on, and itself set aside."""
        damaged = {p for p in self._damaged if p.name.startswith(f"{block.start:07d}-")}
        aside = {p for p in self._aside if p.name.startswith(block.stem)}
        old = {p for p in damaged | aside if p.parent == path.parent}
        self._aside -= old
        self._damaged -= old
        for one in old - {path}:
            one.unlink(missing_ok=True)


class Folder(Protocol):
    """What stored cells are read from."""

    @property
    def root(self) -> Path:
        """Where a run would write what is missing."""

    @property
    def left_out(self) -> list[Path]:
        """Files that were read, and left out as damaged or another's."""

    def held(self) -> Iterator[Held]: ...


class Folders:
    """Several results folders, exported ones among them, read as one; a run would write to the first."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.root = roots[0]
        self._stores = [Store(results_folder(root)) for root in roots]

    def held(self) -> Iterator[Held]:
        """Every cell that any of them holds, in the order of the folders; what two hold of one is read together."""
        found: dict[Cell, list[tuple[Store, int]]] = {}
        for store in self._stores:
            for one in store.held():
                found.setdefault(one.cell, []).append((store, one.cell.limit))
        for cell, places in found.items():
            stores, limits = zip(*places, strict=True)
            yield Held(cell=replace(cell, limit=max(limits)), read=partial(_joined_rows, cell, stores))

    @property
    def left_out(self) -> list[Path]:
        """Files that were read, and left out as damaged or another's."""
        return [path for store in self._stores for path in store.left_out]

    def __str__(self) -> str:
        return " and ".join(map(str, self._stores))


def _joined_rows(cell: Cell, stores: Sequence[Store]) -> Rows:
    """All rows that several folders hold of a cell, in order; of two files with the same start, the better."""
    opened = (one for store in stores for one in store.opened(cell).values())
    return _rows(list(_best(opened).values()))


def covers(files: Mapping[int, BlockFile], block: Block) -> bool:
    """Whether a block's rows are among the files of a cell by their start."""
    file = files.get(block.start)
    return file is not None and file.block.stop >= block.stop


class Opened(NamedTuple):
    """A block file with its columns."""

    file: BlockFile
    table: pa.Table

    @property
    def worth(self) -> tuple[int, int]:
        """Of two files with the same start, the one that reaches further is taken, or lacks fewer images."""
        return self.file.block.stop, -len(self.file.skipped)

    def is_of(self, ids: Sequence[str]) -> bool:
        """Whether its images are those that have these ids by position, as far as there are some."""
        there = dict(
            zip(self.table["index"].to_pylist(), self.table["id"].to_pylist(), strict=True) if len(self.table) else ()
        )
        held = there | {incident.position: incident.id for incident in self.file.incidents}
        return all(held[position] == ids[position] for position in held.keys() & range(len(ids)))

    def reaches(self, stop: int) -> bool:
        """Whether it holds all positions before `stop`."""
        return self.file.block.stop >= stop

    def head(self, stop: int) -> Opened:
        """What it holds of positions before `stop`."""
        kept = tuple(incident for incident in self.file.incidents if incident.position < stop)
        table = self.table.filter(pc.field("index") < stop) if self.table.num_columns else self.table
        return Opened(replace(self.file, incidents=kept), table)


def _best(opened: Iterable[Opened]) -> dict[int, Opened]:
    """Files by the position they start at, in order; of several, the best."""
    found: dict[int, Opened] = {}
    for one in opened:
        start = one.file.block.start
        if start not in found or one.worth > found[start].worth:
            found[start] = one
    return dict(sorted(found.items()))


def spec(cell: Cell) -> bytes:
    """What `spec.json` in a cell's folder holds."""
    return sealed({**cell.document(), "images": cell.limit})


def _spec(path: Path) -> Cell | None:
    """The cell of a spec, with as many images as it is to have; None where it is not as it was written."""
    held = unsealed(path)
    return Cell.parse(held, held["images"]) if held else None


def _all_opened(paths: Sequence[Path], cell: Cell, columns: Sequence[str] | None) -> list[Opened | None]:
    """Each file of a cell; where there are several, one is unpacked while the next is read."""
    opened = partial(_opened, cell=cell, columns=columns)
    if len(paths) < _READERS:
        return [*map(opened, paths)]
    with ThreadPoolExecutor(_READERS) as pool:
        return [*pool.map(opened, paths)]


def _opened(path: Path, cell: Cell, columns: Sequence[str] | None) -> Opened | None:
    """A cell's file with some columns, or all; None where it is not what its name, its folder and its notes say."""
    try:
        name, content = _NAME.fullmatch(path.stem), path.read_bytes()
        if not name or name[3] != _digits(content):
            return None
        stored = pq.ParquetFile(pa.BufferReader(content))
        schema, block = stored.schema_arrow, Block(int(name[1]), int(name[2]))
        notes = {key.decode(): value.decode() for key, value in schema.metadata.items()}
        incidents = tuple(Incident(*entry) for entry in json.loads(notes["incidents"]))
        file = BlockFile(block, path, json.loads(notes["origin"]), incidents)
        opened = Opened(file, stored.read(columns, use_threads=False))
        of_cell = notes["cell"] == cell.key and (cell.is_study or all(map(_is_numeric, schema)))
        return opened if of_cell and _is_whole(opened) else None
    except _READING:
        return None


_LIST = pa.list_(pa.int64()).id
_WIDTHS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
_NUMBERS = {kind.id for kind in (pa.bool_(), *_WIDTHS, pa.float16(), pa.float32(), pa.float64())}


def _is_whole(opened: Opened) -> bool:
    """Whether every position of a block has rows, or could not be read."""
    block, table = opened.file.block, opened.table
    there = table["index"].to_pylist() if table.num_columns else []
    return {*there} == {*range(block.start, block.stop)} - opened.file.skipped


def _is_numeric(column: pa.Field) -> bool:
    """Whether a column holds numbers, or vectors of them; ids are text."""
    kind = column.type
    return column.name == "id" or (kind.value_type if kind.id == _LIST else kind).id in _NUMBERS


def _digits(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _rows(opened: Sequence[Opened]) -> Rows:
    tables = [one.table.replace_schema_metadata(None) for one in opened if one.table.num_columns]
    try:
        frame = pa.concat_tables(tables).to_pandas() if tables else pd.DataFrame()
    except pa.ArrowException as error:
        folder = opened[0].file.path.parent
        raise SpecMismatch(f"the files in {folder} hold different columns; move it away, and run again") from error
    origins = {json.dumps(one.file.origin, sort_keys=True): one.file.origin for one in opened}
    incidents = tuple(entry for one in opened for entry in one.file.incidents)
    return Rows(frame, incidents, tuple(origins.values()), tuple(one.file.path for one in opened))

"""What a results folder holds is what was written there, and nothing else that lies in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stored import cell

from rapbench.results.cell import Cell
from rapbench.results.store import Block, Folders, Incident, Store

FIRST, SECOND = Block(0, 4), Block(4, 8)
OWN, OTHER = replace(cell("rap"), limit=8), replace(cell("gradient"), limit=8)


def write(store: Store, own: Cell, block: Block, *, missing: tuple[int, ...] = (), first: float = 0.0) -> Path:
    """Writes rows whose score is the position; gives the file."""
    there = np.array([position for position in range(block.start, block.stop) if position not in missing])
    columns = {"index": there, "id": there.astype(str), "score": there + first, "curve": np.ones((len(there), 2))}
    incidents = [Incident(position, str(position), "missing image", skipped=True) for position in missing]
    before = {*(store.root / own.folder).glob("*.parquet")}
    store.write(own, block, columns if len(there) else {}, incidents, {"torch": "1"})
    (file,) = {*(store.root / own.folder).glob("*.parquet")} - before
    return file


def rewritten(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Puts a changed table in a file's place, under the digits that belong to it."""
    from hashlib import sha256

    table = change(pq.read_table(file))
    file.unlink()
    pq.write_table(table, file)
    file.rename(file.with_name(f"{file.stem[:-8]}{sha256(file.read_bytes()).hexdigest()[:8]}.parquet"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def scores(store: Store, own: Cell = OWN) -> list[float]:
    (held,) = [one for one in store.held() if one.cell == own]
    return [] if held.rows.frame.empty else held.rows.frame["score"].to_list()


def test_rows_come_back_in_the_order_of_positions(store: Store) -> None:
    write(store, OWN, SECOND, missing=(5,))
    write(store, OWN, FIRST)
    assert scores(store) == [0, 1, 2, 3, 4, 6, 7]
    part = store.rows(OWN, [FIRST, Block(4, 6)])
    assert part.frame["score"].to_list() == [0, 1, 2, 3, 4]
    assert part.skipped() == {"missing image": 1}
    assert [entry.position for entry in store.rows(OWN, [Block(4, 5)]).incidents] == []


def test_of_two_files_with_one_start_the_longer_is_taken(store: Store) -> None:
    for first in range(4):  # whichever digits come first
        write(store, OWN, Block(0, 8), first=10 + first)
        write(store, OWN, Block(0, 4), first=first)
    assert len(scores(store)) == 8


def test_of_two_files_of_one_block_the_one_that_lacks_fewer_images_is_taken(store: Store) -> None:
    for missing in [(1, 2), (), (0, 1), (3,)]:
        write(store, OWN, FIRST, missing=missing)
    assert scores(store) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.slice(0, 2).replace_schema_metadata(table.schema.metadata),
        lambda table: table.set_column(0, "index", pa.array([0, 1, 2, 9])),
        lambda table: table.set_column(2, "score", pa.array(["a", "b", "c", "d"])),
        lambda table: table.replace_schema_metadata(None),
        lambda table: table.replace_schema_metadata({**table.schema.metadata, b"incidents": b"[[1]]"}),
        lambda table: table.replace_schema_metadata({**table.schema.metadata, b"origin": b"[" * 100_000}),
        lambda table: table.drop_columns(["index"]),
    ],
    ids=["half of its rows", "a position of another block", "text", "no notes", "bad notes", "deep notes", "no index"],
)
def test_rows_that_are_not_what_was_written_count_as_missing(
    store: Store, change: Callable[[pa.Table], pa.Table], caplog: pytest.LogCaptureFixture
) -> None:
    file = write(store, OWN, FIRST)
    write(store, OWN, SECOND)
    rewritten(file, change)
    assert scores(store) == [4, 5, 6, 7]
    assert store.found(OWN, FIRST) is None
    assert [record.message for record in caplog.records] == [caplog.records[0].message], "said once"
    assert FIRST.stem in caplog.records[0].message
    write(store, OWN, FIRST)
    assert scores(Store(store.root)) == [*range(8)]


def test_a_file_copied_under_another_block_or_method_counts_as_missing(store: Store) -> None:
    file = write(store, OWN, FIRST)
    write(store, OTHER, SECOND)
    digits = file.stem[-8:]
    shutil.copy(file, file.with_name(f"{SECOND.stem}-{digits}.parquet"))
    shutil.copy(file, store.root / OTHER.folder / file.name)
    assert scores(store) == [0, 1, 2, 3]
    assert scores(store, OTHER) == [4, 5, 6, 7]


@pytest.mark.parametrize("name", ["a-b-c.parquet", "0-4-12345678.parquet", "--.parquet", f"{'9' * 30}-1-ab.parquet"])
def test_a_stray_file_is_named_and_left_out(store: Store, name: str, caplog: pytest.LogCaptureFixture) -> None:
    file = write(store, OWN, FIRST)
    shutil.copy(file, file.with_name(name))
    file.with_name("b-c-d.parquet").mkdir()
    assert scores(store) == [0, 1, 2, 3]
    assert any(name in record.message for record in caplog.records)


def test_a_folder_whose_spec_is_damaged_edited_or_anothers_is_named_and_left_out(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    write(store, OWN, FIRST)
    write(store, OTHER, FIRST)
    (store.root / OWN.folder).rename(store.root / "renamed")
    shutil.copytree(store.root / OTHER.folder, store.root / "copied")
    (store.root / "empty").mkdir()
    (store.root / "empty" / "spec.json").touch()
    label = store.root / "label"
    shutil.copytree(store.root / OTHER.folder, label)
    (label / "spec.json").write_text((label / "spec.json").read_text().replace('"gradient"', '"rap"'))
    assert [held.cell for held in store.held()] == [OTHER]
    said = [record.message for record in caplog.records]
    assert [next(name for name in ("copied", "empty", "label", "renamed") if name in line) for line in said] == [
        *("copied", "empty", "label", "renamed")
    ]


def test_an_edited_label_is_no_name_for_the_rows(store: Store) -> None:
    write(store, OWN, FIRST)
    spec = store.root / OWN.folder / "spec.json"
    content = json.loads(spec.read_text())
    content["labels"]["method"] = "gradient"
    spec.write_text(json.dumps(content))
    assert list(store.held()) == []
    store.open(OWN)
    assert [held.cell.method for held in store.held()] == ["rap"]


def test_a_folder_tells_how_many_images_its_run_asked_for(store: Store) -> None:
    write(store, OWN, FIRST)
    write(store, replace(OWN, limit=4), FIRST, first=1)
    (held,) = store.held()
    assert held.cell.limit == 8
    write(store, replace(OWN, limit=20), SECOND)
    (held,) = store.held()
    assert held.cell.limit == 20
    stray = next((store.root / OWN.folder).glob("*.parquet"))
    shutil.copy(stray, stray.with_name(f"0000000-9999999{stray.name[-17:]}"))
    (held,) = store.held()
    assert held.cell.limit == 20


def test_rows_tell_what_computed_them(store: Store) -> None:
    write(store, OWN, FIRST)
    columns = {"index": np.arange(4, 8), "id": np.arange(4, 8).astype(str), "score": np.ones(4)}
    store.write(OWN, SECOND, columns | {"curve": np.ones((4, 2))}, [], {"torch": "2"})
    (held,) = store.held()
    assert held.rows.origins == ({"torch": "1"}, {"torch": "2"})


def test_nothing_is_said_of_a_folder_that_is_whole(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    write(store, OWN, FIRST)
    assert scores(store) == [0, 1, 2, 3]
    assert not caplog.records


def test_several_folders_are_read_as_one(tmp_path: Path) -> None:
    one, other = Store(tmp_path / "one"), Store(tmp_path / "other")
    write(one, replace(OWN, limit=4), FIRST, missing=(2,))
    write(other, OWN, FIRST)  # lacks no image
    write(other, OWN, SECOND)
    write(one, OTHER, FIRST)
    held = {own.cell: own for own in Folders([one.root, other.root]).held()}
    assert list(held) == [OTHER, OWN]
    assert held[OWN].rows.frame["score"].to_list() == [*range(8)]
    assert {own.limit for own in held} == {8}
    assert held[OTHER].rows.frame["score"].to_list() == [*range(4)]
    assert str(Folders([Path("a"), Path("b")])) == "a and b"


def test_what_was_left_out_is_told(store: Store) -> None:
    file = write(store, OWN, FIRST)
    write(store, OTHER, FIRST)
    spec = store.root / OTHER.folder / "spec.json"
    assert not store.left_out
    file.write_bytes(file.read_bytes()[:-1])
    spec.write_text("{")
    for folder in (store, Folders([store.root])):
        for one in folder.held():
            assert one.rows.frame.empty
        assert folder.left_out == sorted([file, spec])

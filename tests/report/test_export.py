"""Exported rows: what was stored, in files that say what they hold and are the same bytes again."""

from __future__ import annotations

import csv
import hashlib
import inspect
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from stored import cell, held, masks, ratios

from rapbench.core.writing import write_whole
from rapbench.metrics import METRICS
from rapbench.report.export import COLUMNS, LICENCE, files, shelves
from rapbench.report.formats import TableForm
from rapbench.results.exported import SUMS
from rapbench.results.store import Block, Folders, Held, Incident, Store

COUNTS = [[6, 2, 1, 7], [1, 2, 3, 4]]


def stored() -> list[Held]:
    return [
        held(cell("random"), ratios([3.0, 4.0])),
        held(cell("rap"), ratios([0.5, float("nan")]), {"unreadable image": 1}),
        held(cell("rap", metric="segmentation"), masks(zero=COUNTS)),
        held(cell("rap", seed=1), ratios([7.0])),
    ]


def written(form: TableForm = TableForm.PARQUET, some: list[Held] | None = None) -> dict[str, bytes]:
    return dict(files(shelves(some or stored()), form, version="1"))


def frames(found: dict[str, bytes]) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(io.BytesIO(some)) for name, some in found.items() if name.endswith(".parquet")}


def test_a_file_holds_the_rows_of_all_methods_that_may_stand_in_one_table() -> None:
    found = frames(written())
    assert sorted(name.split(".")[2] for name in found) == ["outside_inside", "outside_inside", "segmentation"]
    (both,) = [frame for frame in found.values() if set(frame["method"]) == {"rap", "random"}]
    assert both["method"].tolist() == ["rap", "rap", "random", "random"]
    assert both["key"].tolist() == [cell("rap").key] * 2 + [cell("random").key] * 2
    assert list(both)[:6] == list(COLUMNS)
    np.testing.assert_array_equal(both["positive_outside"], [0.5, np.nan, 3, 4])


def test_vectors_stay_vectors() -> None:
    (frame,) = [frame for name, frame in frames(written()).items() if ".segmentation." in name]
    assert [list(counts) for counts in frame["counts_zero"]] == [[*row, 0, 0] for row in COUNTS]


def test_the_order_of_cells_does_not_change_a_byte() -> None:
    for form in TableForm:
        assert written(form) == written(form, stored()[::-1]) == written(form)


def test_a_file_has_the_same_name_whatever_methods_it_holds() -> None:
    every = {shelf.stem for shelf in shelves(stored())}
    alone = {shelf.stem for one in stored() for shelf in shelves([one])}
    assert alone == every
    assert all("method" not in shelf.setting for shelf in shelves(stored()))


def test_checksums_name_every_other_file_and_are_its_hash() -> None:
    found = written()
    lines = [line.split("  ") for line in found[SUMS].decode().splitlines()]
    assert {name for _, name in lines} == set(found) - {SUMS}
    assert all(hashlib.sha256(found[name]).hexdigest() == digest for digest, name in lines)


def test_the_spec_tells_each_file_s_setting_columns_and_methods() -> None:
    found = written()
    spec = json.loads(found["spec.json"])
    assert set(spec["files"]) == set(frames(found))
    for name, frame in frames(found).items():
        told = spec["files"][name]
        assert list(told["columns"]) == list(frame)
        assert set(told["methods"]) == set(frame["method"])
        assert told["setting"]["metric"]["name"] == name.split(".")[2]
    (both,) = [told for told in spec["files"].values() if len(told["methods"]) == 2]
    assert both["methods"]["random"]["control"]
    assert [entry["reason"] for entry in both["methods"]["rap"]["incidents"]] == ["unreadable image"]


@pytest.mark.parametrize("form", TableForm)
def test_the_readme_names_every_file_and_column_and_whose_the_images_are(form: TableForm) -> None:
    found = written(form)
    readme = found["README.md"].decode()
    assert LICENCE in readme
    assert all(f"### {name}" in readme for name in found if name.endswith(f".{form}"))
    columns = {column for frame in frames(written()).values() for column in frame}
    assert all(f"`{column}`" in readme for column in columns)


def test_the_readme_holds_what_a_metric_says_of_itself_and_its_columns() -> None:
    metric, readme = METRICS.load("segmentation"), written()["README.md"].decode()
    for said in (inspect.getdoc(metric), inspect.getdoc(metric.__call__)):
        assert said
        assert said in readme


def test_csv_holds_the_same_numbers() -> None:
    tables, texts = frames(written()), written(TableForm.CSV)
    for name, frame in tables.items():
        rows = list(csv.DictReader(io.StringIO(texts[name.replace(".parquet", ".csv")].decode())))
        assert list(rows[0]) == list(frame)
        for column in frame:
            kept = [row[column] for row in rows]
            if column.startswith("counts"):
                assert [json.loads(text) for text in kept] == [list(v) for v in frame[column]]
            elif frame[column].dtype.kind in "fi":
                np.testing.assert_array_equal([float(text) if text else np.nan for text in kept], frame[column])
            else:
                assert kept == frame[column].tolist()


@pytest.mark.parametrize("begin", ["=", "+", "-", "@"])
def test_an_id_is_no_formula_in_a_spreadsheet_and_negative_numbers_stay_numbers(begin: str) -> None:
    frame = ratios([-2.5, 1.0]).assign(id=[f'{begin}HYPERLINK("x")', "b"])
    found = written(TableForm.CSV, [held(cell("rap"), frame)])
    (text,) = [some.decode() for name, some in found.items() if name.endswith(".csv")]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["id"] == f'\'{begin}HYPERLINK("x")'
    assert rows[0]["positive_outside"] == "-2.5"


def test_a_column_that_one_method_lacks_is_empty_there() -> None:
    more = held(cell("gradient"), ratios([1.0]).assign(extra=2.0))
    found = written(TableForm.CSV, [more, held(cell("rap"), ratios([1.0]))])
    (text,) = [some.decode() for name, some in found.items() if name.endswith(".csv")]
    assert {row["method"]: row["extra"] for row in csv.DictReader(io.StringIO(text))} == {"gradient": "2.0", "rap": ""}


@pytest.mark.parametrize("chosen", [{"method": "maps(path=/home/me/maps.npy)", "digest": "ab"}])
def test_folders_of_files_are_not_told(chosen: dict[str, Any]) -> None:
    own = replace(cell("rap", digest=chosen["digest"]), method=chosen["method"], dataset="folder(path=/home/me/birds)")
    found = written(TableForm.PARQUET, [held(own, ratios([1.0]))])
    assert all(b"/home/me" not in some for some in found.values())
    assert b"maps(path=maps.npy)" in found["spec.json"]


def test_an_exported_cell_is_the_stored_one_without_its_folders(tmp_path: Path) -> None:
    named = {"method": "maps(path=/home/me/maps.npy)", "dataset": "folder(path='/home/me/my birds', labels=no)"}
    own = replace(cell("rap", digest="ab", parameters={"labels": "no"}), **named, limit=2)
    frame = {"index": np.arange(2), "id": np.array(["a", "b"]), "score": np.ones(2)}
    Store(tmp_path / "runs").write(own, Block(0, 2), frame, [Incident(0, "a", "odd", skipped=False)], {"torch": "2"})
    for name, content in files(shelves([*Store(tmp_path / "runs").held()]), TableForm.CSV, version="1"):
        write_whole(tmp_path / "there" / name, content)
    (before,), (after,) = (list(Folders([tmp_path / name]).held()) for name in ("runs", "there"))
    assert (after.cell, after.cell.limit) == (before.cell, 2)
    assert after.cell.method == "maps(path=maps.npy)"
    assert after.cell.dataset == "folder(path=my birds, labels=no)"
    assert after.rows.incidents == before.rows.incidents
    assert after.rows.origins == before.rows.origins
    pd.testing.assert_frame_equal(after.rows.frame, before.rows.frame)

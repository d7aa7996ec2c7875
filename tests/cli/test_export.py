"""`rapbench export` as a user types it, and what --verify refuses."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from stored import cell, ratios
from typed import Command, typed

from rapbench.results.store import Block, Store


@pytest.fixture
def rapbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    for method in ("rap", "gradient"):
        for start in (0, 3):
            frame = ratios([1.0, 2.0, 3.0], start)
            columns = {str(name): frame[name].to_numpy(dtype=str if name == "id" else None) for name in frame}
            Store(Path("runs")).write(cell(method), Block(start, start + 3), columns, [], {"torch": "2"})

    return typed(monkeypatch, capsys)


def contents_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


EXPORT = ("export", "--out", "runs", "--to", "there")


def test_the_files_are_printed_and_pass_their_checksums(rapbench: Command) -> None:
    done = rapbench(*EXPORT)
    assert done.code == 0
    paths = [Path(line) for line in done.out.split()]
    assert sorted(paths) == sorted(Path("there").iterdir())
    assert pd.read_parquet(paths[0])["method"].tolist() == ["gradient"] * 6 + ["rap"] * 6
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd="there", check=True)  # noqa: S607


def test_an_earlier_export_is_replaced_whole(rapbench: Command) -> None:
    first = rapbench(*EXPORT).out.split()
    contents = contents_of(Path("there"))
    assert rapbench(*EXPORT, "--format", "csv").code == 0
    assert {path.suffix for path in Path("there").iterdir()} == {".csv", ".json", ".md", ""}
    assert rapbench(*EXPORT, "--method", "rap").code == 0
    assert len(list(Path("there/cells").iterdir())) == 1
    assert rapbench(*EXPORT).out.split() == first
    assert contents_of(Path("there")) == contents


def test_what_is_exported_can_be_chosen(rapbench: Command) -> None:
    path = rapbench(*EXPORT, "--method", "rap").out.split()[0]
    assert set(pd.read_parquet(path)["method"]) == {"rap"}


def test_a_folder_with_other_files_is_left_as_it_is(rapbench: Command) -> None:
    Path("there").mkdir()
    Path("there/thesis.tex").write_text("mine")
    done = rapbench(*EXPORT)
    assert (done.code, done.out) == (2, "")
    assert "it holds thesis.tex, which no export wrote" in done.err
    assert [path.name for path in Path("there").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "nowhere", "--to", "there"], "no rows in nowhere"),
        (["--out", "runs", "--to", "there", "--metric", "guards"], "no rows of --metric guards in runs"),
        (["--out", "runs", "--to", "runs/.."], "it holds file, which no export wrote"),
        (["--out", "runs", "--to", "file"], "--to file: a file is there"),
        (["--out", "runs"], "Missing option '--to'"),
        (["--out", "runs", "--to", "there", "--format", "xlsx"], "'--format'"),
    ],
    ids=" ".join,
)
def test_what_a_user_does_wrong_is_one_line(rapbench: Command, arguments: list[str], message: str) -> None:
    Path("file").touch()
    done = rapbench("export", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


READ = [
    ("table", "--format", "csv"),
    ("table", "--json"),
    ("table", "--verify"),
    ("ranks", "--format", "markdown"),
]


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("command", READ, ids=" ".join)
def test_a_command_reads_an_export_as_the_folder_that_it_was_written_of(
    rapbench: Command, command: tuple[str, ...], form: str
) -> None:
    rapbench(*EXPORT, "--format", form)
    printed = rapbench(*command, "--out", "runs")
    assert printed.code == 0
    assert len(printed.out) > 200
    assert rapbench(*command, "--out", "there") == printed


def test_an_export_of_an_export_is_the_same_files(rapbench: Command) -> None:
    rapbench(*EXPORT)
    assert rapbench("export", "--out", "there", "--to", "again").code == 0
    once, twice = contents_of(Path("there")), contents_of(Path("again"))
    assert {path.relative_to("there"): some for path, some in once.items()} == {
        path.relative_to("again"): some for path, some in twice.items()
    }


def test_no_number_moved_between_a_folder_and_its_export(rapbench: Command) -> None:
    rapbench(*EXPORT)
    done = rapbench("compare", "runs", "there", "--json")
    assert done.code == 0
    assert json.loads(done.out)["verdicts"].keys() == {"same"}


def test_a_page_of_two_exports_has_the_tables_of_the_folder_that_they_are_of(rapbench: Command) -> None:
    for method in ("rap", "gradient"):
        rapbench("export", "--out", "runs", "--to", method, "--method", method)
    assert rapbench("report", "gradient", "rap", "--no-gallery", "--to", "two.html").code == 0
    assert rapbench("report", "--out", "runs", "--no-gallery", "--to", "one.html").code == 0
    two, one = (
        re.findall(r"<table.*?</table>", Path(page).read_text(), re.DOTALL) for page in ("two.html", "one.html")
    )
    assert len(one) > 2
    assert two[-len(one) + 1 :] == one[1:]  # but for the first, which holds the command that computes the rows


def test_rows_that_an_export_shares_with_a_folder_are_read_once(rapbench: Command) -> None:
    rapbench(*EXPORT, "--method", "rap")
    printed = rapbench("table", "--out", "runs", "--format", "csv")
    assert rapbench("table", "--out", "runs", "--out", "there", "--format", "csv") == printed


def cut_a_block() -> None:
    file = min(Path("there/cells").glob("*/*.parquet"))
    file.write_bytes(file.read_bytes()[:-5])


def edit_a_table() -> None:
    table = next(Path("there").glob("*.parquet"))
    table.write_bytes(table.read_bytes() + b" ")


def forge_a_block() -> None:
    """One whose own digits fit its rows, as whoever writes it can make them."""
    file, digits = min(Path("there/cells").glob("*.rap.*/*.parquet")), hashlib.sha256(b"mine").hexdigest()[:8]
    file.rename(file.with_name(f"{file.stem[:-8]}{digits}.parquet"))


def add_a_block() -> None:
    file = min(Path("there/cells").glob("*.rap.*/*.parquet"))
    shutil.copy(file, file.with_name("0000096-0000128-00000000.parquet"))


FAULTS = {
    "damaged export: there/cells/": [cut_a_block, forge_a_block, lambda: shutil.rmtree("there/cells")],
    "damaged export: there/imagenet": [edit_a_table],
    "half-written export: there (": [
        lambda: Path("there/SHA256SUMS").unlink(),
        lambda: Path("there/SHA256SUMS").write_bytes(b"\xff\xfe"),
    ],
    "no export of rapbench: there (": [lambda: Path("there/SHA256SUMS").write_text(f"{'0' * 64}  disk.iso\n")],
    "file in an export that it did not write: there/cells/": [add_a_block],
}


@pytest.mark.parametrize("command", ["table", "report", "export", "compare"])
@pytest.mark.parametrize(("said", "fault"), [(said, fault) for said, faults in FAULTS.items() for fault in faults])
def test_an_export_that_is_not_as_it_was_written_is_refused_in_a_line(
    rapbench: Command, command: str, said: str, fault: Callable[[], None]
) -> None:
    rapbench(*EXPORT)
    fault()
    where = ["runs", "there"] if command == "compare" else ["--out", "runs", "--out", "there"]
    done = rapbench(command, *where, *(["--to", "elsewhere"] if command == "export" else []))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"rapbench: {said}")
    assert done.err.count("\n") == 1


@pytest.fixture(params=["cut", "changed", "edited spec", "renamed folder"])
def damaged(rapbench: Command, request: pytest.FixtureRequest) -> Command:
    """The command, in a folder one of whose files is not as it was written."""
    (folder,) = Path("runs").glob("*.rap.*")
    path, spec = min(folder.glob("*.parquet")), folder / "spec.json"
    content = path.read_bytes()
    if request.param == "cut":
        path.write_bytes(content[:-5])
    elif request.param == "changed":
        path.write_bytes(bytes([*content[:50], content[50] ^ 1, *content[51:]]))
    elif request.param == "edited spec":
        spec.write_text(spec.read_text().replace('"vgg16"', '"vgg19"'))
    else:
        folder.rename(folder.with_name("mine"))
    return rapbench


@pytest.mark.parametrize(
    "command",
    [EXPORT, ("table", "--out", "runs"), ("compare", "runs", "runs"), ("ranks", "--out", "runs", "--out", "runs")],
    ids=lambda command: command[0],
)
def test_damaged_rows_are_left_out_or_refused(damaged: Command, command: tuple[str, ...]) -> None:
    assert damaged(*command).code == 0 or command[0] == "ranks"  # one method may be left, which has no rank
    done = damaged(*command, "--verify")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("rapbench: damaged, or another's: runs/")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("command", [EXPORT, ("table", "--out", "runs"), ("compare", "runs", "runs")])
def test_whole_rows_are_verified_without_a_word(rapbench: Command, command: tuple[str, ...]) -> None:
    done = rapbench(*command, "--verify")
    assert (done.code, done.err) == (0, "")

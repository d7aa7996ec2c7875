"""Code from outside the package: modules and files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rapbench.core.catalogue import Catalogue, parse_call, placeless
from rapbench.core.errors import BadConfig, DataMissing, RapbenchError, UnknownName
from rapbench.core.sources import source_digest

NETS = Catalogue("net", {})
TEXT = """
from beside_it import VALUE

def build():
    return VALUE

def _hidden():
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file `mine.py` and what it imports; what Python remembers of it is forgotten."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "beside_it", raising=False)
    here = tmp_path / "here"
    here.mkdir()
    (here / "mine.py").write_text(TEXT)
    (here / "beside_it.py").write_text("VALUE = 1\n")
    return here


def test_a_file_is_code_from_outside_with_what_it_imports_from_beside_it(folder: Path) -> None:
    assert NETS.load(f"{folder}/mine.py:build")() == 1


def test_a_file_is_found_from_the_home_folder_and_from_where_one_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder.parent)
    assert NETS.load("~/mine.py:build") is NETS.load(f"{folder.name}/mine.py:build")


def test_a_file_named_as_a_module_of_python_does_not_take_its_place(folder: Path) -> None:
    (folder / "mine.py").rename(folder / "json.py")
    import json

    assert NETS.load(f"{folder}/json.py:build")() == 1
    assert sys.modules["json"] is json


def test_a_changed_file_is_read_again(folder: Path) -> None:
    file = folder / "mine.py"
    assert NETS.load(f"{file}:build")() == 1
    file.write_text("def build():\n    return 22\n")
    assert NETS.load(f"{file}:build")() == 22


def digest(folder: Path) -> str | None:
    return source_digest(sys.modules[NETS.load(f"{folder}/mine.py:build").__module__])


def test_the_source_of_a_file_is_its_text_and_that_beside_it_wherever_they_lie(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = digest(folder)
    moved = folder.rename(folder.with_name("moved"))
    monkeypatch.delitem(sys.modules, "beside_it")
    assert digest(moved) == first
    (moved / "beside_it.py").write_text("VALUE = 2\n")
    assert digest(moved) != first


@pytest.mark.parametrize(
    ("text", "name", "fault", "message"),
    [
        (None, "mine.py:build", DataMissing, r"no file .*mine\.py"),
        ("def build(:\n", "mine.py:build", BadConfig, r"SyntaxError: invalid syntax \(mine\.py, line 1\)"),
        ("\x00\x01", "mine.py:build", BadConfig, "(Syntax|Value)Error: source code .*null bytes"),
        ("import absent_module\n", "mine.py:build", UnknownName, "No module named 'absent_module'"),
        ("import sys\nsys.exit('usage')\n", "mine.py:build", BadConfig, "SystemExit: usage"),
        ("from .beside_it import VALUE\n", "mine.py:build", BadConfig, "relative import with no known parent package"),
        ("1 / 0\n", "mine.py:build", BadConfig, "ZeroDivisionError: division by zero"),
        (TEXT, "mine.py:biuld", UnknownName, r"no 'biuld' in it: did you mean build\?"),
        (TEXT, "mine.py:zzz", UnknownName, "no 'zzz' in it: known: build$"),
        (TEXT, "mine.py", UnknownName, r"of a file, write .*mine\.py:NAME with a name in it"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(
    folder: Path, text: str | None, name: str, fault: type[RapbenchError], message: str
) -> None:
    file = folder / "mine.py"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(fault, match=message) as raised:
        NETS.load(f"{folder}/{name}")
    assert "\n" not in str(raised.value)


def test_a_module_that_raises_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    (folder / "raising_mod.py").write_text("1 / 0\n")
    with pytest.raises(BadConfig, match="cannot load net 'raising_mod:build': ZeroDivisionError"):
        NETS.load("raising_mod:build")


def test_a_path_may_hold_what_a_name_may_not() -> None:
    call = parse_call("~/my nets (old)/a-b.py:build(width=2, source='x.py:y')")
    assert (call.name, call.parameters) == ("~/my nets (old)/a-b.py:build", {"width": "2", "source": "x.py:y"})
    assert parse_call(str(call)) == call


def test_a_network_is_called_the_same_wherever_its_files_lie() -> None:
    there = placeless("/a/b/mine.py:build( width=2,classes=/a/names.txt )")
    assert (
        there == placeless("mine.py:build(width=2, classes=names.txt)") == "mine.py:build(width=2, classes=names.txt)"
    )
    assert placeless("mylab:build") == "mylab:build"
    assert placeless("vgg16") == "vgg16"

"""Which code from outside is part of a key."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest
import torch

from rapbench.core.sources import source_digest
from rapbench.methods.rap import RAP

FILES = {
    "lone_mod.py": "import json\nimport beside_mod\nclass Thing: pass\n",
    "beside_mod.py": "VALUE = 1\n",
    "labpkg/__init__.py": "",
    "labpkg/things.py": "from . import inner\nfrom labpkg.more.deep import VALUE\nclass Thing: pass\n",
    "labpkg/inner.py": "",
    "labpkg/more/__init__.py": "",
    "labpkg/more/deep.py": "VALUE = 1\n",
    "labpkg/unused.py": "",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [n for n in sys.modules if n.partition(".")[0] in {"lone_mod", "beside_mod", "labpkg"}]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def digest(module: str) -> str | None:
    return source_digest(importlib.import_module(module).Thing)


@pytest.mark.parametrize(
    ("module", "file", "counts"),
    [
        ("lone_mod", "lone_mod.py", True),
        ("lone_mod", "beside_mod.py", True),
        ("labpkg.things", "labpkg/things.py", True),
        ("labpkg.things", "labpkg/inner.py", True),
        ("labpkg.things", "labpkg/more/deep.py", True),
        ("labpkg.things", "labpkg/unused.py", False),
        ("labpkg.things", "lone_mod.py", False),
    ],
)
def test_a_module_counts_with_those_of_its_own_that_it_imports(
    folder: Path, module: str, file: str, counts: bool
) -> None:
    before = digest(module)
    assert digest(module) == before
    (folder / file).write_text(FILES[file] + "# changed\n")
    assert (digest(module) != before) == counts


def test_the_same_text_elsewhere_is_the_same_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest("lone_mod")
    moved = folder.rename(folder.with_name("moved"))
    monkeypatch.syspath_prepend(moved)
    for name in ("lone_mod", "beside_mod"):
        monkeypatch.delitem(sys.modules, name)
    assert digest("lone_mod") == before


@pytest.mark.parametrize("thing", [RAP, torch.nn.Linear, len, int])
def test_our_own_and_installed_code_is_told_by_its_version(thing: object) -> None:
    assert source_digest(thing) is None


def test_the_digits_of_this_package_follow_the_code_that_rows_rest_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rapbench
    from rapbench.core import sources

    copy = tmp_path / "rapbench"
    shutil.copytree(Path(rapbench.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    monkeypatch.setattr(sources, "__file__", str(copy / "core" / "sources.py"))

    def digits() -> str:
        sources._digits_of.cache_clear()
        return sources.code_digest()

    before = digits()
    for changed, moves in (("relprop/rules.py", True), ("metrics/segmentation.py", True), ("cli/table.py", False)):
        with (copy / changed).open("a") as file:
            file.write("# another\n")
        assert (digits() != before) == moves, changed
        before = digits()
    sources._digits_of.cache_clear()

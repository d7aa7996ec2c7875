"""Files told apart by what they hold, read once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rapbench.core import contents
from rapbench.core.contents import content_digests


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Which files are read, with a cache of their own."""
    seen: list[Path] = []
    digest = contents._digest
    monkeypatch.setattr(contents, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(contents, "_digest", lambda path: (seen.append(path), digest(path))[1])
    return seen


def written(folder: Path, *texts: str) -> list[Path]:
    files = [folder / f"{n}.txt" for n in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    return files


def test_a_file_is_read_once_and_again_when_it_has_changed(tmp_path: Path, read: list[Path]) -> None:
    files = written(tmp_path, "one", "two")
    first = content_digests(files)
    assert content_digests(files) == first
    assert read == files
    files[1].write_text("TWO")
    os.utime(files[1], ns=(1, 1))
    again = content_digests(files)
    assert read == [*files, files[1]]
    assert (again[0] == first[0], again[1] == first[1]) == (True, False)


def test_equal_contents_have_equal_digests_wherever_they_lie(tmp_path: Path) -> None:
    one, two, other = content_digests(written(tmp_path, "same", "same", "other"))
    assert one == two != other
    assert len(one) == 16


def test_a_file_that_is_not_there_is_told(tmp_path: Path, read: list[Path]) -> None:
    assert content_digests([tmp_path / "nowhere"]) == ["missing"]
    assert not read


@pytest.mark.parametrize("note", ["", "[]", '{"a": 1}', "{"])
def test_a_damaged_note_is_made_again(tmp_path: Path, read: list[Path], note: str) -> None:
    files = written(tmp_path, "one")
    first = content_digests(files)
    (memory,) = (tmp_path / "cache" / "contents").iterdir()
    memory.write_text(note)
    assert content_digests(files) == first
    assert read == files * 2


def test_without_a_cache_files_are_read_again(tmp_path: Path, read: list[Path]) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    files = written(tmp_path, "one")
    assert content_digests(files) == content_digests(files)
    assert read == files * 2

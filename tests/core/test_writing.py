"""Files that exist with all their content or not at all, whoever else writes them at the same time."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rapbench.core.errors import BadConfig
from rapbench.core.writing import write_whole


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == {"a": b"two"}


def test_its_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_writers_that_share_a_process_number_do_not_meet(tmp_path: Path) -> None:
    contents = [bytes([n]) * 200_000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda content: write_whole(tmp_path / "a", content), contents))
            assert (tmp_path / "a").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_that_lies_in_the_way_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"mine")
    monkeypatch.setattr("uuid.uuid4", lambda: type("Known", (), {"hex": "known"}))
    (tmp_path / ".known").symlink_to(other)
    with pytest.raises(BadConfig, match="cannot write"):
        write_whole(tmp_path / "a", b"content")
    assert other.read_bytes() == b"mine"


def test_a_file_that_cannot_be_replaced_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(BadConfig, match=rf"^cannot write {tmp_path}/a: Is a directory; "):
        write_whole(tmp_path / "a", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]

"""Notes that can and that cannot be read."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rapbench.core.errors import BadData
from rapbench.results.notes import Count, read_note, readable_notes


@dataclass(frozen=True, kw_only=True)
class Note:
    name: str
    counts: tuple[Count, ...]


GOOD = '{"name": "a", "counts": [1, 2], "more": {}}'


def test_a_note_is_read_and_what_else_it_says_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note").write_text(GOOD)
    assert read_note(Note, tmp_path / "note") == Note(name="a", counts=(1, 2))


@pytest.mark.parametrize(
    "content",
    [
        *("", GOOD[:-1], "[]", "null", "[" * 100_000, '{"name": "a"}', '{"name": "\udcff"}'),
        *('{"name": 1, "counts": []}', '{"name": "a", "counts": ["1"]}'),
        *('{"name": "a", "counts": [-1]}', '{"name": "a", "counts": [1e400]}'),
    ],
)
def test_a_damaged_note_is_one_line_that_names_the_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "note"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(BadData, match=rf"^damaged note: {path} \([^\n]+\)$"):
        read_note(Note, path)


@pytest.mark.parametrize("put", [Path.mkdir, lambda path: path.symlink_to("nowhere"), os.mkfifo, lambda path: None])
def test_what_is_no_file_is_no_note(tmp_path: Path, put: Callable[[Path], None]) -> None:
    put(tmp_path / "note")
    with pytest.raises(BadData, match=f"^not a file: {tmp_path}/note$"):
        read_note(Note, tmp_path / "note")


def test_of_several_notes_those_that_can_be_read_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, damaged = tmp_path / "good", tmp_path / "damaged"
    good.write_text(GOOD)
    damaged.write_text(GOOD[1:])
    with caplog.at_level(logging.WARNING):
        assert [path for path, _ in readable_notes(Note, [damaged, good])] == [good]
    (record,) = caplog.records
    assert record.message.startswith(f"damaged note: {damaged} (")

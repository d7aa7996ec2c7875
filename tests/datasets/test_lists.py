from pathlib import Path

import pytest

from rapbench.core.errors import BadData
from rapbench.datasets.lists import lines, refuse_repeated


def test_a_blank_line_keeps_the_place_of_those_after_it(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf a\r\n\r\n\tb \n\n \n")
    assert lines(tmp_path / "list.txt") == ["a", "", "b"]


def test_an_empty_list_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "list.txt").touch()
    assert lines(tmp_path / "list.txt") == []


def test_what_is_no_text_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a\n\xff\xd8\xff")
    for path in (tmp_path / "list.txt", tmp_path):
        with pytest.raises(BadData, match="unreadable list") as error:
            lines(path)
        assert error.value.reason == "unreadable list"


def test_names_that_come_twice_are_counted() -> None:
    refuse_repeated(["a", "b"], "here")
    with pytest.raises(BadData, match=r"^image listed twice: here \(b\)$"):
        refuse_repeated(["a", "b", "b"], "here")
    with pytest.raises(BadData, match=r"^image listed twice: here \(a and 1 more\)$"):
        refuse_repeated(["a", "b", "b", "a", "a"], "here")

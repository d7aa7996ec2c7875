"""What errors say in one line."""

import pytest

from rapbench.core.errors import BadData, first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one \n"), "one"),
        (AssertionError(), "AssertionError"),
        (KeyError("name"), "'name'"),
        (BadData("unreadable image", "a.jpg"), "unreadable image: a.jpg"),
    ],
)
def test_an_error_is_told_in_one_line_also_when_it_says_nothing(error: Exception, line: str) -> None:
    assert first_line(error) == line

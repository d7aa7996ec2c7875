"""Parameters that are files."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import pytest

from rapbench.core.catalogue import Call, Catalogue, Entry
from rapbench.core.errors import BadConfig, DataMissing
from rapbench.core.files import File


@dataclass(frozen=True)
class Text:
    """The text of a file; how often any was read."""

    text: str
    reads: ClassVar[list[Path]] = []

    @classmethod
    def load(cls, file: Path) -> Self:
        if not file.is_file():
            raise DataMissing(f"no text {file}")
        cls.reads.append(file)
        return cls(file.read_text())

    @property
    def digest(self) -> str:
        return f"digest of {self.text}"


@dataclass(frozen=True, kw_only=True)
class Taker:
    """Takes a file or a number, a file or nothing, and a file."""

    either: float | File[Text] = 0.0
    maybe: File[Text] | None = None
    always: File[Text]


CATALOGUE = Catalogue("taker", {"taker": Entry(f"{__name__}:Taker", "takes files")})


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[Taker.__module__])
    monkeypatch.chdir(tmp_path)
    Path("a").write_text("one")
    Path("b").write_text("one")
    Text.reads.clear()


def built(**parameters: str) -> Taker:
    taker = CATALOGUE.build(Call("taker", {"always": "a", **parameters}))
    assert isinstance(taker, Taker)
    return taker


def test_what_is_no_number_and_not_none_is_the_path_of_a_file() -> None:
    assert built() == Taker(always=File(Text, Path("a")))
    assert built(either="0.5", maybe="none").either == 0.5
    assert built(either="a", maybe="./b") == Taker(
        either=File(Text, Path("a")), maybe=File(Text, Path("b")), always=File(Text, Path("a"))
    )


def test_a_file_that_is_not_there_is_said_when_it_is_named() -> None:
    for parameters in ({"either": "c"}, {"maybe": "c"}, {"always": "none"}):
        with pytest.raises(DataMissing, match="no text"):
            built(**parameters)
    with pytest.raises(BadConfig, match=r"taker needs a value: write taker\(always=...\)"):
        CATALOGUE.build(Call("taker", {}))


def test_the_digest_is_the_contents_wherever_the_file_lies() -> None:
    a, b = File(Text, Path("a")), File(Text, Path("b"))
    assert a != b
    assert a.digest == b.digest == "digest of one"
    Path("b").write_text("two more")
    assert b.digest == "digest of two more"


def test_a_file_is_read_again_only_after_it_was_written_to() -> None:
    file = File(Text, Path("a"))
    assert [file.read().text, file.read().text, file.digest] == ["one", "one", "digest of one"]
    assert Text.reads == [Path("a")]
    Path("a").write_text("two")
    os.utime("a", (0, 0))
    assert file.read().text == "two"


def test_a_file_is_written_as_it_was_typed() -> None:
    assert str(File(Text, Path("far/../a"))) == "far/../a"

"""Paths as typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rapbench.core.cache import cache_folder
from rapbench.core.paths import stem_of, typed_path


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAPBENCH_CACHE", "~/cache")
    assert typed_path("~/data") == tmp_path / "data"
    assert typed_path(Path("~")) == tmp_path
    assert cache_folder() == tmp_path / "cache"


@pytest.mark.parametrize("text", ["", "a\0b", "\udcff", "a" * 5000, "~nobody-of-this-name/data"])
def test_what_no_path_can_be_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        typed_path(text)


def test_a_name_is_part_of_a_file_s_name_without_what_no_file_has() -> None:
    assert stem_of("mine.py:build(width=2, source=/a/b c)") == "mine.py-build-width=2-source=-a-b-c"
    assert stem_of("vgg16_keras") == "vgg16_keras"

"""Methods that take files: which rows are the same, and what they are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rapbench.core.files import File
from rapbench.methods.signals.patterns import Patterns
from rapbench.results.store import Store
from rapbench.run import fit as fitting
from rapbench.run.resolve import prepare
from rapbench.run.spec import RunSpec

Run = Callable[..., tuple[list[dict[str, Any]], int]]


@pytest.fixture
def references(tmp_path: Path) -> tuple[str, str]:
    """The same reference under two paths, as parameters are typed."""
    for name in ("a, b", "c"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x0.npy", np.full((3, 224, 224), 0.25))
    return f"deeplift(reference='{tmp_path}/a, b/x0.npy')", f"deeplift(reference={tmp_path}/c/x0.npy)"


def test_rows_of_one_content_are_computed_once_and_called_as_they_were_first(
    run: Run, tmp_path: Path, references: tuple[str, str]
) -> None:
    first, second = references
    given = {"metric": "outside_inside", "limit": 2, "save_maps": tmp_path / "maps"}
    assert run(method=f"{first}, {second}", **given)[1] == 2
    assert run(method=second, **given)[1] == 0
    assert {held.cell.method for held in Store(tmp_path / "runs").held()} == {first}
    (folder,) = (tmp_path / "maps").iterdir()
    assert len(list(folder.iterdir())) == 2
    np.save(tmp_path / "c" / "x0.npy", np.zeros((3, 224, 224)))
    assert run(method=second, **given)[1] == 2
    assert {held.cell.method for held in Store(tmp_path / "runs").held()} == {first, second}


def test_patterns_that_nobody_gave_are_not_part_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(fitting, "_AUTOMATIC", 8)
    given = {"model": "doubles:tiny", "weights": "random", "dataset": "scenes", "device": "cpu", "metric": "guards"}
    fitted = prepare(RunSpec.read(None, {**given, "method": "pattern_net"}))
    (file,) = (tmp_path / "patterns").iterdir()
    chosen = prepare(RunSpec.read(None, {**given, "method": f"pattern_net(patterns={file})"}))
    (own,), (other,) = fitted.cells.values(), chosen.cells.values()
    assert own.key == other.key
    assert own.identity.method.digest == File(Patterns, file).digest
    assert (own.method, other.method) == ("pattern_net", f"pattern_net(patterns={file})")

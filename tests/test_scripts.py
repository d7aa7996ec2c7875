"""What is measured by scripts can be: their scenes are what metrics take, and a page holds what they compare."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from rapbench.metrics import METRICS
from rapbench.metrics.deletion_insertion import DeletionInsertion
from rapbench.metrics.perturbation import Perturbation

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.mark.parametrize(
    "metric", [Perturbation(pixels=2, steps=2), DeletionInsertion()], ids=lambda m: type(m).__name__
)
def test_a_benchmark_s_scene_can_be_scored(metric: Perturbation | DeletionInsertion) -> None:
    spec = importlib.util.spec_from_file_location("measured", SCRIPTS / "measured.py")
    assert spec
    assert spec.loader
    measured = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(measured)
    x = torch.randn(2, 3, 8, 8)
    found = metric(measured.explained(x, torch.randn_like(x), lambda inputs: inputs.mean((2, 3))))
    assert all(len(column) == 2 for column in found.values())
    assert "measured" not in sys.modules


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script that holds metrics against other libraries' ones."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(SCRIPTS)
    yield importlib.import_module("libraries")
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {"libraries", "counterparts", "measured"}:
            del sys.modules[name]


def test_libraries_that_are_not_installed_are_named_and_left_out(
    libraries: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(libraries, "subject", lambda *_: None)
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    page = tmp_path / "page.md"
    page.write_text(f"# By hand\n\n{libraries.MARK}\n\nold\n")
    libraries.main(weights=tmp_path, data_root=tmp_path, to=page)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "not installed, and left out: captum, quantus, grad-cam, torchmetrics"
    text = page.read_text()
    assert text.startswith(f"# By hand\n\n{libraries.MARK}\n\ntorch ")
    assert "old" not in text
    assert text.count("\n| ") == 4  # the heads of both tables


def test_the_page_on_other_libraries_holds_every_comparison(libraries: ModuleType) -> None:
    page = (SCRIPTS.parent / "results" / "libraries.md").read_text()
    by_hand, _, measured = page.partition(libraries.MARK)
    assert by_hand.startswith("# ")
    for one in libraries.COUNTERPARTS:
        assert one.ours.partition("(")[0].partition(",")[0].partition(":")[0] in METRICS
        named = f"| {one.ours} | {libraries.LIBRARIES[one.library]} {one.theirs} | "
        assert any(line.startswith(named) and line.endswith(f" | {one.differs} |") for line in measured.splitlines()), (
            named
        )
    for pair in libraries.costs.PAIRS:
        assert f"| {pair.ours} | {libraries.LIBRARIES[pair.library]} {pair.theirs} | " in measured

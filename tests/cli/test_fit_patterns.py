"""`rapbench fit-patterns` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rapbench.cli.fit_patterns import fit_patterns
from rapbench.core.errors import UnsupportedLayer
from rapbench.methods.signals.patterns import Patterns

TINY = ["--model", "doubles:tiny", "--weights", "random", "--dataset", "doubles:Squares", "--device", "cpu"]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.delenv("RAPBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    found = typer.Typer()
    found.command()(fit_patterns)
    return found


def test_patterns_are_written_and_it_is_said_how_to_use_them(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, [*TINY, "--limit", "8", "--to", "p.safetensors"])
    assert done.exit_code == 0, done.output
    assert "directions of 1004 units in 2 layers, from 8 images, in p.safetensors" in done.stdout
    assert "pattern_attribution(patterns=p.safetensors)" in done.stdout
    assert "8/8 images" in done.stderr
    assert Patterns.load(Path("p.safetensors")).source["images"] == "0-8 of doubles:Squares"


def test_the_file_has_a_name_of_its_own_by_default(app: typer.Typer) -> None:
    CliRunner().invoke(app, [*TINY, "--limit", "8"], catch_exceptions=False)
    (file,) = Path("patterns").iterdir()
    assert file.name == "tiny-random-Squares-8.safetensors"


def test_networks_with_additions_are_refused(app: typer.Typer) -> None:
    with pytest.raises(UnsupportedLayer, match="fit-patterns has no rule for add"):
        CliRunner().invoke(app, [*TINY, "--model", "resnet18", "--limit", "8"], catch_exceptions=False)

"""Pages of results hold what their commands print, and keep what is written by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
PAGE = """# A page

Said before.

```bash
{commands}
```

<!-- output -->

old

<!-- end of output -->

Said after.
"""

_spec = importlib.util.spec_from_file_location("results", ROOT / "scripts" / "results.py")
assert _spec
assert _spec.loader
results = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(results)


def brought_up_to_date(page: Path, *options: str) -> tuple[int, str]:
    """Exit code and output of the script."""
    done = CliRunner().invoke(results.app, [str(page), "--out", str(page.parent / "rows"), *options])
    return done.exit_code, done.output


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    monkeypatch.delenv("RAPBENCH_DATA", raising=False)
    return tmp_path / "page.md"


def test_rows_of_another_machine_are_shown_without_computing_any(page: Path) -> None:
    page.write_text(PAGE.format(commands="rapbench run --device cuda --method nonsuch\nrapbench table --help"))
    assert brought_up_to_date(page, "--held") == (0, "page: changed; read what it says of its numbers\n")
    assert "Usage: " in page.read_text()
    code, told = brought_up_to_date(page)
    assert code == 1
    assert "nonsuch" in told


@pytest.mark.slow
def test_a_page_takes_up_tables_and_pictures_and_computes_nothing_twice(page: Path) -> None:
    run = "rapbench run --model doubles:tiny --weights random --dataset doubles:Squares --limit 2 \\\n    "
    run += '--method random,center --metric "perturbation(pixels=4, steps=3)"'
    commands = [run, "rapbench figure perturbation", "rapbench table --format markdown"]
    page.write_text(PAGE.format(commands="\n".join(commands)))
    assert brought_up_to_date(page) == (0, "page: changed; read what it says of its numbers\n")
    text = page.read_text()
    assert text.startswith(PAGE.format(commands="\n".join(commands)).split("old")[0])
    assert text.endswith("\n\n<!-- end of output -->\n\nSaid after.\n")
    assert "old" not in text
    assert "**perturbation(pixels=4, steps=3) on doubles:Squares, doubles:tiny (random)**\n\n| method |" in text
    points, picture = sorted((page.parent / "figures").iterdir())
    assert f"![{picture.stem}](figures/{picture.name})\n\n[Points](figures/{points.name})" in text
    with Image.open(picture) as image:
        assert image.width <= results.WIDTH
    assert "random" in points.read_text()
    assert "computed by rapbench " in text
    assert "(cpu), seed 0; maps in fp32." in text
    rows = {file: file.stat().st_mtime_ns for file in page.parent.rglob("*.parquet")}
    assert brought_up_to_date(page) == (0, "page: as it was\n")
    assert rows == {file: file.stat().st_mtime_ns for file in page.parent.rglob("*.parquet")}


def test_a_page_stays_as_it_was_where_a_command_fails(page: Path) -> None:
    page.write_text(before := PAGE.format(commands="echo first >&2 && cat absent"))
    code, said = brought_up_to_date(page)
    assert code == 1
    assert "page: left as it was, since this failed: echo first >&2 && cat absent\n  cat: absent: No such file" in said
    assert page.read_text() == before


def test_a_page_is_left_out_where_its_folder_is_not_given(page: Path) -> None:
    page.write_text(before := PAGE.format(commands='ls "$WEIGHTS"'))
    assert brought_up_to_date(page) == (0, "page: left out, it needs WEIGHTS\n")
    assert page.read_text() == before
    assert brought_up_to_date(page, "--weights", str(page.parent))[0] == 0
    assert page.read_text() != before


def test_folders_that_were_given_are_called_by_their_variables(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "printed", lambda command, folder, environment: f"of {environment['WEIGHTS']}/x.npz")
    page.write_text(PAGE.format(commands='rapbench table --weights "$WEIGHTS/x.npz"'))
    assert brought_up_to_date(page, "--weights", str(page.parent))[0] == 0
    assert "\n\nof WEIGHTS/x.npz\n\n" in page.read_text()


def test_every_page_with_commands_is_one_of_all() -> None:
    names = {page.stem for page in results.chosen(["all"])}
    shown = {page.stem for page in (ROOT / "results").glob("*.md") if "<!-- output -->" in page.read_text()}
    assert names == shown
    assert {"scenes", "voc_squeezenet", "rap2020_table1"} <= names


def test_every_page_of_results_shows_what_its_commands_printed() -> None:
    for page in results.chosen(["all"]):
        text = page.read_text()
        assert text.count("<!-- output -->") == len(results.OUTPUT.findall(text)), page
        assert all(len(block[0].split("<!-- output -->")[1]) > 40 for block in results.OUTPUT.finditer(text)), page

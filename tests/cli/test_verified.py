"""`rapbench report --verify`: stored rows computed again, and what is said where they cannot be or are others."""

from __future__ import annotations

import shutil
import sys
from hashlib import sha256
from pathlib import Path

import doubles
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typed import Command, Printed, typed

from rapbench import cli
from rapbench.cli.verified import Portion
from rapbench.core.errors import BadConfig
from rapbench.core.seeds import image_seed
from rapbench.run.recomputed import Again

NETWORK = ["--model", "doubles:tiny", "--weights", "random", "--dataset", "doubles:Squares", "--device", "cpu"]
METRICS = ["--metric", "outside_inside,perturbation(steps=3, images=4)", "--limit", "6"]
REPORT = ("report", "--out", "runs", "--no-gallery")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows of three methods, computed once."""
    folder = tmp_path_factory.mktemp("rows")
    asked = ["run", *NETWORK, *METRICS, "--method", "rap,gradient,random", "--out", str(folder / "runs")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["rapbench", *asked])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 0
    return folder


@pytest.fixture
def rapbench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: Path
) -> Command:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(rows / "runs", "runs")

    return typed(monkeypatch, capsys)


def told(done: Printed) -> list[str]:
    """What was said, without progress."""
    return [line.removeprefix("rapbench: ") for line in done.err.splitlines() if line.startswith("rapbench: ")]


def test_rows_that_are_computed_here_agree_and_the_page_says_so(rapbench: Command) -> None:
    done = rapbench(*REPORT, "--verify", "100%")
    assert (done.code, done.out) == (0, "runs/report.html\n")
    first, second, third, last = told(done)
    assert first.endswith("30 of 48 rows computed again (--verify 100%): all agree.")
    assert "to the last bit" in second
    assert "versions and device are those of the store" in third
    assert "18 rows of 3 cells (gradient, random, rap by guards)" in last
    page = Path("runs/report.html").read_text()
    assert "Rows computed again" in page
    assert "30 of 48 rows computed again" in page


@pytest.fixture
def blocks_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a run computed two images at a time, so that a few images have several blocks."""
    monkeypatch.setattr("rapbench.run.plan.BLOCK_SIZE", 2)


@pytest.mark.usefixtures("blocks_of_two")
@pytest.mark.parametrize(("share", "count"), [("1%", 12), ("50%", 3 * (4 + 2)), ("2", 12), ("3", 24), ("9", 30)])
def test_of_every_cell_as_many_whole_blocks_are_computed_as_hold_what_is_asked_for(
    rapbench: Command, share: str, count: int
) -> None:
    assert f" {count} of 48 rows computed again" in told(rapbench(*REPORT, "--verify", share))[0]


@pytest.mark.usefixtures("blocks_of_two")
def test_blocks_are_drawn_by_the_seed_in_one_order_for_all_cells(
    rapbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Again] = []
    monkeypatch.setattr("rapbench.run.recomputed.recomputed", lambda _, blocks, *__: asked.extend(blocks) or {})
    rapbench(*REPORT, "--verify", "2")
    order = sorted(range(3), key=lambda block: image_seed(0, str(block)))
    perturbed = next(block for block in order if block < 2)
    assert {tuple(images): len(keys) for images, keys in asked} == {
        (f"square-{2 * block}", f"square-{2 * block + 1}"): 3 * ((block == order[0]) + (block == perturbed))
        for block in {order[0], perturbed}
    }


def test_a_share_of_a_block_is_computed_as_the_whole_was(rapbench: Command) -> None:
    said = told(rapbench(*REPORT, "--verify", "1"))
    assert " 30 of 48 rows computed again (--verify 1): all agree." in said[0]
    assert "to the last bit" in said[1]


def test_a_row_that_was_tampered_with_is_found(rapbench: Command) -> None:
    (file,) = Path("runs").glob("*rap.outside_inside*/*.parquet")
    table = pq.read_table(file)
    place, values = table.schema.get_field_index("positive_inside"), table["positive_inside"].to_pylist()
    values[2] *= 1.001
    forged = table.set_column(place, "positive_inside", pa.array(values))
    file.unlink()
    pq.write_table(forged.replace_schema_metadata(table.schema.metadata), file)
    file.rename(file.with_name(f"{file.stem[:-8]}{sha256(file.read_bytes()).hexdigest()[:8]}.parquet"))
    done = rapbench(*REPORT, "--verify", "100%")
    assert (done.code, done.out) == (1, "runs/report.html\n")
    assert told(done)[0].endswith("1 of them differ.")
    image = table["id"].to_pylist()[2]
    assert f" (positive_inside of rap by outside_inside, image {image}: {values[2]:.6g} stored, " in told(done)[1]


def test_rows_of_a_network_that_changed_are_counted_and_not_compared(
    rapbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubles, "tiny", lambda **_: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(7)))
    done = rapbench(*REPORT, "--verify", "1%")
    assert done.code == 0
    assert " 0 of 48 rows computed again (--verify 1%): none." in told(done)[0]
    assert any(line.startswith("Not computed again, 30 rows of 6 cells (") for line in told(done))


def test_rows_of_other_weights_are_said_to_be(rapbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(weights: None = None, num_classes: int = 1000) -> torch.nn.Module:
        first = torch.nn.Conv2d(3, 4, 16, stride=16, bias=False)
        return torch.nn.Sequential(first, *list(tiny(weights, num_classes))[1:])

    tiny = doubles.tiny
    monkeypatch.setattr(doubles, "tiny", other)
    done = rapbench(*REPORT, "--verify", "1%")
    assert done.code == 0
    assert any(line.endswith("what computed them is not what is here: model.") for line in told(done))


def test_a_method_that_fails_now_is_named_with_its_rows(rapbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ArithmeticError("lamp out")

    monkeypatch.setattr("rapbench.methods.gradient.Gradient.__call__", fails)
    done = rapbench(*REPORT, "--verify", "1")
    assert done.code == 0
    assert "20 of 48 rows computed again (--verify 1): all agree." in " ".join(told(done))
    left = "Not computed again, 10 rows of 2 cells (gradient by outside_inside, perturbation(steps=3)): "
    assert f"{left}method gradient: ArithmeticError: lamp out." in told(done)


def test_what_cannot_be_loaded_is_one_line_and_no_error(rapbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(doubles, "Squares")
    done = rapbench(*REPORT, "--verify", "1%")
    assert done.code == 0
    assert any("Not computed again, 30 rows of 6 cells" in line and "'Squares'" in line for line in told(done))


def test_rows_of_other_versions_are_compared_more_loosely(rapbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rapbench.run.plan.versions", lambda: {"rapbench": "99"})
    done = rapbench(*REPORT, "--verify", "1")
    assert done.code == 0
    (line,) = [line for line in told(done) if "rapbench 99" in line]
    assert "agree up to 1e-02" in line


def test_a_damaged_file_is_refused(rapbench: Command) -> None:
    file = min(Path("runs").glob("*rap.outside_inside*/*.parquet"))
    file.write_bytes(file.read_bytes()[:-5])
    done = rapbench(*REPORT, "--verify", "1%")
    assert (done.code, done.out) == (2, "")
    assert told(done)[-1].startswith("damaged, or another's: runs/")


@pytest.mark.parametrize("text", ["", "1 %", "x", "-1", "101%", "1.5", "%", "1%%"])
def test_a_share_that_is_none_is_one_line(rapbench: Command, text: str) -> None:
    done = rapbench(*REPORT, f"--verify={text}")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "a share of the rows such as 1%" in done.err
    with pytest.raises(BadConfig):
        Portion(text)

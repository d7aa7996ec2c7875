"""Images in order, whoever reads them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from doubles import Squares

from rapbench.core.errors import BadConfig, BadData
from rapbench.core.types import Sample
from rapbench.run.plan import Experiment, blocks
from rapbench.run.reading import cut, inputs, read
from rapbench.run.resolve import prepare
from rapbench.run.spec import RunSpec


def squares(tmp_path: Path, parameters: str = "", **options: object) -> Experiment:
    defaults = {"dataset": f"doubles:Squares({parameters})", "model": "doubles:tiny", "weights": "random"}
    return prepare(RunSpec.read(None, {**defaults, "method": "center", "out": tmp_path, "device": "cpu", **options}))


def test_reader_processes_deliver_the_same_images_in_the_same_order(tmp_path: Path) -> None:
    parameters = "unreadable_every=5, grey_every=7"
    alone, helped = (squares(tmp_path, parameters, readers=n) for n in (0, 2))
    for a, b in zip(read(alone, blocks(40)), read(helped, blocks(40)), strict=True):
        assert (a.block, a.positions, a.incidents) == (b.block, b.positions, b.incidents)
        for one, other in zip(a.samples, b.samples, strict=True):
            assert one.id == other.id
            assert torch.equal(one.image, other.image)


def test_positions_count_in_the_order_of_the_run(tmp_path: Path) -> None:
    experiment = squares(tmp_path, "unreadable_every=5", shuffle=True)
    (loaded, _) = read(experiment, blocks(40))
    ids = [experiment.dataset.ids[n] for n in experiment.order]
    assert [ids[position] for position in loaded.positions] == [sample.id for sample in loaded.samples]
    assert {incident.id for incident in loaded.incidents} == {ids[incident.position] for incident in loaded.incidents}


@pytest.mark.parametrize("readers", [0, 2])
@pytest.mark.slow
def test_a_strict_run_stops_at_an_image_that_cannot_be_read(tmp_path: Path, readers: int) -> None:
    experiment = squares(tmp_path, "unreadable_every=5", strict=True, readers=readers)
    with pytest.raises(BadData, match=r"square-1\.png"):
        list(read(experiment, blocks(40)))


def test_a_block_of_which_nothing_can_be_read_is_an_empty_batch(tmp_path: Path) -> None:
    experiment = squares(tmp_path, "count=6, unreadable_every=2")
    batches = inputs(experiment.classifier, experiment.dataset, cut(1, 6, 1), experiment.device)
    assert [(block.start, tuple(x.shape)) for block, x in batches] == [
        (n, (0 if n % 2 else 1, 3, 224, 224)) for n in range(1, 6)
    ]


def test_no_image_is_read_before_its_block_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, found = squares(tmp_path), []
    original = Squares.__getitem__

    def counted(self: Squares, index: int) -> Sample:
        found.append(index)
        return original(self, index)

    monkeypatch.setattr(Squares, "__getitem__", counted)
    for block, x in inputs(experiment.classifier, experiment.dataset, cut(0, 40, 8), experiment.device):
        assert found == list(range(block.stop))
        expected = torch.stack([original(experiment.dataset, n).image for n in range(block.start, block.stop)])
        assert torch.equal(x, experiment.classifier.normalised(expected))


@pytest.mark.slow
def test_a_reader_that_was_killed_ends_the_run_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "readers").mkdir()
    data = f"waiting:Noted(folder={tmp_path / 'readers'}, deadly=5)"
    experiment = squares(tmp_path, dataset=data, readers=2)
    with pytest.raises(BadConfig, match="a process that reads images was killed"):
        list(read(experiment, blocks(40)))


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_readers_behind(tmp_path: Path) -> None:
    """Four of 650 MB each stayed for good."""
    folder = tmp_path / "readers"
    folder.mkdir()
    given = [
        "--dataset",
        f"waiting:Noted(folder={folder}, count=400)",
        "--model",
        "doubles:tiny",
        "--weights",
        "random",
    ]
    given += ["--method", "center", "--metric", "guards", "--device", "cpu", "--readers", "2", "--out", str(tmp_path)]
    run = subprocess.Popen(
        [sys.executable, "-m", "rapbench", "run", *given], env=with_doubles(), stderr=subprocess.PIPE
    )
    wait_for(lambda: len(list(folder.iterdir())) == 2)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    wait_for(lambda: not any(map(is_running, folder.iterdir())))


def with_doubles() -> dict[str, str]:
    """An environment in which the modules beside the tests are found."""
    folders = (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}


def wait_for(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def is_running(noted: Path) -> bool:
    try:
        return Path(f"/proc/{noted.name}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

"""Processes that work for a run: what they take for a library, and how they end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import doubles
import pytest
import torch
from torch import Tensor, nn

from rapbench.cli import main
from rapbench.workers import processes
from rapbench.workers.processes import exit_codes

CPU = torch.device("cpu")


def test_a_module_in_the_current_folder_stands_in_for_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "typer.py").write_text("import pathlib; pathlib.Path('taken').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(processes.__file__).parents[2]))
    assert exit_codes(2, ["list"], CPU) == [2, 2], "list knows no shards"
    assert not (tmp_path / "taken").exists()


def test_who_starts_processes_takes_them_along(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[processes.subprocess.Popen[bytes]] = []

    def start(command: list[str], **options: object) -> processes.subprocess.Popen[bytes]:
        if len(started) == 2:
            raise KeyboardInterrupt
        started.append(popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return started[-1]

    popen = processes.subprocess.Popen
    monkeypatch.setattr(processes.subprocess, "Popen", start)
    with pytest.raises(KeyboardInterrupt):
        exit_codes(3, [], CPU)
    assert [process.poll() for process in started] == [-signal.SIGTERM] * 2


@dataclass(frozen=True, kw_only=True)
class Failing:
    """Does to its process what a test wants."""

    title: ClassVar[str] = "Failing"
    signed: ClassVar[bool] = True
    do: ClassVar[Callable[[], object]] = staticmethod(lambda: 1 / 0)

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        self.do()
        return x


Shard = Callable[..., object]


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shard]:
    """The exit code of a process that does one shard of a run of a method that does something."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(doubles, "Failing", Failing, raising=False)
    options = {"model": "doubles:tiny", "weights": "random", "dataset": "doubles:Squares(count=32)", "device": "cpu"}
    options |= {"method": "doubles:Failing", "metric": "outside_inside", "out": str(tmp_path), "shard": "0/1"}
    monkeypatch.setattr(sys, "argv", ["rapbench", "run", *(p for k, v in options.items() for p in (f"--{k}", v))])

    def code(do: Callable[[], object]) -> object:
        monkeypatch.setattr(Failing, "do", staticmethod(do))
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    yield code
    signal.signal(signal.SIGTERM, before)


def test_a_shard_that_is_done_ends_with_0_and_one_with_a_failed_task_with_1(shard: Shard) -> None:
    assert shard(lambda: 1 / 0) == 1
    assert shard(lambda: None) == 0


def test_a_shard_that_is_terminated_says_so_by_its_code_and_gives_back_what_it_has_claimed(
    shard: Shard, tmp_path: Path
) -> None:
    assert shard(lambda: signal.raise_signal(signal.SIGTERM)) == 128 + signal.SIGTERM
    assert list((tmp_path / "claims").iterdir()) == []

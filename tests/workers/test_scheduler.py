"""A scheduler from outside: one file, named on the command line, does all that Slurm does for a run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from rapbench.cli.cancel import cancel
from rapbench.cli.run import run
from rapbench.cli.status import status
from rapbench.cli.submit import PASSED_ON, submit
from rapbench.core.errors import BadConfig, RapbenchError, UnknownName

TESTS = Path(__file__).parents[1]
SMALL = ["--model", "doubles:tiny", "--weights", "random", "--metric", "outside_inside", "--device", "cpu"]
THERE = ["--scheduler", "processes:Processes"]
Rapbench = Callable[..., Result]


@pytest.fixture
def rapbench(monkeypatch: pytest.MonkeyPatch) -> Rapbench:
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{TESTS.parent}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command(context_settings=PASSED_ON)(submit)
    for command in (run, status, cancel):
        app.command()(command)

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(result.exception, RapbenchError):
            raise result.exception
        return result

    return invoke


def until(true: Callable[[], object]) -> None:
    limit = time.monotonic() + 100
    while not true():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.3)


@pytest.mark.slow
def test_it_shares_a_run_and_is_watched_and_cancelled(rapbench: Rapbench, tmp_path: Path) -> None:
    out, go = tmp_path / "runs", tmp_path / "go"
    method = ["--method", f"waiting:Waiting(until={go})", "--dataset", "doubles:Squares(count=128)"]
    options = [*SMALL, *method, "--out", out]

    def shown() -> str:
        return rapbench("status", "--out", out).stdout

    first = rapbench("submit", *options, *THERE, "--shards", 2).stdout
    assert first == f"job here-0: 2 shards; rapbench status --out {out} shows how far they are\n"
    until(lambda: "2/4 tasks done, 2 running" in shown())
    assert "job here-0: 2 shards: 2 running" in shown()
    assert rapbench("cancel", "--out", out).stdout == "cancelled: here-0\n"
    assert rapbench("cancel", "--out", out).stdout.startswith("nothing to cancel")
    assert "2/4 tasks done" in shown()
    assert list((out / "claims").glob("[!.]*")) == []
    go.touch()
    rapbench("submit", *options, *THERE, "--shards", 1)
    until(lambda: "job here-1: 1 shards: 1 done" in shown())
    assert "4/4 tasks done" in shown()
    assert json.loads(rapbench("run", *options, "--json").stdout)["run"]["images"] == 128


def test_what_it_refuses_and_a_wrong_name_are_said_before_anything_is_made(rapbench: Rapbench, tmp_path: Path) -> None:
    options = [*SMALL, "--method", "random", "--dataset", "doubles:Squares", "--out", tmp_path / "runs"]
    with pytest.raises(BadConfig, match="3 shards are more than 2 processes"):
        rapbench("submit", *options, "--scheduler", "processes:Processes(most=2)", "--shards", 3)
    with pytest.raises(UnknownName, match="no scheduler named 'slrum': did you mean slurm"):
        rapbench("submit", *options, "--scheduler", "slrum")
    assert not (tmp_path / "runs").exists()
    assert rapbench("submit", *options, *THERE, "--shards", 2, "--print").stdout.count("--shard ") == 2

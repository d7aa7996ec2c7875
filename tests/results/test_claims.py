"""Leases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rapbench.core.errors import BadConfig
from rapbench.results.claims import Claims


def test_a_task_is_claimed_once_until_it_is_released(tmp_path: Path) -> None:
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        assert one.take("a")
        assert not other.take("a")
        assert other.take("b")
        one.release("a")
        assert other.take("a")


def test_of_many_workers_exactly_one_gets_each_task(tmp_path: Path) -> None:
    workers = [Claims(tmp_path) for _ in range(8)]
    for worker in workers:
        worker.__enter__()
    with ThreadPoolExecutor(8) as pool:
        for n in range(30):
            assert sum(pool.map(lambda worker, task=f"task {n}": worker.take(task), workers)) == 1
    for worker in workers:
        worker.__exit__(None, None, None)


def test_leaving_gives_everything_back(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims:
        claims.take("a")
    assert not list(tmp_path.iterdir())


def test_the_lease_of_a_process_that_is_gone_is_broken_at_once(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from rapbench.results.claims import Claims\n"
    code += "claims = Claims(Path(sys.argv[1])); claims.__enter__(); claims.take('a'); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / "a").exists()
    with Claims(tmp_path) as claims:
        assert claims.take("a")


def test_a_lease_from_elsewhere_expires_when_it_is_not_renewed(tmp_path: Path) -> None:
    lease = tmp_path / "a"
    lease.write_text(json.dumps({"host": "another", "pid": 1, "id": "x"}))
    with Claims(tmp_path, lease_seconds=60) as claims:
        assert not claims.take("a")
        os.utime(lease, (time.time() - 61,) * 2)
        assert claims.take("a")


def test_the_clock_of_a_worker_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Claims(tmp_path, lease_seconds=60) as one, Claims(tmp_path, lease_seconds=60) as other:
        assert one.take("a")
        monkeypatch.setattr(time, "time", lambda: 4e9)
        assert not other.take("a")


def test_a_long_task_stays_claimed(tmp_path: Path) -> None:
    with Claims(tmp_path, lease_seconds=0.5) as one, Claims(tmp_path, lease_seconds=0.5) as other:
        assert one.take("a")
        time.sleep(1.2)
        assert not other.take("a")


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match="cannot write to"), Claims(tmp_path / "file" / "claims"):
        pass

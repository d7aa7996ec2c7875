"""Leases."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
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


def killed_worker(folder: Path) -> None:
    """A process takes a task and is killed."""
    code = "import os, sys; from pathlib import Path; from rapbench.results.claims import Claims\n"
    code += "claims = Claims(Path(sys.argv[1])); claims.__enter__(); claims.take('a'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert (folder / "a").exists()


def test_the_lease_of_a_process_that_is_gone_is_broken_at_once(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims:
        killed_worker(tmp_path)
        assert claims.take("a")


def test_nothing_of_a_killed_worker_is_left_once_another_has_begun(tmp_path: Path) -> None:
    killed_worker(tmp_path)
    with Claims(tmp_path):
        assert not (tmp_path / "a").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("elsewhere", [{"host": "another"}, {"host": socket.gethostname(), "numbering": "pid:[1]"}])
def test_a_process_of_another_host_or_container_is_not_looked_for_among_those_of_this(
    tmp_path: Path, elsewhere: dict[str, str]
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lease = tmp_path / "a"
    lease.write_text(json.dumps({**elsewhere, "pid": ended.pid}))
    with Claims(tmp_path, lease_seconds=60) as claims:
        assert not claims.take("a")
        lease.write_text(json.dumps({"host": socket.gethostname(), "pid": ended.pid}))
        assert claims.take("a")


@pytest.mark.parametrize(
    "content",
    ["", '{"host": "anoth', "[]", "null", '{"host": 1, "pid": "x"}', "[" * 100_000, f'{{"pid": {10**30}}}', "\ud800"],
)
def test_a_lease_that_says_nothing_expires_by_its_age(tmp_path: Path, content: str) -> None:
    lease = tmp_path / "a"
    lease.write_bytes(content.encode(errors="surrogatepass"))
    with Claims(tmp_path, lease_seconds=60) as claims:
        assert not claims.take("a")
        os.utime(lease, (time.time() - 61,) * 2)
        assert claims.take("a")


def test_a_lease_from_further_in_the_future_than_leases_last_is_none(tmp_path: Path) -> None:
    lease = tmp_path / "a"
    lease.write_text(json.dumps({"host": "another", "pid": 1}))
    with Claims(tmp_path, lease_seconds=60) as claims:
        os.utime(lease, (time.time() + 50,) * 2)
        assert not claims.take("a")
        os.utime(lease, (time.time() + 100,) * 2)
        assert claims.take("a")


@pytest.mark.parametrize("put", [Path.mkdir, lambda path: path.symlink_to("nowhere"), os.mkfifo])
def test_what_is_no_file_is_no_lease(tmp_path: Path, put: Callable[[Path], None]) -> None:
    put(tmp_path / "a")
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        assert one.take("a")
        assert not other.take("a")


def test_a_lease_that_another_has_taken_over_is_not_given_back(tmp_path: Path) -> None:
    with Claims(tmp_path) as late, Claims(tmp_path) as other:
        assert late.take("a")
        (tmp_path / "a").unlink()
        assert other.take("a")
        late.release("a")
        assert (tmp_path / "a").exists()


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

"""Fixtures every test may ask for."""

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # tests on every core: a thread each, and one for what they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # tables as wide as they need, whatever terminal the tests are started from

import pytest
import torch


@pytest.fixture
def data_root() -> Path:
    """The folder of real data that RAPBENCH_DATA names."""
    root = os.environ.get("RAPBENCH_DATA")
    if not root:
        pytest.skip("RAPBENCH_DATA is not set: no real photographs to read")
    return Path(root)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _remembered_apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What files of tests hold is not noted in the user's cache."""
    monkeypatch.setattr("rapbench.core.contents.cache_folder", tmp_path_factory.getbasetemp)

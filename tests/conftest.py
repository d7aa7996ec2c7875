"""Fixtures every test may ask for."""

import os
from pathlib import Path

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

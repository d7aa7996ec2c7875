"""What is measured by scripts can be: their scenes are what metrics take."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from rapbench.metrics.deletion_insertion import DeletionInsertion
from rapbench.metrics.perturbation import Perturbation

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.mark.parametrize(
    "metric", [Perturbation(pixels=2, steps=2), DeletionInsertion()], ids=lambda m: type(m).__name__
)
def test_a_benchmark_s_scene_can_be_scored(metric: Perturbation | DeletionInsertion) -> None:
    spec = importlib.util.spec_from_file_location("measured", SCRIPTS / "measured.py")
    assert spec
    assert spec.loader
    measured = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(measured)
    x = torch.randn(2, 3, 8, 8)
    found = metric(measured.explained(x, torch.randn_like(x), lambda inputs: inputs.mean((2, 3))))
    assert all(len(column) == 2 for column in found.values())
    assert "measured" not in sys.modules

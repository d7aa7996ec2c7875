"""Whole runs on real photographs with real weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.data
Run = Callable[..., tuple[list[dict[str, Any]], int]]


@pytest.mark.parametrize(
    ("dataset", "metric", "variant"),
    [("voc", "segmentation", "miou@paper"), ("imagenet", "outside_inside", "pos_median")],
)
def test_photographs_are_explained_and_scored(
    run: Run, data_root: Path, dataset: str, metric: str, variant: str
) -> None:
    weights = data_root.parent / "weights" / "squeezenet1_0_imagenet.npz"
    model = {"model": "squeezenet1_0", "weights": str(weights), "data_root": data_root}
    results, computed = run(dataset=dataset, method="rap,random", limit=12, metric=metric, **model)
    rap, random = (
        next(r for r in results if (r["method"], r["metric"], r["variant"]) == (method, metric, variant))
        for method in ("rap", "random")
    )
    assert computed == 24
    assert rap["value"] > random["value"] if rap["direction"] == "higher" else rap["value"] < random["value"]
    assert rap["n"] + rap["n_dropped"] == 12
    (residual,) = [r for r in results if (r["method"], r["variant"]) == ("rap", "residual")]
    assert residual["value"] < 1e-4

"""Cells as a store would hand them to a report, with rows of known scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from rapbench.core.catalogue import parse_call
from rapbench.methods import METHODS
from rapbench.metrics import METRICS
from rapbench.metrics.segmentation import THRESHOLDS
from rapbench.report.tables import Held
from rapbench.run.plan import Named


def ratios(values: Sequence[float], start: int = 0) -> pd.DataFrame:
    """Rows of outside-inside ratios: ALL and POS of image i are values[i]."""
    n = len(values)
    parts = {"positive_inside": 1.0, "negative_inside": 0.0, "negative_outside": 0.0}
    areas = {"area_inside": 1, "area_outside": 1, "num_non_finite": 0}
    columns = {key: [value] * n for key, value in (parts | areas).items()}
    return _named(n, start).assign(**columns, positive_outside=list(values))


def masks(**counts: Sequence[Sequence[int]]) -> pd.DataFrame:
    """Rows of segmentation counts (N, 4) at the thresholds given, all background at the others."""
    (n,) = {len(rows) for rows in counts.values()}
    nothing = [[0, 0, 6, 10]] * n
    columns = {f"counts_{name}": [[*row, 0, 0] for row in counts.get(name, nothing)] for name in THRESHOLDS}
    return _named(n, 0).assign(**columns, num_labelled=16, num_non_finite=0)


def held(method: str, rows: pd.DataFrame, *, metric: str = "outside_inside", **chosen: Any) -> Held:
    """A cell of ImageNet and VGG-16, unless chosen otherwise."""
    given: dict[str, Any] = {"dataset": "imagenet", "model": "vgg16", "weights": "IMAGENET1K_V1", "backend": "native"}
    given |= {"seed": 0, "precision": "fp32", "device": "cpu", "rapbench": "1", "parameters": {}} | chosen
    call, measure = parse_call(method), parse_call(metric)
    thing = METHODS.build(call)
    source = {key: given[key] for key in ("dataset", "model", "weights", "backend")}
    title = f"{given['model']} ({given['weights']})"
    return Held(
        identity={
            "rapbench": given["rapbench"],
            "dataset": {"name": given["dataset"], "parameters": given["parameters"], "fingerprint": "f"}
            | ({"select": given["select"]} if "select" in given else {}),
            "model": {"name": given["model"], "weights": given["weights"], "digest": f"digest of {given['weights']}"},
            "method": {**Named(call.name, thing).identity(), "backend": given["backend"]},
            "metric": Named(measure.name, METRICS.build(measure)).identity(),
            **{key: given[key] for key in ("seed", "precision", "device")},
        },
        display={
            **source,
            "model_title": title,
            "method": Named(call.name, thing).label,
            "method_title": thing.title,
            "metric": metric,
            "signed": thing.signed,
        },
        read=lambda: (rows, chosen.get("skipped", {})),
    )


def _named(n: int, start: int) -> pd.DataFrame:
    index = np.arange(start, start + n)
    return pd.DataFrame({"index": index, "id": [f"image-{i}" for i in index], "label": 0, "target": 0})

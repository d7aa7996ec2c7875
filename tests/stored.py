"""Cells as a store would hand them to a report, with rows of known scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rapbench.core.catalogue import parse_call
from rapbench.core.named import Named
from rapbench.methods import METHODS
from rapbench.metrics import METRICS
from rapbench.metrics.segmentation import THRESHOLDS
from rapbench.report.result import Scored
from rapbench.results.cell import Cell, DatasetIdentity, Identity, MethodIdentity, MetricIdentity, ModelIdentity
from rapbench.results.store import Held, Incident, Rows


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


def cell(
    method: str = "rap",
    *,
    metric: str = "outside_inside",
    dataset: str = "imagenet",
    model: str = "vgg16",
    weights: str = "IMAGENET1K_V1",
    title: str = "",
    backend: str = "native",
    digest: str | None = None,
    seed: int = 0,
    select: str = "all",
    target: str = "predicted",
    precision: str = "fp32",
    device: str = "cpu",
    rapbench: str = "1",
    parameters: Mapping[str, Any] | None = None,
) -> Cell:
    """A cell of ImageNet and VGG-16, unless chosen otherwise; a method from outside is signed and called as typed."""
    call, measure = parse_call(method), parse_call(metric)
    thing = METHODS.build(call) if call.name in METHODS else None
    known = METHODS[call.name] if thing else None
    named, measured = Named(call.name, thing), Named(measure.name, METRICS.build(measure))
    from rapbench.core.named import parameters as of

    return Cell(
        identity=Identity(
            rapbench=rapbench,
            dataset=DatasetIdentity(name=dataset, parameters=parameters or {}, fingerprint="f", select=select),
            model=ModelIdentity(name=model, weights=weights, digest=f"digest of {weights}"),
            method=MethodIdentity(
                name=call.name, parameters=of(thing) if known else call.parameters, digest=digest, backend=backend
            ),
            metric=MetricIdentity(name=measure.name, parameters=of(measured.thing)),
            seed=seed,
            precision=precision,
            device=device,
            target=target,
        ),
        dataset=dataset,
        model_title=title or f"{model} ({weights})",
        method=named.label if known else method,
        method_title=thing.title if thing else method,
        metric=measured.label,
        signed=thing.signed if thing else True,
    )


def held(own: Cell, rows: pd.DataFrame, skipped: Mapping[str, int] | None = None) -> Held:
    """The cell with rows, and as many images that could not be read."""
    counts = (skipped or {}).items()
    incidents = [Incident(0, "", reason, skipped=True) for reason, count in counts for _ in range(count)]
    return Held(cell=own, read=lambda: Rows(rows, tuple(incidents)))


def scored(method: str, rows: pd.DataFrame, *, skipped: Mapping[str, int] | None = None, **chosen: Any) -> Scored:
    """A method's cell with rows, ready for a table."""
    return Scored(held=held(cell(method, **chosen), rows, skipped))


def _named(n: int, start: int) -> pd.DataFrame:
    index = np.arange(start, start + n)
    return pd.DataFrame({"index": index, "id": [f"image-{i}" for i in index], "label": 0, "target": 0})

"""Batches of explanations and stored rows, made by hand."""

from collections.abc import Callable
from dataclasses import fields

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rapbench.core.types import Batch, Explained, Network

BATCH = ("x", "boxes", "box_classes", "mask", "cells", "label", "seeds")
BLACK = (-2.0, -1.5, -1.0)
STD = (0.25, 0.3, 0.2)


@pytest.fixture
def weights() -> Tensor:
    """A linear classifier (3 · 24 · 24, 5) on images enlarged to 24 × 24 pixels."""
    return torch.randn(3 * 24 * 24, 5, generator=torch.Generator().manual_seed(1)) / 10


@pytest.fixture
def explain(weights: Tensor) -> Callable[..., Explained]:
    """A batch with the given relevance (N, C, H, W) or pixel map (N, H, W); the rest is random unless given."""

    def build(relevance: Tensor, **given: object) -> Explained:
        if relevance.ndim == 3:
            relevance = relevance.unsqueeze(1)
        n, _, *size = relevance.shape
        values = {
            "x": torch.randn(n, 3, *size),
            "boxes": (None,) * n,
            "box_classes": (None,) * n,
            "mask": (None,) * n,
            "cells": (None,) * n,
            "black": BLACK,
            "std": STD,
            "seeds": torch.arange(n),
            "label": torch.ones(n, dtype=torch.int64),
            "explain": lambda x, target, seeds: torch.zeros_like(x),
            "layers": lambda: ("last", "first"),
            "randomised": lambda names, statistics: lambda x, target, seeds: x**2 * (1 + len(names)) + x,
            "disconnected": lambda disconnection, n, cell: lambda x, target, seeds: x,
            "classify": lambda x: functional.interpolate(x, 24).flatten(1) @ weights,
        } | given
        if "logits" not in values:
            values["logits"] = values["classify"](values["x"]) if size == [24, 24] else torch.randn(n, 5)
        values.setdefault("target", values["logits"].argmax(1))
        network = Network(**{field.name: values.pop(field.name) for field in fields(Network)})
        batch = Batch(ids=tuple(map(str, range(n))), **{key: values.pop(key) for key in BATCH})
        return Explained(batch=batch, network=network, relevance=relevance, **values)

    return build


@pytest.fixture
def rows_of() -> Callable[..., pd.DataFrame]:
    """Rows as a run stores them: the metric's columns, the label (unknown by default) and the target."""

    def build(columns: dict[str, Tensor], *, label: object = -1, target: object = 0) -> pd.DataFrame:
        lists = {name: list(c.numpy()) if c.ndim > 1 else c.numpy() for name, c in columns.items()}
        n = len(next(iter(columns.values())))
        return pd.DataFrame(lists | {"index": range(n), "id": [f"image{i}" for i in range(n)]}).assign(
            label=label, target=target
        )

    return build

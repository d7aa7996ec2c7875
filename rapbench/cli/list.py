"""`rapbench list`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """What can be listed."""

    METHODS = "methods"
    MODELS = "models"
    DATASETS = "datasets"
    METRICS = "metrics"
    PAPERS = "papers"


def list_names(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """Print the names that run knows and what each is; methods with their backends, tables and figures of papers."""
    from rapbench.datasets import DATASETS
    from rapbench.metrics import METRICS
    from rapbench.models import MODELS

    if kind in {Kind.METHODS, Kind.PAPERS}:
        _print(_methods() if kind is Kind.METHODS else _exhibits())
        return
    catalogue = {Kind.MODELS: MODELS, Kind.DATASETS: DATASETS, Kind.METRICS: METRICS}[kind]
    _print([(name, entry.summary) for name, entry in catalogue.items()])


def _methods() -> list[tuple[str, str, str]]:
    from rapbench.backends import BACKENDS, providers

    return [(name, " ".join(found), BACKENDS.load(found[0])[name].summary) for name, found in providers().items()]


def _exhibits() -> list[tuple[str, str, str]]:
    """Tables and figures that `rapbench run` takes."""
    from rapbench.papers.card import exhibit, exhibits

    return [(name, exhibit(name).source, exhibit(name).title) for name in exhibits()]


def _print(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())

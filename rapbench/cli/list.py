"""`rapbench list`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """What can be listed."""

    METHODS = "methods"
    MODELS = "models"
    DATASETS = "datasets"
    METRICS = "metrics"


def list_names(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """Print the names that run knows and what each is."""
    from rapbench.datasets import DATASETS
    from rapbench.methods import METHODS
    from rapbench.metrics import METRICS
    from rapbench.models import MODELS

    catalogue = {Kind.METHODS: METHODS, Kind.MODELS: MODELS, Kind.DATASETS: DATASETS, Kind.METRICS: METRICS}[kind]
    width = max(map(len, catalogue))
    for name, entry in catalogue.items():
        typer.echo(f"{name:<{width}}  {entry.summary}")

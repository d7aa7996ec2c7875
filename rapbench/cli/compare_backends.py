"""`rapbench compare-backends`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from rapbench.cli.options import DEFAULTS, AsJson, DataRoot, Dataset, Limit, Model, Weights
from rapbench.core.stages import stage
from rapbench.run.spec import RunSpec

if TYPE_CHECKING:
    from rapbench.doctor.compare import Comparison


def compare_backends(
    method: Annotated[
        list[str] | None,
        typer.Option(help="Methods, joined by commas or repeated. [default: all that two backends provide]"),
    ] = None,
    model: Model = DEFAULTS.model,
    weights: Weights = DEFAULTS.weights,
    dataset: Dataset = DEFAULTS.dataset,
    data_root: DataRoot = DEFAULTS.data_root,
    limit: Limit = 8,
    as_json: AsJson = False,
) -> None:
    """Explain the same images by the methods that several backends provide, and print how far these are apart.

    Printed is the largest relative difference of a map (L1, over images), in double precision, and why the backends'
    definitions differ where they do.
    """
    options = {"model": model, "weights": weights, "dataset": dataset, "data_root": data_root, "limit": limit}
    spec = RunSpec.read(None, options)

    from rapbench.cli.progress import ProgressBar
    from rapbench.doctor.compare import compare, shared
    from rapbench.run.resolve import prepare

    calls = shared(method or [])
    with ProgressBar(), stage(f"loading {dataset} and {model}"):
        experiment = prepare(spec)
    with ProgressBar():
        found = list(compare(experiment, calls))
    if as_json:
        run = {"model_title": experiment.classifier.title, "dataset": dataset, "images": experiment.limit}
        typer.echo(json.dumps({"run": run, "comparisons": [comparison.document() for comparison in found]}))
        return
    typer.echo(f"{experiment.classifier.title} on {experiment.limit} images of {experiment.dataset_name}, fp64\n")
    width = max(map(len, map(str, calls)))
    typer.echo(f"{'method':<{width}}  {'backends':<13}  difference  by definition")
    for comparison in found:
        typer.echo(f"{comparison.method:<{width}}  {_line(comparison)}")


def _line(comparison: Comparison) -> str:
    backends = f"{' '.join(comparison.backends):<13}"
    if comparison.difference is None:
        return f"{backends}  refused     {comparison.refusal}"
    return f"{backends}  {comparison.difference:<10.1e}  {comparison.expected or 'equal'}"

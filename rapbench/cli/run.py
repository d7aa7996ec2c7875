"""`rapbench run`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rapbench.report.tables import Result
    from rapbench.run.plan import Experiment
    from rapbench.run.store import Rows, Store

Many = Annotated[list[str] | None, typer.Option()]


def run(
    context: typer.Context,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Methods, joined by commas or repeated; parameters in brackets. [default: rap]"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Network. [default: vgg16]")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="auto, random, a torchvision weight name, or a .pt, .pth, .safetensors or .npz file. [default: auto]"
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Images. [default: scenes]")] = None,
    data_root: Annotated[Path | None, typer.Option(envvar="RAPBENCH_DATA", help="Folder of the data sets.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metrics, like --method. [default: all that the images support]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first images. [default: all; 96 of scenes]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [default: 0]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda. [default: auto]")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a batch; halves itself when memory runs out. [default: chosen]")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, tf32 or bf16. [default: fp32]")] = None,
    backend: Annotated[str | None, typer.Option(help="Where the methods come from. [default: native]")] = None,
    out: Annotated[Path | None, typer.Option(help="Results folder. [default: results/runs]")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of these options; the command line wins.")] = None,
    save_maps: Annotated[
        Path | None, typer.Option(help="Folder for one .npz per image and method: relevance, target, logit.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be done, stop.")] = False,
) -> None:
    """Explain images with attribution methods and score the explanations.

    Rows are kept in the results folder: a run that was stopped goes on where it was, and a metric or method asked for
    later is computed alone.
    """
    from rapbench.cli.progress import Progress
    from rapbench.run.engine import execute
    from rapbench.run.plan import prepare
    from rapbench.run.spec import RunSpec
    from rapbench.run.store import Store

    options = {key: value for key, value in context.params.items() if key in RunSpec.model_fields}
    started = time.monotonic()
    experiment = prepare(RunSpec.read(config, options))
    store = Store(experiment.spec.out)
    tasks = experiment.pending(store)
    total = sum(task.block.stop - task.block.start for task in tasks)
    if dry_run:
        typer.echo(_summary(experiment) + f"\nto explain: {total} images (one count for each method)")
        return
    with Progress(total) as progress:
        execute(experiment, tasks, store, progress)
    seconds = time.monotonic() - started
    found = collected(experiment, store)
    if as_json:
        typer.echo(
            json.dumps({"run": _run_document(experiment, store, seconds), "results": [r.document() for r in found]})
        )
        return
    from rapbench.report.tables import text

    incidents = _incidents(_whole(experiment, store))
    typer.echo(f"{_summary(experiment)}\n{incidents}{total} explanations in {seconds:.1f} s")
    typer.echo(f"{_guards(found)}\n\n{text(found)}")


def collected(experiment: Experiment, store: Store) -> list[Result]:
    """The results of an experiment, in the order of its metrics and methods."""
    from rapbench.report.tables import results

    found = []
    for metric in experiment.metrics:
        for method in experiment.methods:
            cell = experiment.cells[method.label, metric.label]
            rows = store.rows(cell, experiment.blocks(cell))
            found += results(cell.identity, cell.display, rows.frame, rows.skipped())
    return found


def _summary(experiment: Experiment) -> str:
    cells = [experiment.cells[experiment.methods[0].label, metric.label] for metric in experiment.metrics]
    counts = ", ".join(f"{cell.display['metric']} on {cell.limit}" for cell in cells)
    device = f"{experiment.device.type} ({experiment.spec.precision})"
    return (
        f"{experiment.classifier.title} on {experiment.limit} images of {experiment.dataset_name}, {device}: {counts}"
    )


def _run_document(experiment: Experiment, store: Store, seconds: float) -> dict[str, Any]:
    from rapbench.run.plan import versions

    rows = _whole(experiment, store)
    return {
        **experiment.spec.model_dump(mode="json"),
        "model_title": experiment.classifier.title,
        "images": experiment.limit,
        "skipped": rows.skipped(),
        "noted": rows.noted(),
        "versions": versions(),
        "device": experiment.device.type,
        "seconds": round(seconds, 3),
    }


def _whole(experiment: Experiment, store: Store) -> Rows:
    """Rows of a cell that takes all of the run's images."""
    method = experiment.methods[0].label
    cell = max((experiment.cells[method, metric.label] for metric in experiment.metrics), key=lambda cell: cell.limit)
    return store.rows(cell, experiment.blocks(cell))


def _guards(found: list[Result]) -> str:
    """A line on maps that are not what they should be."""
    broken = [
        f"{result.source['method']} {result.estimate.value:.3g} % {what}"
        for variant, what in {"non_finite": "not finite", "constant": "constant"}.items()
        for result in found
        if result.source["metric"] == "guards" and result.variant == variant and result.estimate.value
    ]
    residuals = {
        result.source["method"]: result.estimate.value
        for result in found
        if result.variant == "residual" and result.estimate.value is not None
    }
    worst = max(residuals, key=lambda method: residuals[method], default=None)
    sums = f"; sums off by {residuals[worst]:.0e} at most ({worst}, median over images)" if worst else ""
    return f"guards: {', '.join(broken) or 'every map finite, none constant'}{sums}"


def _incidents(rows: Rows) -> str:
    """A line on images that were skipped or unusual, empty where there were none."""
    parts = [f"{count} {reason} (skipped)" for reason, count in rows.skipped().items()]
    parts += [f"{count} {reason}" for reason, count in rows.noted().items()]
    return f"images: {', '.join(parts)}\n" if parts else ""

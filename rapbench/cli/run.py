"""`rapbench run`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rapbench.cli.finished import finished, summary
from rapbench.cli.options import (
    DEFAULTS,
    METHODS,
    AsJson,
    Backend,
    Config,
    DataRoot,
    Dataset,
    Device,
    MethodList,
    Model,
    Out,
    Seed,
    Weights,
    specs,
)
from rapbench.run.spec import RunSpec

if TYPE_CHECKING:
    from rapbench.run.plan import Experiment


def run(
    context: typer.Context,
    method: MethodList = METHODS,
    model: Model = DEFAULTS.model,
    weights: Weights = DEFAULTS.weights,
    dataset: Dataset = DEFAULTS.dataset,
    data_root: DataRoot = DEFAULTS.data_root,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metrics, like --method. [default: all that the images support]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first images. [default: all; 96 of scenes]")
    ] = DEFAULTS.limit,
    select: Annotated[
        str, typer.Option(help="all, or correct: only images that the network classifies correctly.")
    ] = DEFAULTS.select,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Take the images in an order drawn by the seed.")
    ] = DEFAULTS.shuffle,
    seed: Seed = DEFAULTS.seed,
    device: Device = DEFAULTS.device,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a batch; halves itself when memory runs out. [default: chosen]")
    ] = DEFAULTS.batch_size,
    readers: Annotated[
        int | None,
        typer.Option(help="Processes that read images ahead; 0: the run itself. [default: 8 on cuda, else 0]"),
    ] = DEFAULTS.readers,
    precision: Annotated[str, typer.Option(help="fp32, fp64, tf32 or bf16.")] = DEFAULTS.precision,
    backend: Backend = DEFAULTS.backend,
    out: Out = DEFAULTS.out,
    config: Config = None,
    part: Annotated[list[str] | None, typer.Option(help="Only these parts of the config. [default: all]")] = None,
    shard: Annotated[
        str | None, typer.Option(help="Do the i-th of N shares of the tasks (i/N from 0, or env), print no tables.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes on this machine, each with a GPU.")] = None,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Add to rows of other library versions or another device.")
    ] = DEFAULTS.allow_mixed,
    save_maps: Annotated[
        Path | None, typer.Option(help="Folder for one .npz per image and method: relevance, target, logit.")
    ] = DEFAULTS.save_maps,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")
    ] = DEFAULTS.strict,
    as_json: AsJson = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what would be done and what it would cost, stop.")
    ] = False,
) -> None:
    """Explain images with attribution methods and score the explanations.

    Rows are kept in the results folder: a run that was stopped goes on where it was, and a metric or method asked for
    later is computed alone.
    """
    experiments = _prepared(specs(context))
    studied = {name: experiment for name, experiment in experiments.items() if experiment.spec.study}
    for name, experiment in studied.items():
        typer.echo(_headed(name, _studied(experiment)))
        del experiments[name]
    if not experiments:
        return
    if dry_run:
        typer.echo("\n\n".join(_headed(name, _plan(experiment)) for name, experiment in experiments.items()))
        return
    if shard is not None:
        raise typer.Exit(_work(experiments, shard))
    if workers is not None:
        _spread(workers, experiments)
    documents = {}
    for name, experiment in experiments.items():
        done = finished(experiment)
        documents[name] = done.document()
        if not as_json:
            typer.echo(_headed(name, done.text()) + ("\n" if len(experiments) > 1 else ""))
    if as_json:
        typer.echo(json.dumps(documents[""] if documents.keys() == {""} else {"parts": documents}))


def _spread(workers: int, experiments: Mapping[str, Experiment]) -> None:
    """Lets processes on this machine do the work; what a lost one leaves undone, this process does afterwards."""
    from rapbench.workers.processes import exit_codes

    arguments = [
        a for a, before in zip(sys.argv[1:], ["", *sys.argv[1:]], strict=False) if "--workers" not in (a, before)
    ]
    arguments = [a for a in arguments if not a.startswith("--workers=")]
    codes = exit_codes(workers, arguments, next(iter(experiments.values())).device)
    for k, code in enumerate(codes):
        if code:
            typer.echo(f"worker {k} of {workers} ended with exit code {code}", err=True)


def _work(experiments: Mapping[str, Experiment], shard: str) -> int:
    """Does one shard; 1 where a task of it failed."""
    from rapbench.cli.progress import ProgressBar
    from rapbench.results.store import Store
    from rapbench.run.selection import settled
    from rapbench.workers.shards import Shard, work, written_plan

    share = Shard.parse(shard)
    experiments = {name: settled(experiment) for name, experiment in experiments.items()}
    store = Store(next(iter(experiments.values())).spec.out)
    written_plan(experiments, store.root)
    total = sum(task.block.stop - task.block.start for e in experiments.values() for task in share.of(e.tasks()))
    with ProgressBar(total) as progress:
        outcome = work(list(experiments.values()), share, store, progress)
    failed = f", {len(outcome.failed)} failed: {', '.join(outcome.failed)}" if outcome.failed else ""
    typer.echo(f"shard {share.index}/{share.count}: {outcome.done} tasks done, {outcome.found} were{failed}")
    return 1 if outcome.failed else 0


def _studied(experiment: Experiment) -> str:
    """Carries out a study; says where its rows are."""
    from rapbench.cli.progress import ProgressBar
    from rapbench.run.study import STUDIES

    study = STUDIES.load(experiment.spec.study or "")
    return f"{experiment.spec.study} of {experiment.classifier.title}: {study(experiment, ProgressBar)}"


def _prepared(runs: Mapping[str, RunSpec]) -> dict[str, Experiment]:
    """Every part loaded and checked before anything is computed."""
    from rapbench.core.errors import DataMissing
    from rapbench.run.resolve import prepare

    experiments = {}
    for name, spec in runs.items():
        try:
            experiments[name] = prepare(spec)
        except DataMissing as error:
            if not name:
                raise
            others = ",".join(other for other in runs if other != name)
            raise DataMissing(
                f"part {name}: {error}" + (f" (--part {others} leaves it out)" if others else "")
            ) from error
    return experiments


def _headed(name: str, text: str) -> str:
    return f"part {name}: {text}" if name else text


def _plan(experiment: Experiment) -> str:
    """What a run would do and cost."""
    from rapbench.results.store import Store
    from rapbench.run.probe import probe
    from rapbench.run.selection import selection_file, stored

    selection = ""
    if experiment.spec.select == "correct":
        found = stored(selection_file(experiment))
        selection = f"\nselection: {found if found.ids else 'not made yet; counted as if every image were correct'}"
    tasks = experiment.pending(Store(experiment.spec.out))
    costs = probe(experiment, tasks)
    total = sum(task.block.stop - task.block.start for task in tasks)
    lines = [f"{summary(experiment)}{selection}", f"to explain: {total} images (one count for each method)"]
    if costs:
        width = max(len(cost.stage) for cost in costs)
        lines += [f"{'stage':<{width}}  forward passes  images  minutes, from a probe of one batch"]
        lines += [f"{c.stage:<{width}}  {c.forwards:<14.1f}  {c.images:<6}  {c.seconds / 60:.1f}" for c in costs]
        forwards = sum(cost.forwards * cost.images for cost in costs)
        lines += [
            f"in all: {forwards:.0f} forward passes of an image, {sum(c.seconds for c in costs) / 60:.1f} minutes"
        ]
    return "\n".join(lines)

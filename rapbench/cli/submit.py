"""`rapbench submit`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, cast

import typer

from rapbench.cli.options import specs
from rapbench.cli.run import run
from rapbench.core.errors import BadConfig
from rapbench.run.spec import RunSpec
from rapbench.workers.scheduler import Job, Resources

_TASKS_A_SHARD = 8
"""Enough work to be worth a shard's start: imports, the model and the first image."""
_USUAL = Resources()

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of the command: options that are not its own are those of `rapbench run`."""


def submit(
    context: typer.Context,
    scheduler: Annotated[str, typer.Option(help="slurm, or module:Class for one of your own.")] = "slurm",
    partition: Annotated[
        str | None, typer.Option(help="The cluster's partition. [default: the cluster's]")
    ] = _USUAL.partition,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs a shard; 0 on a cluster without.")] = _USUAL.gpus,
    cpus: Annotated[int, typer.Option(min=1, help="CPU cores a shard.")] = _USUAL.cpus,
    memory: Annotated[str, typer.Option(help="Memory a shard.")] = _USUAL.memory,
    time: Annotated[
        str, typer.Option(help="Time limit of a shard, after which it is queued again and goes on.")
    ] = _USUAL.time,
    max_parallel: Annotated[int, typer.Option(min=1, help="Shards that run at the same time.")] = _USUAL.max_parallel,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Shards in all. [default: one for 8 tasks, at most --max-parallel]")
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="How often a failed shard is tried again, on another node.")
    ] = _USUAL.retries,
    setup: Annotated[
        list[str] | None, typer.Option(help="Shell line before the run, such as 'module load cuda'; repeated.")
    ] = None,
    print_script: Annotated[
        bool, typer.Option("--print", help="Print the script instead of queueing it; needs no Slurm here.")
    ] = False,
) -> None:
    """Run on a cluster as a job array; takes the options of rapbench run as well, --config and --out first.

    Every shard is given its part of the tasks. Preempted or out of time, it is queued again and goes on where it was.
    """
    from rapbench.workers import jobs

    options = _options(context.args)
    runs, config = specs(options), options.params["config"]
    out = _results_folder(runs)
    job = _job(context, runs, config, (out / "jobs").absolute())
    chosen = jobs.scheduler(scheduler)
    script = chosen.script(job)
    if not print_script:
        chosen.examine(job)
    _make(job.folder, config)
    if print_script:
        typer.echo(script, nl=False)
        return
    number = jobs.queued(job)
    text = f"job {number}: {job.shards} shards; rapbench status --out {out} shows how far they are"
    document = {"job": number, "shards": job.shards, "out": str(out)}
    typer.echo(json.dumps(document) if options.params["as_json"] else text)


def _job(context: typer.Context, runs: Mapping[str, RunSpec], config: Path | None, folder: Path) -> Job:
    """The runs as a job; that they could begin where it runs is checked on the way."""
    from rapbench.run.resolve import rehearse
    from rapbench.workers import RAPBENCH

    given, tasks = context.params, sum(map(rehearse, runs.values()))
    copy = ["--config", str(_copy(config, folder))] if config else []
    resources = {field.name: given[field.name] for field in fields(Resources)}
    return Job(
        scheduler=given["scheduler"],
        command=[*RAPBENCH, "run", *context.args, *copy],
        shards=given["shards"] or max(1, min(given["max_parallel"], -(-tasks // _TASKS_A_SHARD))),
        folder=folder,
        resources=Resources(**{**resources, "setup": tuple(given["setup"] or ())}),
    )


def _options(arguments: Sequence[str]) -> typer.Context:
    """What `rapbench run` would be given by these arguments, checked as that command checks them."""
    app = typer.Typer(add_completion=False)
    app.command()(run)
    context = cast("typer.Context", typer.main.get_command(app).make_context("rapbench submit", [*arguments]))
    for name in ("shard", "workers", "dry_run"):
        if context.params[name]:
            raise BadConfig(f"submit decides on its own who does what: leave out --{name.replace('_', '-')}")
    return context


def _results_folder(runs: Mapping[str, RunSpec]) -> Path:
    folders = {spec.out for spec in runs.values()}
    if len(folders) > 1:
        raise BadConfig(f"the parts write to {len(folders)} folders; give one --out, or submit them one by one")
    return folders.pop()


def _copy(config: Path, folder: Path) -> Path:
    """Where a copy of the config is put: a shard that starts or goes on later reads what was submitted."""
    return folder / f"{config.stem}.{hashlib.sha256(config.read_bytes()).hexdigest()[:8]}.toml"


def _make(folder: Path, config: Path | None) -> None:
    """The folder, with its copy of the config."""
    from rapbench.core.writing import write_whole

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadConfig(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
    if config:
        write_whole(_copy(config, folder), config.read_bytes())

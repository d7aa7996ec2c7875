"""`rapbench submit`."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rapbench.cli.options import typed
from rapbench.cli.run import run
from rapbench.core.errors import BadConfig
from rapbench.run.spec import RunSpec, read_parts

if TYPE_CHECKING:
    from rapbench.run.slurm import Resources

_SHARDS_A_TASK = 8
"""Enough work to be worth a task's start: imports, the model and the first image."""

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of the command: options that are not its own are those of `rapbench run`."""


def submit(
    context: typer.Context,
    partition: Annotated[str | None, typer.Option(help="Slurm partition. [default: the cluster's]")] = None,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs a task; 0 on a cluster without.")] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="CPU cores a task.")] = 4,
    memory: Annotated[str, typer.Option(help="Memory a task.")] = "16G",
    time: Annotated[str, typer.Option(help="Time limit of a task, after which it is queued again and goes on.")] = (
        "2:00:00"
    ),
    max_parallel: Annotated[int, typer.Option(min=1, help="Tasks that run at the same time.")] = 64,
    tasks: Annotated[
        int | None, typer.Option(min=1, help="Tasks in all. [default: one for 8 shards, at most --max-parallel]")
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a failed task is tried again, on another node.")] = 2,
    setup: Annotated[
        list[str] | None, typer.Option(help="Shell line before the run, such as 'module load cuda'; repeated.")
    ] = None,
    print_script: Annotated[
        bool, typer.Option("--print", help="Print a plain sbatch script instead; needs no Slurm here.")
    ] = False,
) -> None:
    """Run on a Slurm cluster as a job array; takes the options of rapbench run as well, --config and --out first.

    Every task is given its part of the shards. Preempted or out of time, it is queued again and goes on where it was.
    """
    from rapbench.run.slurm import Resources, examine, script

    options = _options(context.args)
    specs = _specs(options)
    out = _results_folder(specs)
    resources = Resources(
        tasks=tasks or max(1, min(max_parallel, -(-_shards(specs) // _SHARDS_A_TASK))),
        partition=partition,
        gpus=gpus,
        cpus=cpus,
        memory=memory,
        time=time,
        max_parallel=max_parallel,
        retries=retries,
        setup=tuple(setup or ()),
    )
    if print_script:
        typer.echo(script(["rapbench", "run", *context.args], resources, out / "jobs"), nl=False)
        return
    examine(resources, out)
    folder = out / "jobs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = _kept(options.params["config"], folder)
    except OSError as error:
        raise BadConfig(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
    job = _submitted([sys.executable, "-m", "rapbench", "run", *context.args, *kept], resources, folder)
    typer.echo(f"job {job}: {resources.tasks} tasks; rapbench status --out {out} shows how far they are")


def _options(arguments: Sequence[str]) -> typer.Context:
    """What `rapbench run` would be given by these arguments, checked as that command checks them."""
    app = typer.Typer(add_completion=False)
    app.command()(run)
    context = cast("typer.Context", typer.main.get_command(app).make_context("rapbench submit", [*arguments]))
    for name in ("shard", "workers", "dry_run"):
        if context.params[name]:
            raise BadConfig(f"submit decides on its own who does what: leave out --{name.replace('_', '-')}")
    return context


def _specs(options: typer.Context) -> Mapping[str, RunSpec]:
    names = [name.strip() for value in options.params["part"] or [] for name in value.split(",")]
    return read_parts(options.params["config"], typed(options), names)


def _results_folder(specs: Mapping[str, RunSpec]) -> Path:
    folders = {spec.out for spec in specs.values()}
    if len(folders) > 1:
        raise BadConfig(f"the parts write to {len(folders)} folders; give one --out, or submit them one by one")
    return folders.pop()


def _shards(specs: Mapping[str, RunSpec]) -> int:
    """How many shards the runs have; that a run would accept their settings is checked on the way."""
    from rapbench.run import resolve
    from rapbench.run.plan import blocks

    images = [(spec, resolve.wanted(spec, resolve.rehearse(spec))) for spec in specs.values()]
    return sum(len(resolve.settings(spec).methods) * len(blocks(count)) for spec, count in images)


def _kept(config: Path | None, folder: Path) -> list[str]:
    """Options that name a copy of the config: a task that starts or goes on later reads what was submitted."""
    if config is None:
        return []
    content = config.read_bytes()
    copy = folder / f"{config.stem}.{hashlib.sha256(content).hexdigest()[:8]}.toml"
    copy.write_bytes(content)
    return ["--config", str(copy)]


def _submitted(command: Sequence[str], resources: Resources, folder: Path) -> str:
    try:
        from rapbench.run import cluster
    except ModuleNotFoundError as error:
        raise BadConfig('submit needs submitit: pip install "rapbench[slurm]"; --print does not') from error
    return cluster.submit(command, resources, folder)

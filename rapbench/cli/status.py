"""`rapbench status`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rapbench.cli.options import DEFAULTS, AsJson, Out
from rapbench.core.errors import BadConfig

if TYPE_CHECKING:
    from rapbench.run.status import Status


def status(out: Out = DEFAULTS.out, as_json: AsJson = False) -> None:
    """Show how far runs are: shards done, running and failed, images/s, time left, and the jobs of a cluster."""
    from rapbench.run.status import statuses

    found = statuses(out)
    jobs = _jobs(out / "jobs")
    if as_json:
        typer.echo(json.dumps({"plans": [asdict(plan) for plan in found], "jobs": jobs}))
        return
    lines = [line for plan in found for line in _lines(plan)] + [f"job {job}: {text}" for job, text in jobs.items()]
    typer.echo("\n".join(lines) or f"no run has begun in {out}")


def _lines(plan: Status) -> list[str]:
    """A line on a plan, and one for each failure."""
    parts = [f"{plan.done}/{plan.shards} shards done"]
    parts += [f"{plan.running} running"] if plan.running else []
    parts += [f"{len(plan.failures)} failed"] if plan.failures else []
    parts += [f"{plan.images_per_second:.1f} images/s"] if plan.images_per_second else []
    parts += [f"{_duration(plan.seconds_left)} left"] if plan.seconds_left else []
    named = f"{plan.digest} ({', '.join(plan.parts)})" if any(plan.parts) else plan.digest
    return [
        f"plan {named}: {', '.join(parts)}",
        *(f"  {f.task} on {f.host}, {f.count}x: {f.last_line}" for f in plan.failures),
    ]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if seconds >= 90 else f"{seconds:.0f} s"


def _jobs(folder: Path) -> Mapping[str, str]:
    """What is known of each job that was submitted for a results folder."""
    from rapbench.run import slurm

    tasks = slurm.recorded(folder)
    try:
        states = slurm.states(tasks)
    except BadConfig as error:
        return {job: f"{count} tasks, states unknown ({error})" for job, count in tasks.items()}
    return {job: _job(folder, job, count, states[job]) for job, count in tasks.items()}


def _job(folder: Path, job: str, tasks: int, states: Mapping[str, int]) -> str:
    text = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    if states.get("FAILED") and not any(folder.glob(f"{job}_*log*")):
        text += f"; no task wrote to {folder}: do the nodes see it?"
    return f"{tasks} tasks: {text or 'ended'}"

"""`rapbench status`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from rapbench.cli.options import DEFAULTS, AsJson, Out

if TYPE_CHECKING:
    from rapbench.workers.status import Status


def status(out: Out = DEFAULTS.out, as_json: AsJson = False) -> None:
    """Show how far runs are: tasks done, running and failed, images/s, time left, and the jobs of a cluster."""
    from rapbench.workers.jobs import told
    from rapbench.workers.status import statuses

    found, jobs = statuses(out), told(out / "jobs")
    if as_json:
        typer.echo(json.dumps({"plans": [asdict(plan) for plan in found], "jobs": jobs}))
        return
    lines = [line for plan in found for line in _lines(plan)] + [f"job {job}: {text}" for job, text in jobs.items()]
    typer.echo("\n".join(lines) or f"no run has begun in {out}")


def _lines(plan: Status) -> list[str]:
    """A line on a plan, and one for each failure."""
    parts = [f"{plan.done}/{plan.tasks} tasks done"]
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

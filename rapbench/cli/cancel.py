"""`rapbench cancel`."""

from __future__ import annotations

import typer

from rapbench.cli.options import DEFAULTS, Out


def cancel(out: Out = DEFAULTS.out) -> None:
    """Cancel the cluster's jobs that work for a results folder; what is done is kept."""
    from rapbench.core.errors import DataMissing
    from rapbench.run import slurm

    jobs = slurm.recorded(out / "jobs")
    if not jobs:
        raise DataMissing(f"no job was submitted for {out}")
    active = [job for job, states in slurm.states(jobs).items() if any(slurm.is_active(state) for state in states)]
    if active:
        slurm.cancel(active)
    typer.echo(f"cancelled: {', '.join(active)}" if active else "nothing to cancel: every job has ended")

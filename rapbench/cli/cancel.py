"""`rapbench cancel`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def cancel(
    out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results/runs"),
) -> None:
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

"""`rapbench cancel`."""

from __future__ import annotations

import typer

from rapbench.cli.options import DEFAULTS, Out


def cancel(out: Out = DEFAULTS.out) -> None:
    """Cancel the jobs that work for a results folder; what is done is kept."""
    from rapbench.core.errors import DataMissing
    from rapbench.workers import jobs

    if not jobs.recorded(out / "jobs"):
        raise DataMissing(f"no job was submitted for {out}")
    ended = jobs.cancelled(out / "jobs")
    typer.echo(f"cancelled: {', '.join(ended)}" if ended else "nothing to cancel: every job has ended")

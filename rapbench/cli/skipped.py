"""Images that could not be read: named in the results folder, the first of them also where a run is told of."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from rapbench.core.errors import BadData

if TYPE_CHECKING:
    from rapbench.results.store import Incident, Rows
    from rapbench.run.plan import Experiment

_NAMED = 3
"""Images that a line names."""


def note(rows: Rows, experiment: Experiment) -> None:
    """Writes down which images could not be read, and why.

    Raises:
        BadData: none could.
    """
    from rapbench.core.writing import write_whole

    if not (found := _skipped(rows)):
        return
    table = io.StringIO()
    csv.writer(table).writerows([("id", "reason"), *((incident.id, incident.reason) for incident in found)])
    write_whole(_file(experiment), table.getvalue().encode())
    if rows.frame.empty:
        reasons = ", ".join(f"{count} {reason}" for reason, count in rows.skipped().items())
        raise BadData("no image can be read", experiment.dataset_name, f"{reasons}, all named in {_file(experiment)}")


def line(rows: Rows, experiment: Experiment) -> str:
    """The first of them and where the others are named; empty where all could be read."""
    if not (found := _skipped(rows)):
        return ""
    rest = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"skipped: {', '.join(incident.id for incident in found[:_NAMED])}{rest}, all named in {_file(experiment)}"


def _skipped(rows: Rows) -> list[Incident]:
    return [incident for incident in rows.incidents if incident.skipped]


def _file(experiment: Experiment) -> Path:
    return experiment.spec.out / "skipped" / f"{experiment.dataset_name.replace(':', '-')}.csv"

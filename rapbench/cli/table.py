"""`rapbench table`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def table(
    out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results/runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Print what the results folder holds."""
    from rapbench.core.errors import DataMissing
    from rapbench.report.tables import results, text
    from rapbench.run.store import Store

    store = Store(out)
    held = ((cell, store.held(cell)) for cell in store.cells())
    found = [r for cell, rows in held for r in results(cell.identity, cell.display, rows.frame, rows.skipped())]
    if not found:
        raise DataMissing(f"no results in {out}; `rapbench run` writes some, --out names another folder")
    typer.echo(json.dumps({"results": [r.document() for r in found]}) if as_json else text(found))

"""`rapbench export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rapbench.cli.options import (
    OUTS,
    OnlyDataset,
    OnlyDevice,
    OnlyMethods,
    OnlyMetrics,
    OnlyModel,
    OnlyPrecision,
    OnlySeed,
    OnlySelect,
    OnlyTarget,
    OnlyWeights,
    Outs,
    Verify,
    filter_of,
    path,
    refuse_damaged,
    stores,
)
from rapbench.report.formats import TableForm

if TYPE_CHECKING:
    from collections.abc import Collection


def export(
    context: typer.Context,
    to: Annotated[Path, typer.Option(parser=path, help="Folder to write: empty, or an earlier export.")],
    out: Outs = OUTS,
    form: Annotated[TableForm, typer.Option("--format", help="How rows are written.")] = TableForm.PARQUET,
    verify: Verify = False,
    method: OnlyMethods = None,
    metric: OnlyMetrics = None,
    model: OnlyModel = None,
    dataset: OnlyDataset = None,
    weights: OnlyWeights = None,
    select: OnlySelect = None,
    target: OnlyTarget = None,
    seed: OnlySeed = None,
    precision: OnlyPrecision = None,
    device: OnlyDevice = None,
) -> None:
    """Write the rows of a results folder for others to read without this program, and print the files.

    A file holds what all methods scored by one metric on one data set with one network. Beside them are spec.json, a
    README that says what the columns are, the cells, by which every command of this program reads the folder as the one
    that it was written of, and checksums. No image is among them.
    """
    from rapbench import __version__
    from rapbench.core.errors import DataMissing
    from rapbench.core.writing import write_whole
    from rapbench.report.export import files, paths, shelves
    from rapbench.results.exported import CELLS

    store, asked = stores(out), filter_of(context)
    found = shelves([one for one in store.held() if asked.admits(one.cell) and len(one.rows.frame)])
    if verify:
        refuse_damaged(store)
    if not found:
        raise DataMissing(f"no rows{asked.clause} in {store}; `rapbench run` writes some, --out names another folder")
    stale = _stale(to, paths(found, form))
    for name, content in files(found, form, version=__version__):
        write_whole(to / name, content)
        if "/" not in name:
            typer.echo(to / name)
    typer.echo(to / CELLS)
    for old in stale:
        old.unlink(missing_ok=True)
        _remove_empty(old.parent)


def _stale(to: Path, names: Collection[str]) -> list[Path]:
    """Files of an earlier export that this one does not write.

    Raises:
        BadConfig: the folder is none, or holds what no export wrote.
    """
    from rapbench.core.errors import BadConfig
    from rapbench.results.exported import CELLS, listed

    if not to.exists():
        return []
    if not to.is_dir():
        raise BadConfig(f"--to {to}: a file is there; name a folder")
    beside = [path for path in to.iterdir() if path.name != CELLS]
    stored = [path for path in (to / CELLS).rglob("*") if not path.is_dir()]
    others = {name: p for p in sorted(beside + stored) if (name := p.relative_to(to).as_posix()) not in names}
    if foreign := sorted(others.keys() - listed(to)):
        raise BadConfig(f"--to {to}: it holds {foreign[0]}, which no export wrote; name an empty folder")
    return [*others.values()]


def _remove_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()

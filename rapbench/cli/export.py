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
from rapbench.report.export import TableForm

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
    README that says what the columns are, and checksums. No image is among them.
    """
    from rapbench import __version__
    from rapbench.core.errors import DataMissing
    from rapbench.core.writing import write_whole
    from rapbench.report.export import SUMS, files, shelves

    store, asked = stores(out), filter_of(context)
    found = shelves([one for one in store.held() if asked.admits(one.cell) and len(one.rows.frame)])
    if verify:
        refuse_damaged(store)
    if not found:
        raise DataMissing(f"no rows{asked.clause} in {store}; `rapbench run` writes some, --out names another folder")
    names = {"spec.json", "README.md", SUMS, *(f"{shelf.stem}.{form}" for shelf in found)}
    stale = _stale(to, names)
    for name, content in files(found, form, version=__version__):
        write_whole(to / name, content)
        typer.echo(to / name)
    for old in stale:
        old.unlink(missing_ok=True)


def _stale(to: Path, names: Collection[str]) -> list[Path]:
    """Files of an earlier export that this one does not write.

    Raises:
        BadConfig: the folder is none, or holds what no export wrote.
    """
    from rapbench.core.errors import BadConfig
    from rapbench.report.export import SUMS

    if not to.exists():
        return []
    if not to.is_dir():
        raise BadConfig(f"--to {to}: a file is there; name a folder")
    there = [path for path in sorted(to.iterdir()) if path.name not in names]
    sums = to / SUMS
    earlier = sums.read_text(errors="replace").splitlines() if sums.is_file() else []
    written = {line.partition("  ")[2] for line in earlier}
    foreign = [path.name for path in there if path.name not in written]
    if foreign:
        raise BadConfig(f"--to {to}: it holds {foreign[0]}, which no export wrote; name an empty folder")
    return there

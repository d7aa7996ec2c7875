"""`rapbench table`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rapbench.cli.options import (
    OUTS,
    AsJson,
    Form,
    OnlyDataset,
    OnlyDevice,
    OnlyMethods,
    OnlyModel,
    OnlyPrecision,
    OnlySeed,
    OnlySelect,
    OnlyTarget,
    OnlyWeights,
    Outs,
    Verify,
    filter_of,
    refuse_damaged,
    stores,
)
from rapbench.report.formats import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rapbench.report.formats import Document
    from rapbench.results.cell import Cell
    from rapbench.results.select import Filter
    from rapbench.results.store import Folder


def table(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="A paper's table, for example rap2020/table1. [default: all results]")
    ] = None,
    out: Outs = OUTS,
    verify: Verify = False,
    form: Form = Format.TEXT,
    as_json: AsJson = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Every reading of each cell, the closest to the published number first.")
    ] = False,
    closest: Annotated[
        int | None, typer.Option(min=1, help="Readings to print of a cell; files hold all. [default: 8]")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Method that the others are compared with, image by image. [default: the card's]")
    ] = None,
    method: OnlyMethods = None,
    model: OnlyModel = None,
    dataset: OnlyDataset = None,
    weights: OnlyWeights = None,
    select: OnlySelect = None,
    target: OnlyTarget = None,
    seed: OnlySeed = None,
    precision: OnlyPrecision = None,
    device: OnlyDevice = None,
) -> None:
    """Print what the results folder holds, or a paper's table: published, ours, 95 % interval, difference, n.

    --sweep, --closest and --against are for a paper's table.
    """
    from rapbench.core.errors import BadConfig
    from rapbench.papers import shown
    from rapbench.report.formats import rendered

    form = Format.JSON if as_json else form
    asked, store = filter_of(context), stores(out)
    if name is None:
        if sweep or closest or against:
            raise BadConfig("--sweep, --closest and --against need a table: rapbench table rap2020/table1")
        document = _all(store, asked, form)
    elif sweep:
        document = shown.readings(name, store, asked, closest or shown.CLOSEST)
    else:
        document = shown.beside_published(name, store, asked, against)
    text = rendered(document, form)
    if verify:
        refuse_damaged(store)
    typer.echo(text)


def _all(store: Folder, asked: Filter, form: Format) -> Document:
    from rapbench.core.errors import DataMissing
    from rapbench.report.result import results
    from rapbench.report.tables import document

    cells = [one for one in store.held() if asked.admits(one.cell) and not one.cell.is_study]
    cells.sort(key=lambda one: _place(one.cell, asked.methods))
    found = [result for held in cells for result in results(held)]
    if not found:
        raise DataMissing(
            f"no results{asked.clause} in {store}; `rapbench run` writes some, --out names another folder"
        )
    return document(found, form)


def _place(cell: Cell, methods: Sequence[str]) -> int:
    """Where a method stands among those that were asked for."""
    called = {cell.identity.method.name, cell.method}
    return next((place for place, method in enumerate(methods) if method in called), 0)

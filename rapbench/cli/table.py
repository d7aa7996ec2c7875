"""`rapbench table`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from rapbench.cli.options import DEFAULTS, AsJson, Form, Out
from rapbench.report.formats import Format

if TYPE_CHECKING:
    import pandas as pd

    from rapbench.report.cards import Table
    from rapbench.report.comparison import Panel, Selection
    from rapbench.report.formats import Document
    from rapbench.report.tables import Held
    from rapbench.run.spec import Cell
    from rapbench.run.store import Store


def table(
    name: Annotated[
        str | None, typer.Argument(help="A paper's table, for example rap2020/table1. [default: all results]")
    ] = None,
    out: Out = DEFAULTS.out,
    form: Form = Format.TEXT,
    as_json: AsJson = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Every reading of each cell, the closest to the published number first.")
    ] = False,
    closest: Annotated[
        int | None, typer.Option(min=1, help="Readings to print of a cell; files hold all. [default: 8]")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Method that the others are compared with, image by image. [default: rap]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Network instead of the paper's, in every column.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Images instead of the paper's, in every column.")] = None,
    weights: Annotated[str | None, typer.Option(help="Only results of these weights.")] = None,
    select: Annotated[str | None, typer.Option(help="Only results of all or of correct images.")] = None,
    seed: Annotated[int | None, typer.Option(help="Only results of this seed.")] = None,
    precision: Annotated[str | None, typer.Option(help="Only results of fp32, fp64, tf32 or bf16.")] = None,
    device: Annotated[str | None, typer.Option(help="Only results of cpu or cuda.")] = None,
) -> None:
    """Print what the results folder holds, or a paper's table: published, ours, 95 % interval, difference, n.

    Options after --format are for a paper's table.
    """
    from rapbench.core.errors import BadConfig
    from rapbench.report.comparison import Selection
    from rapbench.report.formats import rendered
    from rapbench.run.store import Store

    form = Format.JSON if as_json else form
    store = Store(out)
    selection = Selection(
        model=model, dataset=dataset, weights=weights, select=select, seed=seed, precision=precision, device=device
    )
    if name is None:
        if sweep or closest or against or selection != Selection():
            raise BadConfig("--sweep, --against, --model and the like need a table: rapbench table rap2020/table1")
        document = _all(store, form)
    elif sweep:
        document = _sweep(name, store, selection, closest or 8)
    else:
        document = _published(name, store, selection, against or "rap")
    typer.echo(rendered(document, form))


def _all(store: Store, form: Format) -> Document:
    from rapbench.core.errors import DataMissing
    from rapbench.report.tables import document

    found = [result for cell in _held(store) for result in cell.results.values()]
    if not found:
        raise DataMissing(f"no results in {store.root}; `rapbench run` writes some, --out names another folder")
    return document(found, form)


def _published(name: str, store: Store, selection: Selection, against: str) -> Document:
    from rapbench.report import comparison, published
    from rapbench.report.cards import card

    table = card(name)
    reference = comparison.against(table, against)
    return published.document(name, table, _panels(name, table, store, selection), reference)


def _sweep(name: str, store: Store, selection: Selection, closest: int) -> Document:
    from rapbench.report import sweep
    from rapbench.report.cards import card

    table = card(name)
    return sweep.document(name, table, _panels(name, table, store, selection), closest=closest)


def _panels(name: str, table: Table, store: Store, selection: Selection) -> Sequence[Panel]:
    from rapbench.core.errors import DataMissing
    from rapbench.report.comparison import compared

    held = list(_held(store))
    panels = compared(table, held, selection)
    if not any(panel.measured for panel in panels):
        command = f"rapbench run --config {table.config}{selection.options} --out {store.root}"
        others = sorted({f"{cell.display['model']} on {cell.display['dataset']}" for cell in held})
        there = f"; there are some of {', '.join(others)} (--model, --dataset)" if others else ""
        raise DataMissing(f"no results for {name} in {store.root}: `{command}` computes them{there}")
    return panels


def _held(store: Store) -> Iterator[Held]:
    from rapbench.report.tables import Held

    for cell in store.cells():
        yield Held(identity=cell.identity, display=cell.display, read=partial(_rows, store, cell))


def _rows(store: Store, cell: Cell) -> tuple[pd.DataFrame, Mapping[str, int]]:
    rows = store.held(cell)
    return rows.frame, rows.skipped()

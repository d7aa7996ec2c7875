"""`rapbench compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rapbench.cli.options import (
    AsJson,
    Form,
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
    Verify,
    filter_of,
    path,
    refuse_damaged,
    refuse_empty,
)
from rapbench.report.formats import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rapbench.report.result import Scored
    from rapbench.results.select import Filter
    from rapbench.results.store import Store


def compare(
    context: typer.Context,
    first: Annotated[Path, typer.Argument(parser=path, metavar="A", help="A results folder, or an exported one.")],
    second: Annotated[Path, typer.Argument(parser=path, metavar="B", help="Another one.")],
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="What may differ in numbers that are matched, besides the version: seed, device, precision."),
    ] = None,
    verify: Verify = False,
    everything: Annotated[bool, typer.Option("--all", help="Also print the numbers that did not move.")] = False,
    form: Form = Format.TEXT,
    as_json: AsJson = False,
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
    """Compare the numbers of two results folders: what moved beyond its interval, what only one holds.

    Exits with 1 if a number that tables show moved. Numbers are matched by all that they depend on but the version, and
    compared image by image. Nothing is computed afresh: `rapbench check` does that. CSV and JSON hold every variant.
    """
    from rapbench.report.formats import rendered
    from rapbench.report.move_tables import document
    from rapbench.report.moves import moves

    form, asked = Format.JSON if as_json else form, filter_of(context)
    stores = [_opened(root) for root in (first, second)]
    before, after = (_scored(store, asked) for store in stores)
    ignored = _ignored(ignore or [], [*before, *after])
    found = moves(before, after, ignored=ignored, headline=form not in {Format.CSV, Format.JSON})
    if not found.both:
        _refuse(first, second, before, after)
    shown = rendered(document(found, str(first), str(second), everything=everything), form)
    for store in stores if verify else ():
        refuse_damaged(store)
    typer.echo(shown)
    raise typer.Exit(1 if any(move.after.headline is not None for move in found.moved) else 0)


def _opened(root: Path) -> Store:
    from rapbench.results.exported import results_folder
    from rapbench.results.store import Store

    refuse_empty(root)
    return Store(results_folder(root))


def _scored(store: Store, asked: Filter) -> list[Scored]:
    """What a folder holds of what is asked for.

    Raises:
        DataMissing: nothing.
    """
    from rapbench.core.errors import DataMissing
    from rapbench.report.result import Scored

    found = [Scored(held=one) for one in store.held() if asked.admits(one.cell) and not one.cell.is_study]
    if not found:
        raise DataMissing(f"no results{asked.clause} in {store}")
    return found


def _ignored(texts: Sequence[str], found: Sequence[Scored]) -> frozenset[str]:
    """Parts of settings, as dotted names or the last word of one.

    Raises:
        UnknownName: no setting has such a part; the message offers the nearest.
    """
    from rapbench.core.catalogue import nearest
    from rapbench.core.errors import UnknownName

    known = dict.fromkeys(key for one in found for key in one.cell.identity.setting())
    asked = [name.strip() for text in texts for name in text.split(",")]
    for name in asked:
        if not any(name in {key, key.rpartition(".")[2]} for key in known):
            raise UnknownName(f"--ignore: no part of a setting is named {name!r}: {nearest(name, list(known))}")
    return frozenset(key for key in known if not {key, key.rpartition(".")[2]}.isdisjoint(asked))


def _refuse(first: Path, second: Path, before: Sequence[Scored], after: Sequence[Scored]) -> None:
    """Says why two folders have no number in common.

    Raises:
        DataMissing: always.
    """
    from rapbench.core.errors import DataMissing
    from rapbench.report.moves import apart

    different = apart(before, after)
    told = ", ".join(f"{key} ({ours} | {theirs})" for key, (ours, theirs) in different.items())
    cure = f"--ignore {','.join(key.rpartition('.')[2] for key in different)} matches them all the same"
    why = f"they differ in {told}; {cure}" if different else "no method and metric is in both"
    raise DataMissing(f"{first} and {second} have no number in common: {why}")

"""`rapbench figure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rapbench.cli.options import (
    DEFAULTS,
    OUTS,
    DataRoot,
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
    filter_of,
    path,
    stores,
)

if TYPE_CHECKING:
    from rapbench.report.figures import Drawing, FigureKind
    from rapbench.results.select import Filter
    from rapbench.results.store import Folder, Held


def figure(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="Figure, for example rap2020/figure7, perturbation or critical_difference.")
    ],
    out: Outs = OUTS,
    to: Annotated[
        Path | None, typer.Option(parser=path, help="Folder of the files. [default: figures in the results folder]")
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
    order: Annotated[
        str | None,
        typer.Option(help="lerf, least relevant pixels first, or morf, most relevant first. [default: lerf]"),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(help="Of digits: also draw what each method erases of this image, for example test-05846."),
    ] = None,
    data_root: DataRoot = DEFAULTS.data_root,
) -> None:
    """Draw a figure from the rows that the results folder holds, and print the files written.

    Each picture is written as PNG, SVG and PDF, with its points as CSV.
    """
    from rapbench.report.figures import written

    kind, asked = _kind(name, order), filter_of(context)
    store, folder = stores(out), to or out[0] / "figures"
    for file in drawn(name, kind, store, asked, folder):
        typer.echo(file)
    if example is not None:
        for file in written(_example(_held(store, kind.metric, asked), kind.metric, example, data_root), name, folder):
            typer.echo(file)


def drawn(name: str, kind: FigureKind, store: Folder, asked: Filter, folder: Path) -> list[Path]:
    """Draws a figure into a folder; returns the files. What is not in it is said on stderr.

    Raises:
        DataMissing: there is nothing to draw.
    """
    from rapbench.core.errors import DataMissing
    from rapbench.report.figures import written

    drawings = list(kind(_held(store, kind.metric, asked)))
    if not drawings:
        command = f"rapbench run {name if '/' in name else f'--metric {kind.metric}'} --out {store.root}"
        rows = f"no rows of {kind.metric}{asked.clause} with a value"
        if not kind.metric:
            command, rows = f"rapbench run --out {store.root}", f"no two methods{asked.clause} whose images have values"
        raise DataMissing(f"{rows} in {store}: `{command}` writes some")
    for note in (note for drawing in drawings for note in drawing.notes):
        typer.echo(f"{name}: {note}", err=True)
    return [file for drawing in drawings for file in written(drawing, name, folder)]


def _held(store: Folder, metric: str, asked: Filter) -> list[Held]:
    return [one for one in store.held() if metric in {"", one.cell.identity.metric.name} and asked.admits(one.cell)]


def _kind(name: str, order: str | None) -> FigureKind:
    """What draws a figure of a paper, or another one."""
    from rapbench.core.catalogue import Call
    from rapbench.core.errors import BadConfig
    from rapbench.papers.card import Table, exhibit
    from rapbench.report.figures import FIGURES

    chosen = {"order": order} if order else {}
    if "/" not in name:
        kind: FigureKind = FIGURES.build(Call(name, chosen))
        return kind
    found = exhibit(name)
    if isinstance(found, Table):
        raise BadConfig(f"{name} is a table: rapbench table {name}")
    return found.kind(**chosen)


def _example(held: list[Held], metric: str, image_id: str, data_root: Path | None) -> Drawing:
    from rapbench.core.errors import BadConfig
    from rapbench.papers.comparison import refuse_several
    from rapbench.papers.deeplift2017.example import example

    if metric != "digit_conversion":
        raise BadConfig(f"--example belongs to figures of digit_conversion, not of {metric}")
    refuse_several([one.cell for one in held], "the example")
    return example(held, data_root, image_id)

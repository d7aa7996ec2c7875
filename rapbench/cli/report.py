"""`rapbench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rapbench.cli.options import (
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
    is_default,
    path,
    stores,
)


def report(
    context: typer.Context,
    shown: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FOLDER|EXHIBIT...]",
            help="Results folders, exported ones among them, as --out names them; papers' tables and figures to show. "
            "[default: those whose networks and images the folders hold]",
        ),
    ] = None,
    out: Outs = OUTS,
    to: Annotated[
        Path | None, typer.Option(parser=path, help="File to write. [default: report.html in the results folder]")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page. [default: what was run]")] = None,
    no_gallery: Annotated[
        bool, typer.Option("--no-gallery", help="Leave out images, for which methods explain them again.")
    ] = False,
    rank_by: Annotated[
        str,
        typer.Option(help="What ranks the gallery's images: metric, or metric/variant. [default: the first that can]"),
    ] = "",
    pictures: Annotated[int, typer.Option(min=1, help="Different images in the gallery of a run, at most.")] = 18,
    maps: Annotated[
        Path | None, typer.Option(parser=path, help="Folder of maps that run --save-maps wrote, to take instead.")
    ] = None,
    verify: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Compute a sample of the rows again, such as 1% of each cell's or those of 20 images; exit with 1 if "
            "one differs by more than rounding, with an error if a file is damaged.",
        ),
    ] = None,
    data_root: DataRoot = None,
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
    """Write what the results folder holds as one HTML page that needs nothing else, and print its path.

    It shows what was run, every table with its numbers as CSV and JSON, figures, and images with all methods' maps,
    chosen by rule. Of a network of your own, or of weights from a file, the gallery needs --model or --weights with
    their paths.
    """
    from rapbench.cli.gallery import Wish
    from rapbench.cli.reported import Source, reported
    from rapbench.cli.verified import Portion, verifications
    from rapbench.core.writing import write_whole
    from rapbench.metrics import METRICS
    from rapbench.papers.card import exhibits as cards

    if rank_by:
        METRICS.refuse_unknown(rank_by.partition("/")[0])
    portion = None if verify is None else Portion(verify)
    given = {key: value for key, value in {"model": model, "weights": weights}.items() if value is not None}
    wish = None if no_gallery else Wish(by=rank_by, most=pictures, maps=maps, data_root=data_root, given=given)
    exhibits = tuple(text for text in shown or () if text in cards() or not path(text).is_dir())
    folders = [path(text) for text in shown or () if text not in exhibits]
    roots = [*folders, *(() if folders and is_default(context, "out") else out)]
    source = Source(store=stores(roots), roots=tuple(roots), asked=filter_of(context), exhibits=exhibits)
    file = to or roots[0] / "report.html"
    verified = verifications(source, portion, {"data_root": data_root, **given}) if portion else []
    write_whole(file, reported(source, title, wish, verified).encode())
    typer.echo(file)
    raise typer.Exit(1 if any(one.differing for one in verified) else 0)

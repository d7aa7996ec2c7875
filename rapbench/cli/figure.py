"""`rapbench figure`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rapbench.cli.options import DEFAULTS, DataRoot, Out

if TYPE_CHECKING:
    from rapbench.report.figures import Drawing, Stored
    from rapbench.run.store import Store


def figure(
    name: Annotated[str, typer.Argument(help="Figure, for example rap2020/figure7, or perturbation.")],
    out: Out = DEFAULTS.out,
    to: Annotated[
        Path | None, typer.Option(help="Folder of the files. [default: figures in the results folder]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only this network. [default: all]")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only these images. [default: all]")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Only these methods, joined by commas or repeated. [default: all]")
    ] = None,
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
    from rapbench.core.catalogue import Call, split_calls
    from rapbench.core.errors import DataMissing
    from rapbench.report.figures import FIGURES, FORMS, FigureKind, rendered
    from rapbench.run.store import Store, write_whole

    kind: FigureKind = FIGURES.build(Call(name, {"order": order} if order else {}))
    methods = {str(call) for call in split_calls(method or [])}
    stores = (Store(out), Store(out / kind.metric))  # a study's rows lie in a folder of its name
    stored = [one for store in stores for one in _stored(store, kind.metric, model, dataset, methods)]
    drawings = list(kind(stored))
    if not drawings:
        asked = "".join(f" of {part}" for part in (model, dataset, ", ".join(sorted(methods))) if part)
        raise DataMissing(
            f"no rows of {kind.metric}{asked} with a value in {out}: `{kind.command} --out {out}` writes some"
        )
    if example is not None:
        drawings.append(_example(stored, kind.metric, example, data_root))
    folder = to or out / "figures"
    for drawing in drawings:
        stem = "_".join(filter(None, (name.replace("/", "_"), drawing.suffix)))
        files: dict[str, bytes] = {form: rendered(drawing.figure, form) for form in FORMS}
        files["csv"] = drawing.points.to_csv(index=False).encode()
        for suffix, content in files.items():
            write_whole(folder / f"{stem}.{suffix}", content)
            typer.echo(folder / f"{stem}.{suffix}")


def _example(stored: list[Stored], metric: str, image_id: str, data_root: Path | None) -> Drawing:
    from rapbench.cli.digit_example import example
    from rapbench.core.errors import BadConfig

    if metric != "digit_conversion":
        raise BadConfig(f"--example belongs to figures of digit_conversion, not of {metric}")
    return example(stored, data_root, image_id)


def _stored(store: Store, metric: str, model: str | None, dataset: str | None, methods: set[str]) -> Iterator[Stored]:
    """What the store holds for a metric, where it was asked for."""
    from rapbench.report.figures import Stored

    for cell in store.cells():
        display, method = cell.display, cell.identity["method"]["name"]
        wanted = (
            cell.identity["metric"]["name"] == metric
            and model in {None, display["model"]}
            and dataset in {None, display["dataset"]}
            and (not methods or methods & {method, display["method"]})
        )
        if wanted:
            yield Stored(identity=cell.identity, display=display, rows=store.held(cell).frame)

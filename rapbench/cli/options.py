"""The options that several commands have, each declared once; what a run takes by default, its spec says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rapbench.core.catalogue import split_calls
from rapbench.core.errors import BadConfig, BadData, DataMissing
from rapbench.core.paths import typed_path
from rapbench.papers.card import exhibit, table
from rapbench.report.formats import Format
from rapbench.results.exported import is_exported
from rapbench.results.select import Filter
from rapbench.run.spec import RunSpec, read_parts

if TYPE_CHECKING:
    from rapbench.results.store import Folder, Folders

DEFAULTS = RunSpec()
"""A run of which nothing was said."""
METHODS = [*DEFAULTS.method]
OUTS = [DEFAULTS.out]


def path(text: str | Path) -> Path:
    """A path as typed; what it cannot be is said with the option's name."""
    try:
        return typed_path(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


MethodList = Annotated[
    list[str], typer.Option("--method", help="Methods, joined by commas or repeated; parameters in brackets.")
]
Model = Annotated[str, typer.Option(help="Network: a name, timm:NAME, or a function of your own, my_network.py:build.")]
Weights = Annotated[
    str, typer.Option(help="auto, random, a torchvision weight name, or a file: .pt, .pth, .ckpt, .safetensors, .npz.")
]
Dataset = Annotated[str, typer.Option(help="Images.")]
Exhibit = Annotated[
    str | None,
    typer.Argument(help="A paper's table or figure, for example rap2020/table1: run it, then print or draw it."),
]
DataRoot = Annotated[Path | None, typer.Option(parser=path, envvar="RAPBENCH_DATA", help="Folder of the data sets.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first images.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Backend = Annotated[str, typer.Option(help="Where the methods come from.")]
Out = Annotated[Path, typer.Option(parser=path, help="Results folder.")]
Outs = Annotated[
    list[Path],
    typer.Option("--out", parser=path, help="Results folder, or an exported one; repeat it to read several as one."),
]
Config = Annotated[Path | None, typer.Option(parser=path, help="TOML file of these options; the command line wins.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Form = Annotated[Format, typer.Option("--format", help="How to write it.")]
OnlyModel = Annotated[
    str | None, typer.Option("--model", help="Only of this network; in a table, in place of its own.")
]
OnlyDataset = Annotated[str | None, typer.Option("--dataset", help="Only on these images; likewise.")]
OnlyWeights = Annotated[str | None, typer.Option("--weights", help="Only of these weights.")]
OnlySelect = Annotated[str | None, typer.Option("--select", help="Only of all images, or of the correct ones.")]
OnlyTarget = Annotated[
    str | None, typer.Option("--target", help="Only of this class explained: predicted, label, or an index.")
]
OnlySeed = Annotated[int | None, typer.Option("--seed", help="Only of this seed.")]
OnlyPrecision = Annotated[str | None, typer.Option("--precision", help="Only of this precision.")]
OnlyDevice = Annotated[str | None, typer.Option("--device", help="Only of cpu or cuda.")]
OnlyMethods = Annotated[
    list[str] | None, typer.Option("--method", help="Only these methods, joined by commas or repeated.")
]
OnlyMetrics = Annotated[
    list[str] | None, typer.Option("--metric", help="Only these metrics, joined by commas or repeated.")
]
Verify = Annotated[
    bool, typer.Option("--verify", help="End with an error where a stored file is damaged, instead of leaving it out.")
]


def specs(context: typer.Context) -> dict[str, RunSpec]:
    """The runs that were asked for, by the names of the config's parts; the name is '' without a config or parts.

    Raises:
        UnknownName: no such table or figure, or no such part.
        BadConfig: a setting that is wrong, or a config beside a paper's table or figure.
    """
    parts = [name.strip() for value in context.params.get("part") or [] for name in value.split(",")]
    given, config, name = typed(context), context.params["config"], context.params.get("exhibit")
    if name is None:
        return read_parts(config, given, parts)
    if config is not None:
        raise BadConfig(f"{name} brings its own config: leave out --config, or {name}")
    runs = read_parts(exhibit(name).run, given, parts)
    if context.params.get("sweep"):
        swept = read_parts(table(name).sweep_run, given, parts)
        runs |= {f"{part} (sweep)": spec for part, spec in swept.items()}
    return runs


def filter_of(context: typer.Context) -> Filter:
    """The stored cells that the options beginning with Only ask for."""
    given = {name: value for name, value in context.params.items() if name in Filter.__dataclass_fields__}
    methods, metrics = (
        tuple(str(call) for call in split_calls(context.params.get(name) or [])) for name in ("method", "metric")
    )
    return Filter(**given, methods=methods, metrics=metrics)


def stores(roots: Sequence[Path]) -> Folders:
    """The results folders, exported ones among them, read as one.

    Raises:
        DataMissing: there are several, and one of them holds nothing.
        BadData: one that was exported is not whole.
    """
    from rapbench.results.store import Folders  # which reads tables, with libraries that lists do without

    for root in roots if len(roots) > 1 else ():
        refuse_empty(root)
    return Folders(roots)


def refuse_damaged(store: Folder) -> None:
    """Says where what was read is not all that is there: every file is checked by its hash whenever it is read.

    Raises:
        BadData: a file was left out.
    """
    if found := store.left_out:
        more = f"and {len(found) - 1} more" if len(found) > 1 else "run again, or leave out --verify"
        raise BadData("damaged, or another's", found[0], more)


def refuse_empty(root: Path) -> None:
    """Says where there is nothing to read.

    Raises:
        DataMissing: it is no folder, or one without results.
    """
    if not root.is_dir():
        raise DataMissing(f"no folder {root}")
    if not (is_exported(root) or any(root.glob("*/spec.json"))):
        raise DataMissing(f"no results in {root}: `rapbench run --out {root}` writes some")


def typed(context: typer.Context) -> dict[str, Any]:
    """The settings of a run that were given, on the command line or by the environment."""
    return {
        name: value
        for name, value in context.params.items()
        if name in RunSpec.model_fields and not is_default(context, name)
    }


def is_default(context: typer.Context, name: str) -> bool:
    """Whether an option was not given."""
    source = context.get_parameter_source(name)
    return source is None or source.name == "DEFAULT"

"""The options that several commands have, each declared once; what a run takes by default, its spec says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rapbench.report.formats import Format
from rapbench.run.spec import RunSpec, read_parts

DEFAULTS = RunSpec()
"""A run of which nothing was said."""
METHODS = [*DEFAULTS.method]

MethodList = Annotated[
    list[str], typer.Option("--method", help="Methods, joined by commas or repeated; parameters in brackets.")
]
Model = Annotated[str, typer.Option(help="Network.")]
Weights = Annotated[
    str, typer.Option(help="auto, random, a torchvision weight name, or a .pt, .pth, .safetensors or .npz file.")
]
Dataset = Annotated[str, typer.Option(help="Images.")]
DataRoot = Annotated[Path | None, typer.Option(envvar="RAPBENCH_DATA", help="Folder of the data sets.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first images.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Backend = Annotated[str, typer.Option(help="Where the methods come from.")]
Out = Annotated[Path, typer.Option(help="Results folder.")]
Config = Annotated[Path | None, typer.Option(help="TOML file of these options; the command line wins.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Form = Annotated[Format, typer.Option("--format", help="How to write it.")]


def specs(context: typer.Context) -> dict[str, RunSpec]:
    """The runs that were asked for, by the names of the config's parts; the name is '' without a config or parts."""
    parts = [name.strip() for value in context.params.get("part") or [] for name in value.split(",")]
    return read_parts(context.params["config"], typed(context), parts)


def typed(context: typer.Context) -> dict[str, Any]:
    """The settings of a run that were given, on the command line or by the environment."""
    return {
        name: value
        for name, value in context.params.items()
        if name in RunSpec.model_fields and not _is_default(context, name)
    }


def _is_default(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is None or source.name == "DEFAULT"

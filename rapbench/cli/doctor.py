"""`rapbench doctor`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rapbench.run.spec import RunSpec


def doctor(
    data_root: Annotated[Path | None, typer.Option(envvar="RAPBENCH_DATA", help="Folder of the data sets.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of the runs to check; options win over it.")] = None,
    model: Annotated[str | None, typer.Option(help="Network. [default: vgg16]")] = None,
    weights: Annotated[str | None, typer.Option(help="As for run. [default: auto]")] = None,
    dataset: Annotated[str | None, typer.Option(help="Images. [default: every data set, where it is]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda. [default: auto]")] = None,
    out: Annotated[Path | None, typer.Option(help="Results folder. [default: results/runs]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Check data, weights, memory, disk and device before hours are spent; exit with 1 if a run would fail.

    Reads a few images of each data set and times one network pass and one gradient. Nothing is downloaded.
    """
    from rapbench.run.doctor import examined

    options = {"data_root": data_root, "model": model, "weights": weights, "device": device, "out": out}
    specs = _specs(config, dataset, options)
    found = []
    for finding in examined(specs, required=bool(config or dataset)):
        found.append(finding)
        if not as_json:
            typer.echo(f"{finding.level:<4}  {finding.subject:<{_WIDTH}}  {finding.message}")
    failed = any(finding.level == "FAIL" for finding in found)
    if as_json:
        typer.echo(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in found]}))
    raise typer.Exit(int(failed))


_WIDTH = 14
"""Of the column of subjects; longer ones push their message to the right."""


def _specs(config: Path | None, dataset: str | None, options: Mapping[str, object]) -> list[RunSpec]:
    """The runs to check: the config's, the one of the options, or one of each data set."""
    from rapbench.datasets import DATASETS
    from rapbench.run.spec import RunSpec, read_parts

    if config or dataset:
        return list(read_parts(config, {**options, "dataset": dataset}).values())
    return [RunSpec.read(None, {**options, "dataset": name}) for name in DATASETS]

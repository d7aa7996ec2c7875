"""`rapbench doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from rapbench.cli.options import DEFAULTS, AsJson, Config, DataRoot, Device, Model, Out, Weights, specs, typed
from rapbench.run.spec import RunSpec


def doctor(
    context: typer.Context,
    data_root: DataRoot = DEFAULTS.data_root,
    config: Config = None,
    model: Model = DEFAULTS.model,
    weights: Weights = DEFAULTS.weights,
    dataset: Annotated[str | None, typer.Option(help="Images. [default: every data set, where it is]")] = None,
    device: Device = DEFAULTS.device,
    out: Out = DEFAULTS.out,
    as_json: AsJson = False,
) -> None:
    """Check data, weights, memory, disk and device before hours are spent; exit with 1 if a run would fail.

    Reads a few images of each data set and times one network pass and one gradient. Nothing is downloaded.
    """
    from rapbench.doctor.examination import examined

    found = []
    for finding in examined(_specs(context), required=bool(config or dataset)):
        found.append(finding)
        if not as_json:
            typer.echo(f"{finding.level:<4}  {finding.subject:<{_WIDTH}}  {finding.message}")
    failed = any(finding.level == "FAIL" for finding in found)
    if as_json:
        typer.echo(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in found]}))
    raise typer.Exit(int(failed))


_WIDTH = 14
"""Of the column of subjects; longer ones push their message to the right."""


def _specs(context: typer.Context) -> list[RunSpec]:
    """The runs to check: the config's, the one of the options, or one of each data set."""
    from rapbench.datasets import DATASETS

    if context.params["config"] or context.params["dataset"]:
        return list(specs(context).values())
    return [RunSpec.read(None, {**typed(context), "dataset": name}) for name in DATASETS]

"""The commands by name."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperGroup

from rapbench import __version__
from rapbench.cli.cancel import cancel
from rapbench.cli.check import check
from rapbench.cli.compare import compare
from rapbench.cli.compare_backends import compare_backends
from rapbench.cli.doctor import doctor
from rapbench.cli.export import export
from rapbench.cli.figure import figure
from rapbench.cli.fit_patterns import fit_patterns
from rapbench.cli.list import list_names
from rapbench.cli.ranks import ranks
from rapbench.cli.report import report
from rapbench.cli.run import run
from rapbench.cli.show import show
from rapbench.cli.status import status
from rapbench.cli.submit import PASSED_ON, submit
from rapbench.cli.table import table

app = typer.Typer(
    name="rapbench",
    help="Scores attribution methods for image classifiers as their papers score them.",
    context_settings={"help_option_names": ["--help", "-h"]},
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _alone(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"rapbench {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command("run")(run)
app.command("list")(list_names)
app.command("table")(table)
app.command("ranks")(ranks)
app.command("figure")(figure)
app.command("export")(export)
app.command("show")(show)
app.command("report")(report)
app.command("fit-patterns")(fit_patterns)
app.command("check")(check)
app.command("doctor")(doctor)
app.command("submit", context_settings=PASSED_ON)(submit)
app.command("status")(status)
app.command("cancel")(cancel)
app.command("compare")(compare)
app.command("compare-backends")(compare_backends)
command: TyperGroup = typer.main.get_group(app)

"""The command line: one command a file, each a thin layer over the library."""

from __future__ import annotations

import signal
import sys

import typer
from typer.core import TyperGroup

from rapbench.cli.cancel import cancel
from rapbench.cli.check import check
from rapbench.cli.compare import compare_backends
from rapbench.cli.doctor import doctor
from rapbench.cli.figure import figure
from rapbench.cli.fit_patterns import fit_patterns
from rapbench.cli.list import list_names
from rapbench.cli.run import run
from rapbench.cli.show import show
from rapbench.cli.status import status
from rapbench.cli.submit import PASSED_ON, submit
from rapbench.cli.table import table
from rapbench.core.errors import RapbenchError

app = typer.Typer(
    name="rapbench",
    help="Scores attribution methods for image classifiers as their papers score them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("run")(run)
app.command("list")(list_names)
app.command("table")(table)
app.command("figure")(figure)
app.command("show")(show)
app.command("fit-patterns")(fit_patterns)
app.command("check")(check)
app.command("doctor")(doctor)
app.command("submit", context_settings=PASSED_ON)(submit)
app.command("status")(status)
app.command("cancel")(cancel)
app.command("compare-backends")(compare_backends)


def main() -> None:
    """Runs the command line; what the user did wrong is one line on stderr and exit code 2."""
    command: TyperGroup = typer.main.get_group(app)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = command.main(prog_name="rapbench", standalone_mode=False)
    except RapbenchError as error:
        sys.exit(_failed(str(error)))
    except KeyboardInterrupt:
        sys.stderr.write("rapbench: interrupted; what is done is kept, the same command goes on from there\n")
        sys.exit(130)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        sys.exit(_failed(error.format_message()))
    sys.exit(code if isinstance(code, int) else 0)


def _terminated(number: int, _: object) -> None:
    """Leaves as after an error, so that claimed work is given back."""
    sys.stderr.write("rapbench: terminated; what is done is kept, the same command goes on from there\n")
    sys.exit(128 + number)


def _failed(message: str) -> int:
    sys.stderr.write(f"rapbench: {' '.join(message.split())}\n")
    return 2

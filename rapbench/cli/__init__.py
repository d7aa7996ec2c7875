"""The command line: one command a file, each a thin layer over the library."""

from __future__ import annotations

import io
import os
import signal
import sys

from rapbench.core.errors import RapbenchError

_STOPS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def main() -> None:
    """Runs the command line; what the user did wrong is one line on stderr and exit code 2.

    An interrupt is one line too, from before the first slow import on.
    """
    for number in _STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stopped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character shows its number
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        from rapbench.cli.app import command

        code = command.main(prog_name="rapbench", standalone_mode=False)
        if sys.stdout:
            sys.stdout.flush()
    except RapbenchError as error:
        return _failed(str(error))
    except OSError as error:  # a disk that is full, a folder that cannot be written, a pipe that was closed
        _let_go()
        return 1 if isinstance(error, BrokenPipeError) else _failed(str(error))
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return _failed(error.format_message())
    return code if isinstance(code, int) else 0


def _stopped(number: int, _: object) -> None:
    """Leaves as after an error, so that claimed work is given back.

    A second interrupt ends at once; a second signal of a scheduler, which may send several, changes nothing.
    """
    signal.signal(number, signal.SIG_DFL if number == signal.SIGINT else signal.SIG_IGN)
    told = _STOPS[signal.Signals(number)]
    sys.stderr.write(f"rapbench: {told}; what is done is kept, the same command goes on from there\n")
    sys.exit(128 + number)


def _failed(message: str) -> int:
    from rapbench.report.formats import printable

    sys.stderr.write(f"rapbench: {printable(' '.join(message.split()))}\n")  # a name may hold escape codes
    return 2


def _let_go() -> None:
    """Writes what was printed, or sends it nowhere, so that leaving does not try once more."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

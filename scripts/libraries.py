"""Holds rapbench's metrics against those of captum, Quantus, pytorch-grad-cam and torchmetrics.

    python scripts/libraries.py --weights WEIGHTS --data-root DATA --to results/libraries.md

WEIGHTS holds squeezenet1_1_imagenet.npz, DATA Pascal VOC. What stands on the page behind its mark is replaced, all else
is written by hand. Libraries that are not installed are named and left out.
"""

from __future__ import annotations

import contextlib
import io
import math
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import torch
import typer
from counterparts import costs, erasing, regions, sampling
from counterparts.subject import Counterpart, Subject, subject
from measured import row

from rapbench.core.errors import first_line

MARK = "<!-- measured -->"
LIBRARIES = {"captum": "captum", "quantus": "quantus", "pytorch_grad_cam": "grad-cam", "torchmetrics": "torchmetrics"}
"""What is imported, and the name of what is installed."""
COUNTERPARTS = (*regions.COUNTERPARTS, *erasing.COUNTERPARTS, *sampling.COUNTERPARTS)
FILE = "squeezenet1_1_imagenet.npz"
MANY, FEW = 16, 4
"""Photographs for what compares maps with objects, and for what classifies again."""


def compared(counterpart: Counterpart, subject: Subject) -> str:
    """A row: how far it is from ours with its settings, and both as they come."""
    apart, ours, theirs = (
        _shown(one, subject) for one in (counterpart.apart, counterpart.usual, counterpart.theirs_usual)
    )
    named = f"{LIBRARIES[counterpart.library]} {counterpart.theirs}"
    settings = counterpart.settings or "cannot be"
    return row([counterpart.ours, named, settings, apart, ours, theirs, counterpart.differs])


def _shown(function: Callable[[Subject], float] | None, subject: Subject) -> str:
    """Three digits of what a function returns, or what it fails with."""
    if function is None:
        return "-"
    try:
        found = function(subject)
    except Exception as error:  # noqa: BLE001 - that a library fails is what the page says
        return f"{type(error).__name__}: {first_line(error)[:70]}"
    return f"{found:.1e}" if 0 < math.fabs(found) < 1e-3 else _short(found)


def _short(number: float) -> str:
    """Three digits, all of those before the point."""
    return f"{number:.3g}" if math.fabs(number) < 1000 else f"{number:.0f}"


def comparisons(installed: set[str], photographs: Subject) -> Iterator[str]:
    """The table of what is equal and what is not."""
    yield row(["rapbench", "library", "set so", "apart", "ours", "theirs", "what differs as it comes"])
    yield row(["---"] * 7)
    for counterpart in COUNTERPARTS:
        if counterpart.library in installed:
            images = photographs if counterpart in regions.COUNTERPARTS else photographs.head(FEW)
            yield compared(counterpart, images)


def prices(installed: set[str], photographs: Subject) -> Iterator[str]:
    """The table of what both sides cost."""
    yield row(["rapbench", "library", "work an image, ours and theirs", "images", "ours, ms", "theirs, ms", "ratio"])
    yield row(["---"] * 7)
    for pair in costs.PAIRS:
        if pair.library in installed:
            ours, theirs, ratio = map(_short, costs.measured(pair, photographs))
            named = f"{LIBRARIES[pair.library]} {pair.theirs}"
            yield row([pair.ours, named, pair.work or "-", pair.images, ours, theirs, ratio])


def page(installed: set[str], photographs: Subject) -> str:
    """What is measured: both tables, and where they were."""
    lines = ["## Values", ""]
    for line in comparisons(installed, photographs):
        lines.append(line)
        print(line, file=sys.stderr, flush=True)
    lines += ["", "## Costs", ""]
    for line in prices(installed, photographs):
        lines.append(line)
        print(line, file=sys.stderr, flush=True)
    return "\n".join(lines)


def _origin(installed: set[str], seconds: float) -> str:
    names = ("torch", "numpy", *(LIBRARIES[module] for module in LIBRARIES if module in installed))
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{versions}; one thread of an {platform.machine()} processor, {seconds / 60:.1f} minutes of its time."


def main(
    weights: Annotated[Path, typer.Option(help=f"Folder of {FILE}.")],
    data_root: Annotated[Path, typer.Option(envvar="RAPBENCH_DATA", help="Folder of Pascal VOC.")],
    to: Annotated[Path | None, typer.Option(help="File of the page; printed where none is named.")] = None,
) -> None:
    """Brings the page up to date."""
    warnings.simplefilter("ignore")  # the libraries' own
    torch.set_num_threads(1)
    start = time.process_time()
    installed = {module for module in LIBRARIES if find_spec(module)}
    if absent := [LIBRARIES[module] for module in LIBRARIES if module not in installed]:
        print(f"not installed, and left out: {', '.join(absent)}", file=sys.stderr)
    photographs = subject("rap", weights / FILE, data_root, MANY)
    with contextlib.redirect_stdout(io.StringIO()):  # Quantus prints what it warns of
        tables = page(installed, photographs)
    text = f"{MARK}\n\n{_origin(installed, time.process_time() - start)}\n\n{tables}\n"
    if to is None:
        print(text)
    else:
        written = to.read_text() if to.exists() else "# Metrics of other libraries\n\n"
        to.write_text(written.partition(MARK)[0] + text)


if __name__ == "__main__":
    typer.run(main)

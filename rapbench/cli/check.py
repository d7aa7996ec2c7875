"""`rapbench check`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from rapbench.cli.options import DEFAULTS, AsJson, DataRoot, Form, path
from rapbench.report.formats import Format


def check(
    against: Annotated[
        Path, typer.Option(parser=path, help="Baseline: a JSON file with a spec, tolerances and values.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(parser=path, help="Keep the rows in this results folder, and go on from it. [default: neither]"),
    ] = None,
    data_root: DataRoot = DEFAULTS.data_root,
    update: Annotated[
        bool, typer.Option("--update", help="Put what was found in place of what differs; the rest stays.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also print the numbers that agree.")] = False,
    form: Form = Format.TEXT,
    as_json: AsJson = False,
) -> None:
    """Compare metric numbers with a committed baseline; exit with 1 if any differs.

    Runs what the baseline's spec names, afresh. Rows in --out are taken if the same code and libraries computed them. A
    number better than the baseline's differs as well: the file is updated knowingly, or not at all.
    """
    from rapbench.cli.finished import finished
    from rapbench.core.writing import write_whole
    from rapbench.report.baseline import Baseline, document
    from rapbench.report.formats import rendered
    from rapbench.results.store import Store
    from rapbench.run.resolve import prepare
    from rapbench.run.spec import read_parts

    baseline = Baseline.read(against)
    with TemporaryDirectory(prefix="rapbench-") if out is None else nullcontext(out) as folder:
        specs = read_parts(baseline.spec, {"out": Path(folder), "data_root": data_root})
        experiments = [prepare(spec) for spec in specs.values()]
        for experiment in experiments:
            experiment.refuse_others(Store(Path(folder)))
        comparisons = baseline.compared(result for experiment in experiments for result in finished(experiment).results)
    agree = all(comparison.agrees for comparison in comparisons)
    if update and not agree:
        write_whole(against, baseline.updated(comparisons).text().encode())
    remark = "" if agree else f"; {against} is updated" if update else "; --update takes what was found"
    shown = document(comparisons, everything=everything, remark=remark)
    typer.echo(rendered(shown, Format.JSON if as_json else form))
    raise typer.Exit(0 if agree or update else 1)

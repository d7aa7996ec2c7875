"""`rapbench ranks`."""

from __future__ import annotations

import typer

from rapbench.cli.options import (
    OUTS,
    AsJson,
    Form,
    OnlyDataset,
    OnlyDevice,
    OnlyMethods,
    OnlyMetrics,
    OnlyModel,
    OnlyPrecision,
    OnlySeed,
    OnlySelect,
    OnlyTarget,
    OnlyWeights,
    Outs,
    Verify,
    filter_of,
    refuse_damaged,
    stores,
)
from rapbench.report.formats import Format


def ranks(
    context: typer.Context,
    out: Outs = OUTS,
    verify: Verify = False,
    form: Form = Format.TEXT,
    as_json: AsJson = False,
    method: OnlyMethods = None,
    metric: OnlyMetrics = None,
    model: OnlyModel = None,
    dataset: OnlyDataset = None,
    weights: OnlyWeights = None,
    select: OnlySelect = None,
    target: OnlyTarget = None,
    seed: OnlySeed = None,
    precision: OnlyPrecision = None,
    device: OnlyDevice = None,
) -> None:
    """Rank the methods of one network on one data set over all metrics: who is first, how sure, do the metrics agree.

    Ranks are by the variants that tables show; guards take no part. `rapbench figure critical_difference` draws which
    methods each metric tells apart.
    """
    from rapbench.core.errors import DataMissing
    from rapbench.papers.comparison import refuse_several
    from rapbench.report.formats import rendered
    from rapbench.report.rank_tables import document
    from rapbench.report.ranks import ranks as ranked
    from rapbench.report.result import results

    store, asked = stores(out), filter_of(context)
    held = [one for one in store.held() if asked.admits(one.cell) and not one.cell.is_study]
    refuse_several([one.cell for one in held], "one table of ranks")
    found = ranked([result for one in held for result in results(one)])
    if verify:
        refuse_damaged(store)
    if found is None:
        raise DataMissing(f"fewer than two methods{asked.clause} to rank in {store}: `rapbench run` computes some")
    typer.echo(rendered(document(found), Format.JSON if as_json else form))

"""`rapbench run`."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rapbench.cli.failures import Failures, said
from rapbench.cli.figure import drawn
from rapbench.cli.finished import Finished, finished, unit
from rapbench.cli.options import (
    DEFAULTS,
    METHODS,
    AsJson,
    Backend,
    Config,
    DataRoot,
    Dataset,
    Device,
    Exhibit,
    MethodList,
    Model,
    Out,
    Seed,
    Weights,
    path,
    specs,
    typed,
)
from rapbench.cli.preview import Preview, preview
from rapbench.core.errors import BadConfig
from rapbench.core.stages import stage
from rapbench.run.spec import RunSpec

if TYPE_CHECKING:
    from rapbench.run.plan import Experiment


def run(
    context: typer.Context,
    exhibit: Exhibit = None,
    method: MethodList = METHODS,
    model: Model = DEFAULTS.model,
    weights: Weights = DEFAULTS.weights,
    dataset: Dataset = DEFAULTS.dataset,
    data_root: DataRoot = DEFAULTS.data_root,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metrics, like --method. [default: all that the images support]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first images. [default: all; 96 of scenes]")
    ] = DEFAULTS.limit,
    select: Annotated[
        str, typer.Option(help="all, or correct: only images that the network classifies correctly.")
    ] = DEFAULTS.select,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Take the images in an order drawn by the seed.")
    ] = DEFAULTS.shuffle,
    target: Annotated[
        str, typer.Option(help="Class to explain: predicted, label, or one for all images, by name or index.")
    ] = DEFAULTS.target,
    seed: Seed = DEFAULTS.seed,
    device: Device = DEFAULTS.device,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a batch; halves itself when memory runs out. [default: chosen]")
    ] = DEFAULTS.batch_size,
    readers: Annotated[
        int | None,
        typer.Option(help="Processes that read images ahead; 0: the run itself. [default: 8 on cuda, else 0]"),
    ] = DEFAULTS.readers,
    precision: Annotated[
        str, typer.Option(help="auto (fp32, more where a method needs it), fp32, fp64, tf32 or bf16.")
    ] = DEFAULTS.precision,
    scoring_precision: Annotated[
        str, typer.Option(help="Of the inputs that metrics have classified: same, fp32, fp64, tf32 or bf16.")
    ] = DEFAULTS.scoring_precision,
    compile_scoring: Annotated[
        bool, typer.Option("--compile-scoring", help="Compile the network for them: pays on cuda in tf32 and bf16.")
    ] = DEFAULTS.compile_scoring,
    backend: Backend = DEFAULTS.backend,
    out: Out = DEFAULTS.out,
    config: Config = None,
    part: Annotated[list[str] | None, typer.Option(help="Only these parts of the config. [default: all]")] = None,
    shard: Annotated[
        str | None, typer.Option(help="Do the i-th of N shares of the tasks (i/N from 0, or env), print no tables.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes on this machine, each with a GPU.")] = None,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Add to rows of other library versions or another device.")
    ] = DEFAULTS.allow_mixed,
    check: Annotated[
        str, typer.Option(help="on, or off: do not compare what is explained with the network on the first images.")
    ] = DEFAULTS.check,
    save_maps: Annotated[
        Path | None,
        typer.Option(parser=path, help="Folder for one .npz per image and method: relevance, target, logit."),
    ] = DEFAULTS.save_maps,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")
    ] = DEFAULTS.strict,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Of a paper's table: also what its cells could mean instead; print all.")
    ] = False,
    as_json: AsJson = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what would be done and what it would cost, stop.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Say where in its code a method or metric failed, not only what it said.")
    ] = False,
) -> None:
    """Explain images with attribution methods and score the explanations.

    Rows are kept in the results folder: a run that was stopped goes on where it was, and a metric or method asked for
    later is computed alone.
    """
    if sweep and exhibit is None:
        raise BadConfig("--sweep belongs to a paper's table: rapbench run rap2020/table1 --sweep")
    runs = specs(context)
    if dry_run:
        said("a dry run: a few images are timed, and nothing is stored")
        previews = _previewed(runs)
        texts = [_headed(name, shown.text()) for name, shown in previews.items()]
        whole = _joined({name: shown.document() for name, shown in previews.items()})
        typer.echo(json.dumps(whole) if as_json else "\n\n".join(texts))
        return
    experiments = _prepared(runs)
    if shard is not None:
        raise typer.Exit(_work(experiments, shard, as_json=as_json))
    if workers is not None:
        _spread(workers, experiments)
    ended: dict[str, Finished] = {}
    for name, experiment in experiments.items():
        ended[name] = finished(experiment, Failures(debug=debug))
        if not as_json and ended[name].has_rows:
            typer.echo(_headed(name, ended[name].text()) + ("\n" if len(experiments) > 1 else ""))
    documents: dict[str, Any] = {name: done.document() for name, done in ended.items()}
    exhibited = _exhibited(context, exhibit, list(ended.values()), as_json=as_json) if exhibit else {}
    if as_json:
        typer.echo(json.dumps(_joined(documents) | exhibited))
    raise typer.Exit(_told_of_the_end(list(ended.values())))


def _told_of_the_end(ended: list[Finished]) -> int:
    """Says on stderr where the rows are and what failed; the exit code."""
    outs = " and ".join(dict.fromkeys(shlex.quote(str(done.experiment.spec.out)) for done in ended))
    failed = ", ".join(dict.fromkeys(who for done in ended for who in done.failures))
    if failed and any(done.has_rows for done in ended):
        said(f"rapbench: failed: {failed}; the rows of the others are in {outs}")
    elif not failed:
        said(f"rows are in {outs}: rapbench table --out {outs} prints them, rapbench report --out {outs} shows a page")
    return 2 if failed else 0


def _exhibited(context: typer.Context, name: str, ended: list[Finished], *, as_json: bool) -> dict[str, Any]:
    """Prints the paper's table or draws its figure from the rows of the runs; what JSON holds of it."""
    from rapbench.papers import shown
    from rapbench.papers.card import Figure
    from rapbench.papers.card import exhibit as card_of
    from rapbench.report.formats import Format, rendered
    from rapbench.results.select import Filter
    from rapbench.results.store import Store

    cells = [cell for done in ended for cell in done.experiment.cells.values()]
    given = {key: value for key, value in typed(context).items() if key in {"model", "dataset", "target"}}
    if "target" in given:
        given["target"] = cells[0].identity.target  # the index where a name was typed
    settings = tuple({cell.key: cell.identity.setting() for cell in cells}.values())
    asked, store, card = Filter(**given, settings=settings), Store(context.params["out"]), card_of(name)
    if isinstance(card, Figure):
        files = [str(file) for file in drawn(name, card.kind(), store, asked, store.root / "figures")]
        if not as_json:
            typer.echo("\n".join(files))
        return {"files": files}
    of_sweep = context.params["sweep"]
    document = shown.readings(name, store, asked) if of_sweep else shown.beside_published(name, store, asked)
    if not as_json:
        typer.echo(rendered(document, Format.TEXT))
    return {"table": json.loads(rendered(document, Format.JSON))}


def _joined(documents: Mapping[str, Any]) -> dict[str, Any]:
    """One document of those of the parts."""
    return documents[""] if documents.keys() == {""} else {"parts": dict(documents)}


def _spread(workers: int, experiments: Mapping[str, Experiment]) -> None:
    """Lets processes on this machine do the work; what a lost one leaves undone, this process does afterwards."""
    from rapbench.workers.processes import exit_codes

    arguments = [
        a for a, before in zip(sys.argv[1:], ["", *sys.argv[1:]], strict=False) if "--workers" not in (a, before)
    ]
    arguments = [a for a in arguments if not a.startswith("--workers=")]
    codes = exit_codes(workers, arguments, next(iter(experiments.values())).device)
    for k, code in enumerate(codes):
        if code:
            typer.echo(f"worker {k} of {workers} ended with exit code {code}", err=True)


def _work(experiments: Mapping[str, Experiment], shard: str, *, as_json: bool) -> int:
    """Does one shard and says so; 1 where a task of it failed."""
    from rapbench.cli.progress import ProgressBar
    from rapbench.results.store import Store
    from rapbench.run.engine import work as work_of
    from rapbench.run.selection import settled
    from rapbench.workers.shards import Shard, work, written_plan

    share = Shard.parse(shard)
    experiments = {name: settled(experiment) for name, experiment in experiments.items()}
    store = Store(next(iter(experiments.values())).spec.out)
    written_plan(experiments, store.root)
    ahead: Counter[str] = Counter()
    total = 0
    for experiment in experiments.values():
        own = set(map(experiment.task_id, share.of(experiment.tasks())))
        tasks = [task for task in experiment.pending(store) if experiment.task_id(task) in own]
        ahead.update(work_of(experiment, tasks))
        total += sum(map(experiment.num_images, tasks))
    with ProgressBar(total, unit(next(iter(experiments.values()))), ahead) as progress:
        outcome = work(list(experiments.values()), share, store, progress)
    if as_json:
        typer.echo(json.dumps({"shard": f"{share.index}/{share.count}", **asdict(outcome)}))
        return 1 if outcome.failed else 0
    failed = f", {len(outcome.failed)} failed: {', '.join(outcome.failed)}" if outcome.failed else ""
    typer.echo(f"shard {share.index}/{share.count}: {outcome.done} tasks done, {outcome.found} were{failed}")
    return 1 if outcome.failed else 0


def _prepared(runs: Mapping[str, RunSpec]) -> dict[str, Experiment]:
    """Every part loaded and checked before anything is computed."""
    from rapbench.run.resolve import prepare

    experiments = {}
    for name, spec in runs.items():
        with _loading(name, runs):
            experiments[name] = prepare(spec)
    return experiments


def _previewed(runs: Mapping[str, RunSpec]) -> dict[str, Preview]:
    """What every part would do; parts of one network are timed together."""
    from rapbench.doctor.probe import Measured
    from rapbench.run import resolve
    from rapbench.run.rehearsal import rehearsed

    for name, spec in runs.items():
        with _loading(name, runs):  # what is missing is said before anything is timed
            resolve.dataset(spec.dataset, spec.data_root, resolve.settings(spec).size)
    measured, previews = Measured(), {}
    for name, spec in runs.items():
        with ExitStack() as stack:
            with _loading(name, runs):
                rehearsal = stack.enter_context(rehearsed(spec))
            previews[name] = preview(rehearsal, measured)
    return previews


@contextmanager
def _loading(name: str, runs: Mapping[str, RunSpec]) -> Iterator[None]:
    """Says what of a part is loaded; where its data is missing, also which parts have theirs."""
    from rapbench.cli.progress import ProgressBar
    from rapbench.core.errors import DataMissing

    try:
        with ProgressBar(), stage(f"loading {runs[name].dataset} and {runs[name].model}"):
            yield
    except DataMissing as error:
        if not name:
            raise
        others = ",".join(other for other in runs if other != name)
        raise DataMissing(f"part {name}: {error}" + (f" (--part {others} leaves it out)" if others else "")) from error


def _headed(name: str, text: str) -> str:
    return f"part {name}: {text}" if name else text

"""The sections of a report, put together from what tables, figures and papers make of the results folder."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from rapbench import __version__
from rapbench.cli.failures import said
from rapbench.cli.gallery import Wish, gallery
from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadConfig, DataMissing, RapbenchError
from rapbench.core.stages import stage
from rapbench.papers import shown
from rapbench.papers.card import Figure, Table, exhibit
from rapbench.papers.card import exhibits as listed
from rapbench.report import rank_tables
from rapbench.report.best import LEGEND
from rapbench.report.curves import PerturbationCurves, Plotted
from rapbench.report.html import figures, runs, tables
from rapbench.report.html import gallery as pictures
from rapbench.report.html.curves import curves
from rapbench.report.html.figures import Place
from rapbench.report.html.markup import prose
from rapbench.report.html.page import page
from rapbench.report.html.parts import Part, Section, needed
from rapbench.report.html.separations import separations
from rapbench.report.html.spreads import spreads
from rapbench.report.ranks import ranks
from rapbench.report.result import Result, results
from rapbench.report.runs import Run, titles
from rapbench.report.runs import runs as runs_of
from rapbench.report.tables import Scores, heading, scores
from rapbench.report.verification import Verification
from rapbench.results.select import Filter, of_one_setting
from rapbench.results.store import Folder, Held
from rapbench.run.spec import read_parts


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What a report is of.

    Attributes:
        store: the results folders, read as one.
        roots: where they are.
        asked: which of its cells.
        exhibits: names of papers' tables and figures; none asks for those that fit.
    """

    store: Folder
    roots: tuple[Path, ...]
    asked: Filter
    exhibits: tuple[str, ...] = ()

    @cached_property
    def held(self) -> list[Held]:
        """The cells that are asked for.

        Raises:
            DataMissing: there is none.
        """
        found = [one for one in self.store.held() if self.asked.admits(one.cell) and len(one.rows.frame)]
        if not found:
            raise DataMissing(
                f"no results{self.asked.clause} in {self.store}; `rapbench run` writes some, --out names another folder"
            )
        return found

    @cached_property
    def results(self) -> list[Result]:
        """All numbers of metrics."""
        return [result for one in self.held if not one.cell.is_study for result in results(one)]

    @cached_property
    def runs(self) -> list[Run]:
        """What was run."""
        return runs_of(self.held)

    @cached_property
    def tables(self) -> list[Scores]:
        """The tables of all numbers."""
        return scores(self.results)

    def command(self, name: str) -> str:
        """A command on the same cells."""
        outs = [f"--out {shlex.quote(str(root))}" for root in self.roots]
        return " ".join(filter(None, [f"rapbench {name}", str(self.asked), *outs]))


def reported(source: Source, title: str | None, wish: Wish | None, verified: Sequence[Verification] = ()) -> str:
    """The page of a results folder.

    Args:
        source: what it is of.
        title: of the page; None says what was run.
        wish: what its gallery is asked for; None leaves it out.
        verified: what came of computing rows again.

    Raises:
        DataMissing: the folder holds nothing of what is asked for.
        UnknownName: no such table or figure, or no such metric to rank images by.
    """
    of_papers = _of_papers(source)
    sections = [
        runs.section(source.runs, source.store.root),
        Section(name="scores", title="Scores", parts=(*_scores(source, guards=False), *_legend(source))),
        of_papers,
        Section(name="figures", title="Figures", parts=_read(tuple(_figures(source)))),
        Section(name="ranks", title="Ranks", parts=tuple(_ranks(source))),
        Section(name="gallery", title="Gallery", parts=tuple(_gallery(source, wish)) if wish else ()),
        Section(name="guards", title="Guards", parts=tuple(_guards(source))),
        Section(name="verified", title="Rows computed again", parts=tuple(_verified(verified))),
    ]
    return page(title or _title(source), _lead(source), sections)


def _title(source: Source) -> str:
    return "; ".join(dict.fromkeys(run.title for run in source.runs))


def _lead(source: Source) -> str:
    cells = [one.cell for one in source.held]
    methods, metrics = (len({getattr(cell, key) for cell in cells}) for key in ("method", "metric"))
    return f"{methods} methods scored by {metrics} metrics, read from {source.store} by rapbench {__version__}."


def _scores(source: Source, *, guards: bool) -> tuple[Part, ...]:
    """The tables of metrics, or of guards."""
    found: list[Part] = []
    for n, table in enumerate(source.tables):
        if table.is_guard is guards:
            cells = {line.cell for line in table.lines}
            every = [result for result in source.results if result.cell in cells]
            found += tables.scored(table, every, f"table-{n}", source.command("table"))
    return tuple(found)


def _legend(source: Source) -> tuple[Part, ...]:
    return needed(prose(LEGEND, "note")) if any(table.marks for table in source.tables) else ()


def _guards(source: Source) -> Iterator[Part]:
    """What checks maps rather than scores them."""
    from rapbench.cli.finished import guards

    of_guards = _scores(source, guards=True)
    if of_guards:
        yield from needed(prose(f"{guards(source.results)}.".capitalize()))
        yield from of_guards


def _verified(found: Sequence[Verification]) -> Iterator[Part]:
    for one in found:
        yield from needed(*(prose(line) for line in one.lines()))


def _of_papers(source: Source) -> Section:
    """Papers' tables beside their published numbers."""
    names = [name for name in source.exhibits or listed() if isinstance(exhibit(name), Table)]
    found: list[Part] = []
    for n, name in enumerate(names):
        try:
            document = shown.beside_published(name, source.store, source.asked)
        except (DataMissing, BadConfig):
            if source.exhibits:
                raise
            continue
        controls = {record["title"] for record in document.records if record["control"]}
        found += tables.printed(document, f"paper-{n}", controls, source.command(f"table {name}"))
    return Section(name="papers", title="Beside published numbers", parts=tuple(found))


def _figures(source: Source) -> Iterator[Part]:
    """Curves of every run, boxes of every table, and the figures of papers."""
    orders: dict[Literal["lerf", "morf"], str] = {
        "lerf": "least relevant first (LeRF)",
        "morf": "most relevant first (MoRF)",
    }
    for order, what in orders.items():
        kind = PerturbationCurves(order=order)
        yield from _curves(source, kind, f"Accuracy while pixels are erased, {what}", "perturbation", f"curves-{order}")
    for n, table in enumerate(source.tables):
        if not table.is_guard:
            title = f"Spread over images: {heading(table.group)}"
            yield from spreads(table, Place(name=f"spread-{n}", title=title, command=source.command("table")))
    for n, name in enumerate(source.exhibits or listed()):
        card = exhibit(name)
        if isinstance(card, Figure) and (source.exhibits or _is_of(card, source)):
            yield from _figure(source, card, name, f"figure-{n}")


def _read(found: tuple[Part, ...]) -> tuple[Part, ...]:
    """Figures, and how they are read."""
    return (*needed(prose(figures.READING, "note")), *found) if found else ()


def _is_of(card: Figure, source: Source) -> bool:
    """Whether the folder holds rows of a network and images that a paper's figure is of."""
    shown = {(parse_call(spec.dataset).name, spec.model) for spec in read_parts(card.run, {}).values()}
    return any((own.dataset.name, own.model.name) in shown for own in (one.cell.identity for one in source.held))


def _curves(source: Source, kind: Plotted, called: str, figure: str, name: str) -> Iterator[Part]:
    held = [one for one in source.held if one.cell.identity.metric.name == kind.metric]
    for n, plot in enumerate(kind.plots(held)):
        title = ", ".join(filter(None, [called, plot.setting.partition("(")[2].rstrip(")")]))
        yield from curves(plot, Place(name=f"{name}-{n}", title=title, command=source.command(f"figure {figure}")))


def _figure(source: Source, card: Figure, name: str, place: str) -> Iterator[Part]:
    """A paper's figure, of what the folder holds of its metric."""
    kind, called = card.kind(), f"{card.title} ({card.source})"
    if isinstance(kind, Plotted):
        yield from _curves(source, kind, called, name, place)
        return
    held = [one for one in source.held if one.cell.identity.metric.name == kind.metric]
    for n, drawing in enumerate(kind(held) if held else ()):
        at = Place(name=f"{place}-{n}", title=called, command=source.command(f"figure {name}"))
        yield from figures.drawn(drawing, at)


def _ranks(source: Source) -> Iterator[Part]:
    """Methods ranked over all metrics of a setting, and which of them each metric tells apart."""
    settings = of_one_setting(source.results, lambda result: result.cell)
    for n, (some, title) in enumerate(zip(settings, titles([some[0].cell for some in settings]), strict=True)):
        if found := ranks(some):
            document = replace(rank_tables.document(found), title=title)
            yield from tables.printed(document, f"ranks-{n}", found.controls, source.command("ranks"))
            told, command = f"What each metric tells apart: {title}", source.command("figure critical_difference")
            yield from separations(found, Place(name=f"apart-{n}", title=told, command=command))


def _gallery(source: Source, wish: Wish) -> Iterator[Part]:
    """The gallery of every run; where it cannot be, a line says why."""
    for n, run in enumerate(source.runs):
        cells = {one.cell for one in run.held}
        found = [result for result in source.results if result.cell in cells]
        if not found:
            continue
        try:
            with stage("the gallery"):
                shown_of_run = gallery(run, found, wish)
        except RapbenchError as error:
            line = f"no gallery of {run.title}: {error}"
            said(f"rapbench: {line}")
            yield from needed(prose(f"{line}.".capitalize(), "note"))
            continue
        yield from pictures.parts(
            shown_of_run, f"gallery-{n}", "`rapbench report --pictures` with fewer, or `rapbench show`"
        )

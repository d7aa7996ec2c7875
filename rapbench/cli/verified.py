"""A sample of stored rows computed again: whether they are what is computed here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rapbench.cli.again import prepared
from rapbench.cli.failures import Failures, said
from rapbench.cli.options import refuse_damaged
from rapbench.core.errors import BadConfig, RapbenchError
from rapbench.core.seeds import image_seed
from rapbench.metrics import METRICS, is_guard
from rapbench.report.verification import ALIKE, APART, Difference, Verification, differences

if TYPE_CHECKING:
    import pandas as pd

    from rapbench.cli.reported import Source
    from rapbench.report.runs import Run
    from rapbench.results.cell import Cell
    from rapbench.results.store import Held
    from rapbench.run.plan import Experiment

Drawn = Mapping[str, Mapping[int, Sequence[str]]]
"""By a cell's key, the blocks whose rows are to be computed again, and the images of which it has rows in each."""


@dataclass(frozen=True)
class Portion:
    """How many rows of a cell are computed again: a share of them such as '1%', or a number of images."""

    text: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d{1,9}|(100|\d{1,2}(\.\d{1,9})?)%", self.text):
            raise BadConfig(f"--verify {self.text}: a share of the rows such as 1%, or a number of images, is needed")

    def of(self, rows: int) -> int:
        """Of so many rows: of a share that is not 0 at least one."""
        share, percent, _ = self.text.partition("%")
        return math.ceil(rows * float(share) / 100) if percent else min(rows, int(share))


def verifications(source: Source, portion: Portion, given: Mapping[str, object]) -> list[Verification]:
    """What came of computing rows of each run again, said on stderr as well.

    Raises:
        BadData: a stored file is damaged.
    """
    runs = source.runs
    refuse_damaged(source.store)
    found = [verification(run, portion, given) for run in runs]
    for line in (line for one in found for line in one.lines()):
        said(f"rapbench: {line}")
    return found


def verification(run: Run, portion: Portion, given: Mapping[str, object]) -> Verification:
    """Rows of a run beside the same computed again, in whole blocks, drawn for all cells in one random order.

    So a block is explained once for all cells, of every cell some rows are computed, and the images of a batch are
    those that it had: rounding depends on them.

    Args:
        run: of the store.
        portion: how many rows of each cell.
        given: settings that a store does not hold whole.
    """
    drawn = {one.cell.key: _drawn(one, portion) for one in run.held}
    experiment, lacks = _here(run, given)
    now, failures = _computed(experiment, run, {key: some for key, some in drawn.items() if key not in lacks})
    lacking: dict[str, dict[tuple[str, str], int]] = {}
    for one in run.held:
        key, cell = one.cell.key, one.cell
        if missing := sum(map(len, drawn[key].values())) - len(now.get(key, ())):
            reason = lacks.get(key) or _failed(cell, failures) or "images could not be read again"
            lacking.setdefault(reason, {})[cell.method, cell.metric] = missing
    rows = [row for one in run.held for row in _differences(one, experiment, now.get(one.cell.key))]
    return Verification(
        title=run.title,
        asked=portion.text,
        num_rows=sum(len(one.rows.frame) for one in run.held),
        rows=rows,
        lacking=lacking,
        elsewhere=_elsewhere(run, experiment) if experiment else None,
    )


def _drawn(one: Held, portion: Portion) -> dict[int, Sequence[str]]:
    """The blocks of a cell that are computed again, with the images of its rows: as many as hold so many rows."""
    stored, seed = _by_block([one]), one.cell.identity.seed
    left, drawn = portion.of(len(one.rows.frame)), {}
    for block in sorted(stored, key=lambda block: image_seed(seed, str(block))):
        if left > 0:
            drawn[block] = stored[block]
            left -= len(stored[block])
    return drawn


def _by_block(held: Sequence[Held]) -> Mapping[int, Sequence[str]]:
    """By block, the images of which cells have rows, in the run's order."""
    from rapbench.run.plan import BLOCK_SIZE

    names: dict[int, str] = {}
    for one in held:
        names |= dict(zip(one.rows.frame["index"].tolist(), one.rows.frame["id"].tolist(), strict=True))
    found: dict[int, list[str]] = {}
    for index in sorted(names):
        found.setdefault(index // BLOCK_SIZE, []).append(names[index])
    return found


def _here(run: Run, given: Mapping[str, object]) -> tuple[Experiment | None, dict[str, str]]:
    """The run as far as it can be computed here, and by a cell's key why others cannot."""
    lacks = {one.cell.key: reason for one in run.held if (reason := _spared(one.cell) or _unbuilt(one.cell))}
    cells = [one.cell for one in run.held if one.cell.key not in lacks]
    asked = {kind: [*dict.fromkeys(getattr(cell, kind) for cell in cells)] for kind in ("method", "metric")}
    try:
        experiment = prepared(run, {**asked, **given}) if cells else None
    except RapbenchError as error:
        return None, lacks | {cell.key: str(error) for cell in cells}
    others = {cell.key: reason for cell in cells if experiment and (reason := _other(cell, experiment))}
    return experiment, lacks | others


def _spared(cell: Cell) -> str:
    """Why a cell's rows are not computed again wherever it is; empty where they are."""
    if cell.is_study:
        return "a study has no rows of images"
    return "what guards measure is rounding itself" if is_guard(cell.identity.metric.name) else ""


def _unbuilt(cell: Cell) -> str:
    """Why a cell's method or metric is not at hand; empty where both are."""
    from rapbench.backends import BACKENDS
    from rapbench.core.catalogue import parse_call

    try:
        BACKENDS.load(cell.identity.method.backend).build(parse_call(cell.method))
        METRICS.build(parse_call(cell.metric))
    except RapbenchError as error:
        return str(error)
    return ""


def _other(cell: Cell, experiment: Experiment) -> str:
    """What here is not what computed a cell's rows; empty where all is."""
    if cell.key in {own.key for own in experiment.cells.values()}:
        return ""
    namesake = experiment.cells.get((cell.method, cell.metric))
    ours, theirs = cell.identity.document(), namesake.identity.document() if namesake else {}
    parts = [name for name in ours if ours[name] != theirs.get(name)]
    return f"what computed them is not what is here: {', '.join(parts)}"


def _computed(experiment: Experiment | None, run: Run, drawn: Drawn) -> tuple[dict[str, pd.DataFrame], Failures]:
    """The rows by their cell's key, and what failed."""
    from rapbench.cli.progress import ProgressBar
    from rapbench.run.recomputed import Again, num_explanations, recomputed

    images, failures = _by_block(run.held), Failures()
    wanted = sorted({block for some in drawn.values() for block in some})
    asked = [Again(images[n], frozenset(key for key, some in drawn.items() if n in some)) for n in wanted]
    if experiment is None or not asked:
        return {}, failures
    with ProgressBar(num_explanations(experiment, asked), "explanations") as progress:
        found = recomputed(experiment, asked, progress, failures)
    names = {key: [image for images in some.values() for image in images] for key, some in drawn.items()}
    return {key: rows[rows["id"].isin(names[key])] for key, rows in found.items()}, failures


def _failed(cell: Cell, failures: Failures) -> str:
    """What the method or the metric of a cell raised."""
    who = (f"method {cell.method}", f"metric {cell.metric}", f"metric {cell.metric} of {cell.method}")
    return next((failures[one] for one in who if one in failures), "")


def _differences(one: Held, experiment: Experiment | None, now: pd.DataFrame | None) -> Iterator[Difference]:
    if experiment and now is not None:
        alike = experiment.device.type == "cpu" and all(origin == experiment.origin for origin in one.rows.origins)
        yield from differences(one.cell, one.rows.frame, now, ALIKE if alike else APART)


def _elsewhere(run: Run, experiment: Experiment) -> tuple[str, str] | None:
    """What computed the rows and what computed them again, as far as that is not the same."""
    from rapbench.report.result import origin_text

    here, others = experiment.origin, [origin for origin in run.origins if origin != experiment.origin]
    known = dict.fromkeys(name for origin in (here, *others) for name in origin)
    names = [name for name in known if len({origin.get(name) for origin in (here, *others)}) > 1]
    told = [origin_text({name: origin.get(name, "unknown") for name in names}) for origin in (*others, here)]
    return (" | ".join(told[:-1]), told[-1]) if others else None

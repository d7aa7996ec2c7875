"""What was run, as a section of a page: the command, the images, what computed the rows, and every parameter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rapbench.report.html.markup import Markup, element, joined, lines
from rapbench.report.html.parts import Part, Section, details, heading
from rapbench.report.html.tables import Row, cell, column, row_head, table
from rapbench.report.result import origin_text
from rapbench.report.runs import Run, counted


def section(found: Sequence[Run], out: Path) -> Section:
    """What was run."""
    parts = [Part(content=_run(run, f"run-{n}", out)) for n, run in enumerate(found)]
    return Section(name="runs", title="What was run", parts=tuple(parts))


def _run(run: Run, name: str, out: Path) -> Markup:
    own = run.cell.identity
    facts = {
        "images": _images(run),
        "not read": counted(run.skipped),
        "unusual": counted(run.noted),
        "data set": f"{run.cell.dataset}, content {own.dataset.fingerprint[:16]}, selection {own.dataset.select}"
        + (", shuffled" if own.dataset.shuffle else ""),
        "network": f"{run.cell.model_title}, weights {own.model.weights}, digest {own.model.digest[:16]}",
        "seed": str(own.seed),
        "precision": run.precision + (f", scoring {own.metric.arithmetic}" if own.metric.arithmetic else ""),
        "device": own.device,
        "computed by": " | ".join(map(origin_text, run.origins)),
    }
    terms = [joined([element("dt", {}, key), element("dd", {}, text)]) for key, text in facts.items() if text]
    command = element("pre", {"class": "command", "tabindex": 0}, element("code", {}, run.command(out)))
    whole = element("pre", {"tabindex": 0}, lines(json.dumps(run.document(), indent=1, ensure_ascii=False)))
    return element(
        "article",
        {"class": "run"},
        heading(run.title, name),
        command,
        element("dl", {}, *terms),
        details("the spec: every parameter that numbers depend on", whole),
        details(f"{len(run.held)} cells with their keys", _cells(run, name), name=f"{name}-cells"),
    )


def _images(run: Run) -> str:
    there = max(len(one.rows.frame) for one in run.held)
    return str(run.images) if there + sum(run.skipped.values()) >= run.images else f"{there} of {run.images}"


def _cells(run: Run, name: str) -> Markup:
    header = [column(text, numeric=text == "rows") for text in ("method", "metric", "rows", "key")]
    rows = [
        Row(
            cells=(
                row_head(one.cell.method),
                cell(one.cell.metric, "words"),
                cell(str(len(one.rows.frame))),
                cell(one.cell.key, "words"),
            )
        )
        for one in run.held
    ]
    return table(f"{name}-cells", header, rows)

"""Stored rows as files that others read without this package, with what they mean and their checksums."""

from __future__ import annotations

import csv
import hashlib
import inspect
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rapbench.core.catalogue import Call, parse_call, placeless
from rapbench.core.paths import stem_of
from rapbench.methods import is_control
from rapbench.metrics import METRICS
from rapbench.report.formats import TableForm, csv_field, field_safe, markdown_safe, printable
from rapbench.results.exported import CELLS, SUMS
from rapbench.results.select import grouped, names
from rapbench.results.store import spec

if TYPE_CHECKING:
    from rapbench.results.cell import Cell, Parameters
    from rapbench.results.store import Held

COLUMNS = {
    "method": "how the method is called, with parameters that are not its defaults",
    "key": "16 hexadecimal digits that change exactly when the numbers may",
    "index": "place of the image in the run's order, from 0",
    "id": "the data set's own name of the image",
    "label": "class index of the image in the network's terms, -1 where unknown",
    "target": "class index that was explained",
}
"""What rows of every metric hold; the others are the metric's own."""
LICENCE = (
    "No image, mask, box or weight is in this folder. Names of images, labels and what is computed from images come "
    "from data sets that belong to their owners: their terms say what may be done with them."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shelf:
    """The rows of all methods for one metric on one data set by one network.

    Attributes:
        held: a cell a method, controls last.
        names: how the methods are called, without folders of files.
    """

    held: tuple[Held, ...]
    names: tuple[str, ...]

    @property
    def cell(self) -> Cell:
        """Any of the cells."""
        return self.held[0].cell

    @property
    def setting(self) -> dict[str, Any]:
        """All that the numbers depend on but the method."""
        return {key: part for key, part in self.cell.identity.document().items() if key != "method"}

    @property
    def stem(self) -> str:
        """Name of its file without its form: readable parts, then digits of the setting."""
        own = self.cell.identity
        parts = (stem_of(part.name.rpartition(":")[2]) for part in (own.dataset, own.model, own.metric))
        digits = hashlib.sha256(json.dumps(self.setting, sort_keys=True).encode()).hexdigest()[:8]
        return ".".join([*parts, digits])

    @cached_property
    def table(self) -> pa.Table:
        """The rows, a method after the other, each with its name and key; a column that a method lacks is null."""
        tables = [_named(one, name) for one, name in zip(self.held, self.names, strict=True)]
        return pa.concat_tables(tables, promote_options="permissive")

    def document(self) -> dict[str, Any]:
        """What is to be known of it, as `spec.json` holds it."""
        methods = {name: _method(one) for name, one in zip(self.names, self.held, strict=True)}
        columns = {field.name: _column(field) for field in self.table.schema}
        title = self.cell.model_title
        return {"setting": self.setting, "model_title": title, "columns": columns, "methods": methods}


def shelves(held: Sequence[Held]) -> list[Shelf]:
    """Stored cells by what may stand in one table, in the order of their files' names."""
    groups = [group.members for group in grouped(held, lambda one: one.cell)]
    return sorted(map(_shelf, groups), key=lambda shelf: shelf.stem)


def files(found: Sequence[Shelf], form: TableForm, *, version: str) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file: the rows, `spec.json`, a README, cells, and last the checksums of all others.

    The same rows give the same bytes, with the same pyarrow.

    Args:
        found: the rows.
        form: how they are written.
        version: of this package, to be told.
    """
    sums, told = {}, {}
    for shelf in found:
        name = f"{shelf.stem}.{form}"
        content = _WRITERS[form](shelf.table)
        told[name] = shelf.document()
        sums[name] = hashlib.sha256(content).hexdigest()
        yield name, content
    document = {"rapbench": version, "licence": LICENCE, "files": told}
    told_of = {"spec.json": json.dumps(document, indent=1) + "\n", "README.md": _readme(found, form, version)}
    texts = ((name, text.encode()) for name, text in told_of.items())
    for name, content in chain(texts, *(_stored(one) for shelf in found for one in shelf.held)):
        sums[name] = hashlib.sha256(content).hexdigest()
        yield name, content
    yield SUMS, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def paths(found: Sequence[Shelf], form: TableForm) -> set[str]:
    """The paths of all files that these rows are written to."""
    tables = {f"{shelf.stem}.{form}" for shelf in found}
    return {"spec.json", "README.md", SUMS, *tables, *(path for s in found for one in s.held for path in _paths(one))}


def _shelf(members: Sequence[Held]) -> Shelf:
    called = names([_placeless(one.cell) for one in members])
    ordered = sorted(zip(called, members, strict=True), key=lambda pair: (_is_control(pair[1].cell), pair[0]))
    return Shelf(held=tuple(one for _, one in ordered), names=tuple(name for name, _ in ordered))


def _is_control(cell: Cell) -> bool:
    return is_control(cell.identity.method.name)


def _placeless(cell: Cell) -> Cell:
    """The cell, its images, method and metric called without the folders of files and code."""
    own = cell.identity
    return replace(
        cell,
        dataset=_told(cell.dataset, own.dataset.parameters),
        method=_told(cell.method, own.method.parameters),
        metric=_told(cell.metric, own.metric.parameters),
    )


def _told(text: str, parameters: Parameters) -> str:
    """What was typed, of a parameter that is a path, and so no part of an identity, only the last name."""
    call = parse_call(placeless(text))
    paths = {key for key in call.parameters if parameters.get(key, "file") == "file"}
    return str(Call(call.name, {k: Path(v).name if k in paths else v for k, v in call.parameters.items()}))


def _stored(held: Held) -> Iterator[tuple[str, bytes]]:
    """Path and content of a cell's files, as a results folder has them."""
    contents = chain([spec(_placeless(held.cell))], (path.read_bytes() for path in held.rows.files))
    return zip(_paths(held), contents, strict=True)


def _paths(held: Held) -> list[str]:
    """Where they lie in the export."""
    return [f"{CELLS}/{held.cell.folder}/{name}" for name in ("spec.json", *(path.name for path in held.rows.files))]


def _named(held: Held, name: str) -> pa.Table:
    table = pa.Table.from_pandas(held.rows.frame, preserve_index=False).replace_schema_metadata(None)
    for place, (column, text) in enumerate({"method": name, "key": held.cell.key}.items()):
        table = table.add_column(place, column, pa.array([text] * len(held.rows.frame), pa.string()))
    return table


def _column(field: pa.Field) -> dict[str, str]:
    meaning = {"meaning": COLUMNS[field.name]} if field.name in COLUMNS else {}
    return {"type": str(field.type), **meaning}


def _method(held: Held) -> dict[str, Any]:
    cell, rows = held.cell, held.rows
    return {
        "title": cell.method_title,
        "control": _is_control(cell),
        "signed": cell.signed,
        "key": cell.key,
        "identity": cell.identity.document()["method"],
        "images_asked_for": cell.limit,
        "rows": len(rows.frame),
        "incidents": [incident._asdict() for incident in rows.incidents],
        "computed_by": [dict(origin) for origin in rows.origins],
    }


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _csv(table: pa.Table) -> bytes:
    """A line a row: what has parts as JSON, text that would begin a formula behind an apostrophe."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(map(field_safe, table.column_names))
    columns = ([*map(csv_field, column.to_pylist())] for column in table.columns)
    writer.writerows(zip(*columns, strict=True))
    return sink.getvalue().encode()


_WRITERS = {TableForm.PARQUET: _parquet, TableForm.CSV: _csv}


_READING = {
    TableForm.PARQUET: "Files are Parquet: `pandas.read_parquet(file)` or any other reader gives the rows.",
    TableForm.CSV: "Files are CSV in UTF-8. What has parts is JSON in a field; a text that begins with one of "
    "`= + - @` stands behind an apostrophe, so that no spreadsheet computes it; an empty field has no value.",
}
_README = """# Scores of attribution methods, image by image

Written by rapbench {version}. A file holds what all methods scored by one metric, on one data set, explaining one
network: a row is one method on one image. Rows hold sums, counts and curves, not final scores.

{reading}

`spec.json` says of each file all that its numbers depend on, its columns with their types, and of each method its
parameters, what computed it, and which images could not be read. `sha256sum -c {sums}` checks the files.

`{cells}` holds the same rows as rapbench stores them: `rapbench report` and every other command read this folder as the
one that it was written of.

{licence}

## Columns of every file

| column | meaning |
| --- | --- |
{columns}

## Files

{files}
"""


def _readme(found: Sequence[Shelf], form: TableForm, version: str) -> str:
    """What the folder holds, in words."""
    return _README.format(
        version=version,
        reading=_READING[form],
        sums=SUMS,
        cells=CELLS,
        licence=LICENCE,
        columns="\n".join(f"| `{name}` | {meaning} |" for name, meaning in COLUMNS.items()),
        files="\n\n".join(_described(shelf, form) for shelf in found),
    )


def _described(shelf: Shelf, form: TableForm) -> str:
    own, table = shelf.cell.identity, shelf.table
    what = markdown_safe(printable(f"{own.metric.name} on {own.dataset.name}, {shelf.cell.model_title}"))
    columns = ", ".join(f"`{printable(name)}`" for name in table.column_names if name not in COLUMNS)
    methods = ", ".join(f"`{printable(name)}`" for name in shelf.names)
    return "\n\n".join(
        [
            f"### {shelf.stem}.{form}",
            f"{what}: {len(table)} rows, seed {own.seed}, {own.precision}.",
            f"Columns of its own: {columns or 'none'}.",
            f"Methods: {methods}.",
            *_definition(own.metric.name),
        ]
    )


def _definition(name: str) -> Iterator[str]:
    """What a metric of the catalogue says of itself."""
    if name in METRICS:
        metric = METRICS.load(name)
        said = (inspect.getdoc(metric), inspect.getdoc(metric.__call__))
        yield "\n".join(["```text", "\n\n".join(filter(None, said)), "```"])

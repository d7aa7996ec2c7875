"""A paper's table as the results folder fills it: what `rapbench table` prints, and `rapbench run` at its end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rapbench.core.errors import DataMissing
from rapbench.papers import comparison, published, sweep
from rapbench.papers.card import Table, table
from rapbench.papers.comparison import Panel, compared
from rapbench.report.formats import Document
from rapbench.report.result import Scored
from rapbench.results.select import Filter
from rapbench.results.store import Folder

CLOSEST = 8
"""Readings of a cell that a sweep prints."""


def beside_published(name: str, store: Folder, wanted: Filter, against: str | None = None) -> Document:
    """The table of that name: published, ours, 95 % interval, difference, n.

    Args:
        name: of the table, as `card.table` takes it.
        store: the results folder.
        wanted: which of its cells.
        against: the method that others are compared with; by default the card's.

    Raises:
        UnknownName: no such table, or no such method in it.
        DataMissing: the folder holds nothing of it.
        BadConfig: several cells could be meant.
    """
    card = table(name)
    reference = comparison.against(card, against or card.reference)
    panels = _panels(name, card, store, wanted)
    return published.document(name, card, panels, reference, partial(_command, name, store, wanted))


def readings(name: str, store: Folder, wanted: Filter, closest: int = CLOSEST) -> Document:
    """Every reading of the table's cells, the closest to the published number first.

    Raises:
        UnknownName: no such table.
        DataMissing: the folder holds nothing of it.
        BadConfig: several cells could be meant.
    """
    card = table(name)
    return sweep.document(name, card, _panels(name, card, store, wanted), closest=closest)


def _panels(name: str, card: Table, store: Folder, wanted: Filter) -> Sequence[Panel]:
    held = [Scored(held=one) for one in store.held()]
    panels = compared(card, held, wanted)
    if not any(panel.measured for panel in panels):
        others = sorted({f"{one.cell.identity.model.name} on {one.cell.dataset}" for one in held})
        there = f"; there are some of {', '.join(others)} (--model, --dataset)" if others else ""
        raise DataMissing(f"no results for {name} in {store}: `{_command(name, store, wanted)}` computes them{there}")
    return panels


def _command(name: str, store: Folder, wanted: Filter, parts: str = "") -> str:
    """What computes a table, or parts of it, as it is asked for."""
    chosen = f"--part {parts}" if parts else ""
    return " ".join(filter(None, [f"rapbench run {name}", chosen, str(wanted), f"--out {store.root}"]))

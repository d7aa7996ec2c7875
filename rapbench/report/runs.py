"""What was run: the cells of one setting, and the command that computes them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rapbench.core.catalogue import parse_call
from rapbench.results.cell import Cell
from rapbench.results.select import foreign, telling
from rapbench.results.store import Held

_USUAL = {"select": "all", "seed": "0", "scoring_precision": "same", "backend": "native"}
"""Settings that need not be typed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """Cells of the same images, network, seed, precision, device and backend.

    Attributes:
        held: the cells with their rows.
        title: network and images, with what tells them from another run's of that name.
    """

    held: tuple[Held, ...]
    title: str

    @property
    def cell(self) -> Cell:
        """One that takes as many images as any."""
        return self._widest.cell

    @cached_property
    def _widest(self) -> Held:
        return max(self.held, key=lambda one: one.cell.limit)

    @property
    def images(self) -> int:
        """How many images were asked for."""
        return self.cell.limit

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many images could not be read, by reason."""
        return self._widest.rows.skipped()

    @property
    def noted(self) -> Mapping[str, int]:
        """How many were used though they are unusual, by note."""
        return self._widest.rows.noted()

    @property
    def origins(self) -> tuple[Mapping[str, str], ...]:
        """What computed the rows, each once."""
        found = [origin for one in self.held for origin in one.rows.origins]
        return tuple({json.dumps(origin, sort_keys=True): origin for origin in found}.values())

    @property
    def methods(self) -> tuple[str, ...]:
        """As typed, each once."""
        return tuple(dict.fromkeys(one.cell.method for one in self.held))

    @property
    def metrics(self) -> tuple[str, ...]:
        """As typed, each once; with the number of images where that is not the run's."""
        return tuple(dict.fromkeys(map(self._metric, (one.cell for one in self.held))))

    def _metric(self, cell: Cell) -> str:
        call = parse_call(cell.metric)
        images = {"images": str(cell.limit)} if cell.limit < self.images and not cell.is_study else {}
        return str(call._replace(parameters={**call.parameters, **images}))

    @property
    def precision(self) -> str:
        """As typed; 'auto' where methods have an arithmetic of their own."""
        own = [one.cell.identity for one in self.held]
        return "auto" if any(identity.method.arithmetic for identity in own) else own[0].precision

    def options(self) -> dict[str, str]:
        """The settings of `rapbench run` that lead to the same keys, besides usual ones and `shuffle`."""
        own = self.cell.identity
        given = {
            "model": own.model.name,
            "weights": own.model.weights,
            "dataset": self.cell.dataset,
            "method": ",".join(self.methods),
            "metric": ",".join(self.metrics),
            "limit": str(self.images),
            "select": own.dataset.select,
            "seed": str(own.seed),
            "precision": self.precision,
            "scoring_precision": own.metric.arithmetic or "same",
            "backend": own.method.backend,
            "device": own.device,
        }
        return {key: value for key, value in given.items() if _USUAL.get(key) != value}

    def command(self, out: Path) -> str:
        """What computes these rows, or says that they are there; of a study, for which there is none, its name."""
        if self.cell.is_study:
            return f"study {self.cell.method}"
        given = [f"--{key.replace('_', '-')} {shlex.quote(value)}" for key, value in self.options().items()]
        shuffle = ["--shuffle"] * self.cell.identity.dataset.shuffle
        return " ".join(["rapbench run", *given, *shuffle, "--out", shlex.quote(str(out))])

    def document(self) -> dict[str, Any]:
        """All that the numbers depend on; methods and metrics by name, each with its parameters."""
        own = self.cell.identity
        shared = {key: value for key, value in own.document().items() if key not in {"method", "metric"}}
        methods = {one.cell.method: asdict(one.cell.identity.method) for one in self.held}
        metrics = {one.cell.metric: asdict(one.cell.identity.metric) for one in self.held}
        return {**shared, "methods": methods, "metrics": metrics}


def runs(held: Iterable[Held]) -> list[Run]:
    """The runs that cells are of, in the order of their first cell."""
    found: dict[str, list[Held]] = {}
    for one in held:
        own = one.cell.identity
        parts = (own.setting(), own.method.backend, own.metric.arithmetic, one.cell.is_study and one.cell.method)
        found.setdefault(json.dumps(parts, sort_keys=True), []).append(one)
    called = titles([some[0].cell for some in found.values()])
    return [Run(held=tuple(some), title=title) for some, title in zip(found.values(), called, strict=True)]


def titles(cells: Sequence[Cell]) -> list[str]:
    """Network and images of cells of several settings, with what tells those of one name apart."""
    plain = [f"{cell.model_title} on {cell.dataset}{foreign(cell.identity.method.backend)}" for cell in cells]
    namesakes = {name: [cell for cell, called in zip(cells, plain, strict=True) if called == name] for name in plain}
    return [
        ", ".join([name, *(f"{key} {value}" for key, value in telling(cell, namesakes[name]))])
        for name, cell in zip(plain, cells, strict=True)
    ]


def counted(counts: Mapping[str, int]) -> str:
    """How many images, by reason, in words."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())

"""Which stored cells belong together, and what tells apart those that do not: decided here alone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

from rapbench.core.catalogue import parse_call, placeless
from rapbench.results.cell import Cell, Identity

T = TypeVar("T")

_SHOWN = 16
"""Characters of a digest that tell it from others."""
_NARROWING = {
    "model.weights": "weights",
    "dataset.select": "select",
    "target": "target",
    "seed": "seed",
    "precision": "precision",
    "device": "device",
}
"""What of a setting a filter can ask for, besides parameters of the data set."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which cells are asked for; what is None, or empty, asks for any.

    Attributes:
        model: catalogue name of the network.
        dataset: images, with parameters that narrow them.
        weights: name of the weights, or their file.
        select: 'all' images or the 'correct' ones.
        target: the class explained: 'predicted', 'label', or an index.
        seed: of the run.
        precision: of the maps.
        device: of the run.
        methods: names, or names with parameters.
        metrics: likewise.
        settings: all that the numbers depend on but method and metric, as `Identity.setting` gives it; any of these.
    """

    model: str | None = None
    dataset: str | None = None
    weights: str | None = None
    select: str | None = None
    target: str | None = None
    seed: int | None = None
    precision: str | None = None
    device: str | None = None
    methods: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    settings: tuple[Mapping[str, str], ...] = ()

    def admits(self, cell: Cell) -> bool:
        """Whether a cell is asked for."""
        own = cell.identity
        pairs = [
            (self.model and placeless(self.model), own.model.name),
            (self.weights and Path(self.weights).name, own.model.weights),
            (self.select, own.dataset.select),
            (self.target, own.target),
            (self.seed, own.seed),
            (self.precision, own.arithmetic),
            (self.device, own.device),
        ]
        alike = all(asked is None or asked == held for asked, held in pairs)
        return (
            alike
            and self._admits_images(cell)
            and _named(self.methods, own.method.name, cell.method)
            and _named(self.metrics, own.metric.name, cell.metric)
            and (not self.settings or own.setting() in self.settings)
        )

    def _admits_images(self, cell: Cell) -> bool:
        if self.dataset is None:
            return True
        asked, held = parse_call(self.dataset), cell.identity.dataset
        given = asked.parameters.items()
        return held.name == asked.name and all(
            str(held.parameters[key]) == text if key in held.parameters else Path(text).expanduser().exists()
            for key, text in given  # images count by their fingerprint: where they lie is not held
        )

    def __str__(self) -> str:
        """What is asked for, as options of a command that a shell reads; empty where nothing is."""
        fields = ("model", "dataset", "weights", "select", "target", "seed", "precision", "device")
        given = {key: value for key in fields if (value := getattr(self, key)) is not None}
        lists = {"method": self.methods, "metric": self.metrics}
        listed = {key: ",".join(some) for key, some in lists.items() if some}
        return " ".join(f"--{key} {shlex.quote(str(value))}" for key, value in (given | listed).items())

    @property
    def clause(self) -> str:
        """What is asked for, behind the name of what there is none of: ' of --seed 1'; empty where nothing is."""
        return f" of {self}" if str(self) else ""


def _named(asked: Sequence[str], *called: str) -> bool:
    """Whether one of these is asked for, or nothing in particular."""
    return not asked or not set(asked).isdisjoint(called)


@dataclass(frozen=True, kw_only=True, eq=False)
class Group(Generic[T]):
    """What was measured alike: by one metric, on the same images, by the same network, with the same seed and so on.

    Attributes:
        members: one a method.
        cell: of any of them.
        apart: what tells the group from others of the same metric, images and network, and always a class explained
            that is not the predicted one: name -> value.
    """

    members: tuple[T, ...]
    cell: Cell
    apart: Mapping[str, str]

    @property
    def remark(self) -> str:
        """What tells it apart, in words: 'seed 1, precision fp64'; empty where nothing has to."""
        return ", ".join(f"{name} {value}" for name, value in self.apart.items())


def grouped(things: Iterable[T], cell: Callable[[T], Cell]) -> list[Group[T]]:
    """Things of one metric and one setting together, groups and members in the order of their first appearance."""
    members: dict[str, list[T]] = {}
    for thing in things:
        members.setdefault(json.dumps(_shared(cell(thing))), []).append(thing)
    cells = [cell(some[0]) for some in members.values()]
    return [
        Group(members=tuple(some), cell=own, apart=_apart(own, cells))
        for own, some in zip(cells, members.values(), strict=True)
    ]


def of_one_setting(things: Iterable[T], cell: Callable[[T], Cell]) -> list[tuple[T, ...]]:
    """Things of the same images, network, seed and so on together, whatever their method and metric."""
    members: dict[str, list[T]] = {}
    for thing in things:
        members.setdefault(json.dumps(cell(thing).identity.setting()), []).append(thing)
    return [tuple(some) for some in members.values()]


def differing(cells: Iterable[Cell]) -> dict[str, list[str]]:
    """In what cells differ besides method and metric: dotted name -> the values, in order."""
    settings = [cell.identity.setting() for cell in cells]
    keys = dict.fromkeys(key for setting in settings for key in setting)
    held = {key: sorted({setting.get(key, "default") for setting in settings}) for key in keys}
    return {key: values for key, values in held.items() if len(values) > 1}


def telling(own: Cell, cells: Iterable[Cell]) -> list[tuple[str, str]]:
    """Name and value, in one of some cells, of each part of a setting in which they differ."""
    setting = own.identity.setting()
    return [(key.rpartition(".")[2], setting.get(key, "default")[:_SHOWN]) for key in differing(cells)]


def method_of(name: str) -> str:
    """The catalogue name of a method, of what `names` calls it."""
    return parse_call(name.partition(" [")[0]).name


def option(key: str, value: str, dataset: str) -> str:
    """The option that asks for one value of a setting's part, empty where none does.

    Args:
        key: dotted name, as in `differing`.
        value: of it.
        dataset: name of the data set.
    """
    if key in _NARROWING:
        return f"--{_NARROWING[key]} {value}"
    in_dataset = key.startswith("dataset.parameters.")
    return f'--dataset "{dataset}({key.rpartition(".")[2]}={value})"' if in_dataset else ""


def names(cells: Sequence[Cell]) -> list[str]:
    """How to call the methods of a group's cells: as typed, with what tells those of one name apart in brackets."""
    methods = [cell.identity.method for cell in cells]
    plain = [f"{cell.method}{foreign(cell.identity.method.backend)}" for cell in cells]
    found = []
    for name, method in zip(plain, methods, strict=True):
        namesakes = [other for other, called in zip(methods, plain, strict=True) if called == name]
        files, sources = (len({getattr(other, key) for other in namesakes}) > 1 for key in ("digest", "source"))
        arithmetic = len({other.arithmetic for other in namesakes}) > 1 and method.arithmetic
        told = [f"file {str(method.digest)[:_SHOWN]}"] * files + [f"source {method.source}"] * sources
        told += [str(arithmetic)] * bool(arithmetic)
        found.append(f"{name} [{', '.join(told)}]" if told else name)
    return found


def files_of(cell: Cell) -> frozenset[str]:
    """The parameters of a cell's method, of those that are typed, that are files."""
    own, typed = cell.identity.method, parse_call(cell.method).parameters
    return frozenset(key for key in typed if own.digest and own.parameters.get(key, "file") == "file")


def foreign(backend: str) -> str:
    """A backend that is not native, as it stands behind a name."""
    return "" if backend == "native" else f" [{backend}]"


def _shared(cell: Cell) -> dict[str, str]:
    """All that a cell's numbers depend on but the method."""
    metric = {f"metric.{key}": json.dumps(value) for key, value in asdict(cell.identity.metric).items()}
    return cell.identity.setting() | metric


def _apart(own: Cell, cells: Sequence[Cell]) -> dict[str, str]:
    namesakes = [_shared(other) for other in cells if _name(other) == _name(own)]
    shared = _shared(own)
    always = {"target"} if own.identity.target != Identity.target else set()
    keys = [k for k in shared if k in always or any(other.get(k) != shared[k] for other in namesakes)]
    return {key.removeprefix("dataset.parameters.").rpartition(".")[2]: shared[key][:_SHOWN] for key in keys}


def _name(cell: Cell) -> tuple[str, str, str]:
    return cell.dataset, cell.model_title, cell.metric

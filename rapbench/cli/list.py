"""`rapbench list`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rapbench.core.catalogue import Catalogue

_WIDTH = 100
Rows = Sequence[tuple[str, ...]]


def list_names(
    what: Annotated[
        str, typer.Argument(help="methods, metrics, datasets, models, papers; or a name, for what parameters it takes.")
    ],
) -> None:
    """Print the names that run knows and what each is; of a single one its parameters and their defaults."""
    if what in _KINDS:
        _print(_KINDS[what]())
        return
    kind, catalogue = _holder(what)
    typer.echo(f"{kind} {what}: {catalogue[what].summary}")
    if kind == "model":
        _print(_weights(what))
    else:
        _describe(catalogue.load(what))


def _methods() -> Rows:
    from rapbench.backends import BACKENDS, providers

    return [(name, " ".join(found), BACKENDS.load(found[0])[name].summary) for name, found in providers().items()]


def _named(kind: str) -> Rows:
    return [(name, entry.summary) for name, entry in _catalogues()[kind].items()]


def _exhibits() -> Rows:
    """Tables and figures that `rapbench run` takes."""
    from rapbench.papers.card import exhibit, exhibits

    return [(name, exhibit(name).source, exhibit(name).title) for name in exhibits()]


_KINDS: Mapping[str, Callable[[], Rows]] = {
    "methods": _methods,
    "metrics": lambda: _named("metric"),
    "datasets": lambda: _named("dataset"),
    "models": lambda: _named("model"),
    "papers": _exhibits,
}


def _catalogues() -> dict[str, Catalogue]:
    """What has names, by its kind; methods under the backends that provide them, ours first."""
    from rapbench.backends import BACKENDS
    from rapbench.datasets import DATASETS
    from rapbench.metrics import METRICS
    from rapbench.models import MODELS

    methods = {f"{name} method": BACKENDS.load(name) for name in BACKENDS}
    return {**methods, "metric": METRICS, "dataset": DATASETS, "model": MODELS}


def _holder(name: str) -> tuple[str, Catalogue]:
    """The kind of thing that a name is, and the first catalogue that holds it.

    Raises:
        UnknownName: nothing has this name.
    """
    from rapbench.core.catalogue import nearest
    from rapbench.core.errors import UnknownName

    catalogues = _catalogues()
    for kind, catalogue in catalogues.items():
        if name in catalogue:
            return kind, catalogue
    known = dict.fromkeys([*_KINDS, *(one for catalogue in catalogues.values() for one in catalogue)])
    raise UnknownName(f"nothing is named {name!r}: {nearest(name, [*known])}")


def _weights(name: str) -> Rows:
    """The side of a network's input, and what `--weights auto` stands for."""
    from rapbench.core.errors import BadConfig
    from rapbench.models import family

    found = family(name)
    try:
        usual = f"{found.default_weights('scenes')} on scenes, {found.default_weights('imagenet')} elsewhere"
    except BadConfig:
        usual = "a file, which is to be named"
    return [("input", f"{found.size} x {found.size} pixels"), ("--weights auto", usual)]


def _describe(cls: type) -> None:
    import inspect
    import textwrap

    typer.echo((inspect.getdoc(cls) or "").partition("\n")[0])
    for parameter, said in _parameters(cls):
        typer.echo(f"  {parameter}\n{textwrap.indent(textwrap.fill(said, _WIDTH), ' ' * 6)}")


def _parameters(cls: Any) -> Iterator[tuple[str, str]]:
    """Each parameter that a user may set with its default and what else it can be, and what its class says of it."""
    from dataclasses import MISSING, fields
    from typing import get_args, get_type_hints

    from rapbench.core.named import said_of

    hints = get_type_hints(cls)
    for field in fields(cls):
        if field.init and field.name not in {"data_root", "size"}:
            default = "..." if field.default is MISSING else field.default
            others = [str(one) for one in get_args(hints[field.name]) if isinstance(one, str) and one != default]
            choice = f" (or {', '.join(others)})" if others else ""
            yield f"{field.name}={default}{choice}", said_of(cls, field.name)


def _print(rows: Rows) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())

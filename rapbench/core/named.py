"""Methods, metrics and data sets under the names that a user types."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Generic, TypeVar

from rapbench.core.catalogue import Call

T = TypeVar("T")


@dataclass(frozen=True)
class Named(Generic[T]):
    """A method, metric or data set with its catalogue name."""

    name: str
    thing: T
    given: frozenset[str] = frozenset()
    """Parameters that are not the user's to set."""

    @property
    def label(self) -> str:
        """`name(parameter=value, ...)` with what numbers depend on and is no default, in the order of the fields."""
        defaults = {field.name: field.default for field in fields(self.thing)}  # type: ignore[arg-type]
        chosen = {key: value for key, value in parameters(self.thing).items() if key not in self.given}
        return str(Call(self.name, {key: str(value) for key, value in chosen.items() if value != defaults[key]}))

    @property
    def digest(self) -> str | None:
        """Of the file that it takes, None where it takes none."""
        return self.thing.digest if takes_file(self.thing) else None  # type: ignore[attr-defined]


def takes_file(thing: object) -> bool:
    """Whether one of its parameters is a file."""
    return any("by_digest" in field.metadata for field in fields(thing))  # type: ignore[arg-type]


def parameters(thing: Any) -> dict[str, Any]:
    """The parameters that numbers depend on, defaults included."""
    kept = [f.name for f in fields(thing) if not f.metadata.keys() & {"selection", "by_digest"}]
    return {key: value for key, value in asdict(thing).items() if key in kept}

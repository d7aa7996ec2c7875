"""What a run is asked for."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rapbench.core.catalogue import nearest, split_calls
from rapbench.core.errors import BadConfig, DataMissing, UnknownName

Precision = Literal["auto", "fp32", "fp64", "tf32", "bf16"]


class RunSpec(BaseModel):
    """A run as typed: every field is the option of `rapbench run` with the same name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: tuple[str, ...] = ("rap",)
    model: str = "vgg16"
    weights: str = "auto"
    dataset: str = "scenes"
    data_root: Path | None = None
    metric: tuple[str, ...] = ()
    limit: int | None = Field(default=None, ge=1)
    select: Literal["all", "correct"] = "all"
    shuffle: bool = False
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int | None = Field(default=None, ge=1)
    readers: int | None = Field(default=None, ge=0)
    precision: Precision = "auto"
    scoring_precision: Literal["same", "fp32", "fp64", "tf32", "bf16"] = "same"
    backend: str = "native"
    out: Path = Path("results/runs")
    check: Literal["on", "off"] = "on"
    save_maps: Path | None = None
    strict: bool = False
    allow_mixed: bool = False
    study: str | None = None

    @property
    def held_in(self) -> str:
        """The precision in which the network is held; single methods may need more."""
        return "fp32" if self.precision == "auto" else self.precision

    @field_validator("method", "metric", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """`a,b` and `["a", "b"]` mean the same; each name once, in the order given."""
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, (list, tuple)):
            return value
        return tuple(dict.fromkeys(str(call) for call in split_calls([str(text) for text in texts])))

    @classmethod
    def read(cls, config: Path | None, options: Mapping[str, object]) -> RunSpec:
        """The spec of a TOML file with options laid over it, as `read_parts` reads it; the file may have one part."""
        specs = read_parts(config, options)
        if len(specs) > 1:
            raise BadConfig(f"{config} has {len(specs)} parts, and this takes one: {', '.join(specs)}")
        return next(iter(specs.values()))


def read_parts(
    config: Path | Mapping[str, Any] | None, options: Mapping[str, object], names: Sequence[str] = ()
) -> dict[str, RunSpec]:
    """The specs of a TOML file's parts by name, or the one spec of a file without parts under the name ''.

    A file's settings hold for all of its `[[part]]` tables; these override them, and the options override both. Of
    parts that the options have made equal, the first is kept.

    Args:
        config: the file or its content; none means the options alone.
        options: as typed; one that is None, empty or False was not given.
        names: of the parts wanted; all by default.

    Raises:
        DataMissing: no such file.
        UnknownName: no such part.
        BadConfig: not TOML, an unknown field (the message offers the nearest), or a value out of range.
    """
    given = {k: v for k, v in options.items() if not (v is None or v is False or v in ([], ()))}
    shared = _toml(config) if isinstance(config, Path) else {**(config or {})}
    parts = [{**part} for part in shared.pop("part", [{}])]
    named = {str(part.pop("name", "")): part for part in parts}
    source = f"{config}: " if isinstance(config, Path) else ""
    if len(named) < len(parts):
        raise BadConfig(f"{source}every part needs a name of its own")
    for name in names:
        if name not in named:
            raise UnknownName(f"{source}no part {name!r}: {nearest(name, list(named))}")
    specs = {n: _validated({**shared, **part, **given}, source) for n, part in named.items() if not names or n in names}
    return {name: spec for name, spec in specs.items() if next(n for n in specs if specs[n] == spec) == name}


def _validated(values: Mapping[str, object], source: str) -> RunSpec:
    for key in values:
        if key not in RunSpec.model_fields:
            raise BadConfig(f"{source}no setting {key!r}: {nearest(key, list(RunSpec.model_fields))}")
    try:
        return RunSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadConfig(f"{'.'.join(map(str, first['loc'][:1]))}: {first['msg']}") from error


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise DataMissing(f"no config file {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadConfig(f"{path}: {error}") from error

"""What a run is asked for."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from rapbench.backends import BACKENDS
from rapbench.core.catalogue import nearest, parse_call, split_calls
from rapbench.core.errors import BadConfig, DataMissing, UnknownName
from rapbench.core.paths import TypedPath, typed_path
from rapbench.core.ranges import Count, Seed
from rapbench.datasets import DATASETS
from rapbench.metrics import METRICS
from rapbench.models import MODELS
from rapbench.run.study import STUDIES

Precision = Literal["auto", "fp32", "fp64", "tf32", "bf16"]


def _at_home(weights: str) -> str:
    """A name as it is; a file below `~` by its path."""
    return str(typed_path(weights)) if weights.startswith("~") else weights


Name = Annotated[str, Field(min_length=1)]


class RunSpec(BaseModel):
    """A run as typed: every field is the option of `rapbench run` with the same name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Annotated[tuple[str, ...], Field(min_length=1)] = ("rap",)
    model: Name = "vgg16"
    weights: Annotated[Name, AfterValidator(_at_home)] = "auto"
    dataset: Name = "scenes"
    data_root: TypedPath | None = None
    metric: tuple[str, ...] = ()
    limit: Count | None = None
    select: Literal["all", "correct"] = "all"
    shuffle: bool = False
    target: Name = "predicted"
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: Count | None = None
    readers: int | None = Field(default=None, ge=0, le=256)
    precision: Precision = "auto"
    scoring_precision: Literal["same", "fp32", "fp64", "tf32", "bf16"] = "same"
    compile_scoring: bool = False
    backend: Name = "native"
    out: TypedPath = Path("results/runs")
    check: Literal["on", "off"] = "on"
    save_maps: TypedPath | None = None
    strict: bool = False
    allow_mixed: bool = False
    study: Name | None = None

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
        calls = [split_calls([str(text)]) for text in texts]
        if not all(calls):
            raise ValueError("a name is needed")
        return tuple(dict.fromkeys(str(call) for named in calls for call in named))

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
    source = f"{config}: " if isinstance(config, Path) else ""
    parts = shared.pop("part", [{}])
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise BadConfig(f"{source}a part is a table of its own under [[part]]")
    named = {str(part.get("name", "")): {k: v for k, v in part.items() if k != "name"} for part in parts}
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
        spec = RunSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        raise BadConfig(f"{'.'.join(map(str, first['loc'][:1]))}: {said}") from error
    _refuse_unknown(spec)
    return spec


def _refuse_unknown(spec: RunSpec) -> None:
    """Answers wrong names before anything is imported that takes seconds."""
    methods = BACKENDS.load(spec.backend)
    MODELS.refuse_unknown(spec.model)
    study = () if spec.study is None else (spec.study,)
    typed = (methods, spec.method), (DATASETS, (spec.dataset,)), (METRICS, spec.metric), (STUDIES, study)
    for catalogue, texts in typed:
        for text in texts:
            catalogue.refuse_unknown(parse_call(text).name)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataMissing(f"no config file {path}") from error
    except RecursionError as error:
        raise BadConfig(f"{path}: nested too deeply") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadConfig(f"{path}: {error}") from error

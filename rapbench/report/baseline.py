"""Numbers agreed on once, how far later ones may be from them, and a document of those that are further."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rapbench.core.catalogue import nearest
from rapbench.core.errors import BadConfig, DataMissing
from rapbench.report.formats import Document, Grid
from rapbench.report.result import Result

_DIGITS = 6
"""Significant digits that a file keeps: far below any tolerance, and short enough to read."""


class Number(NamedTuple):
    """One value with what it was measured on and how many images it rests on."""

    dataset: str
    model: str
    weights: str
    method: str
    backend: str
    metric: str
    variant: str
    value: float | None
    n: int
    n_dropped: int

    @property
    def key(self) -> tuple[str, ...]:
        """What it was measured on."""
        return (self.dataset, self.model, self.weights, self.method, self.backend, self.metric, self.variant)


class Tolerance(BaseModel):
    """How far values may be from the baseline's: `absolute` + `relative` × |value|.

    Attributes:
        model: names of the networks it is for, joined by commas; * stands for any letters.
        method: names of the methods, likewise.
        metric: names of the metrics, likewise.
        variant: names of the variants, likewise.
        relative: share of the baseline's value.
        absolute: in the unit of the variant.
        reason: why no less.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "*"
    method: str = "*"
    metric: str = "*"
    variant: str = "*"
    relative: float = Field(default=0.0, ge=0)
    absolute: float = Field(default=0.0, ge=0)
    reason: str

    def covers(self, number: Number) -> bool:
        """Whether it is meant for the number."""
        given = {"model": number.model, "method": number.method, "metric": number.metric, "variant": number.variant}
        return all(_matches(text.partition("(")[0], getattr(self, field)) for field, text in given.items())


TOLERANCES = (
    Tolerance(
        metric="outside_inside",
        variant="*_median",
        relative=3e-3,
        absolute=1e-6,
        reason="a median rests on one or two images, whose rounding does not average out",
    ),
    Tolerance(
        metric="segmentation",
        absolute=0.02,
        reason="percent; a few pixels in 50,000 are within rounding of the threshold",
    ),
    Tolerance(
        metric="perturbation",
        variant="*_accuracy",
        absolute=0.05,
        reason="one of two images may keep or lose its class at one step of ten; tighten it for more images",
    ),
    Tolerance(
        metric="perturbation",
        relative=1e-3,
        absolute=1e-3,
        reason="pixels within rounding of each other change places in the order of erasure",
    ),
    Tolerance(
        metric="guards",
        variant="ties",
        relative=0.02,
        absolute=0.1,
        reason="percent; which relevances are exactly equal is a matter of rounding, most of all in upsampled maps",
    ),
    Tolerance(
        metric="guards",
        relative=1e-3,
        absolute=1e-4,
        reason="what float32 leaves of a sum that should vanish is rounding itself; only its size means anything",
    ),
    Tolerance(relative=1e-3, absolute=1e-6, reason="float32 sums in another order; other processors stay within 1e-4"),
)
"""What a file without tolerances gets: wider than what SSE instructions alone change in results of wider ones."""


class Baseline(BaseModel):
    """What a baseline file holds.

    Attributes:
        spec: settings of `rapbench run`; tables under `part` override those beside it, one run a table.
        variants: metric -> the variants to compare; of a metric that is not named, those that tables show.
        tolerances: the first that covers a number holds for it.
        columns: what the places of a number hold.
        numbers: what was agreed on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: Mapping[str, Any]
    variants: Mapping[str, tuple[str, ...]] = {}
    tolerances: tuple[Tolerance, ...] = TOLERANCES
    columns: tuple[str, ...] = Number._fields
    numbers: tuple[Number, ...] = ()

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        if columns != Number._fields:
            raise ValueError(f"must be {', '.join(Number._fields)}")
        return columns

    @field_validator("numbers")
    @classmethod
    def _once(cls, numbers: tuple[Number, ...]) -> tuple[Number, ...]:
        _by_key(numbers)
        return tuple(number._replace(value=_rounded(number.value)) for number in numbers)

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """The baseline in a JSON file; one with nothing but a spec is complete.

        Raises:
            DataMissing: no such file.
            BadConfig: it holds something else.
        """
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8-sig")))
        except FileNotFoundError as error:
            raise DataMissing(f"no baseline {path}: write one that holds a spec, then --update") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise BadConfig(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        except (ValueError, OSError, RecursionError) as error:
            raise BadConfig(f"{path}: {error}") from error

    def text(self) -> str:
        """The baseline as JSON, a number a line."""
        head = json.dumps(self.model_dump(mode="json", exclude={"numbers"}), indent=2).removesuffix("\n}")
        lines = ",\n".join(f"    {json.dumps(number)}" for number in self.numbers)
        return f'{head},\n  "numbers": [\n{lines}\n  ]\n}}\n'

    def compared(self, found: Iterable[Result]) -> list[Comparison]:
        """Its numbers beside those found now, then those found that it lacks.

        Raises:
            BadConfig: it names a variant that is not there, or two of its runs give the same number.
        """
        results = list(found)
        self._check_variants(results)
        wanted = [(_number(result), result.direction) for result in results if self._wants(result)]
        now, expected = _by_key(number for number, _ in wanted), _by_key(self.numbers)
        directions = {number.key: direction for number, direction in wanted}
        return [
            Comparison(
                expected=expected.get(key),
                found=now.get(key),
                allowed=self._allowed(expected[key]) if key in expected else 0.0,
                direction=directions.get(key),
            )
            for key in expected | now
        ]

    def updated(self, comparisons: Iterable[Comparison]) -> Baseline:
        """The baseline with what was found in place of what differs.

        Numbers that agree stay as they are, so that small drifts cannot add up from update to update.
        """
        kept = (c.expected if c.agrees else c.found for c in comparisons)
        return self.model_copy(update={"numbers": tuple(number for number in kept if number is not None)})

    def _wants(self, result: Result) -> bool:
        listed = self.variants.get(result.cell.identity.metric.name)
        return result.headline is not None if listed is None else result.variant in listed

    def _check_variants(self, results: Sequence[Result]) -> None:
        known: dict[str, list[str]] = {}
        for result in results:
            known.setdefault(result.cell.identity.metric.name, []).append(result.variant)
        for metric, variants in self.variants.items():
            for variant in variants:
                if variant not in (there := list(dict.fromkeys(known.get(metric, [])))):
                    raise BadConfig(f"variants: the runs give no {metric} {variant!r}: {nearest(variant, there)}")

    def _allowed(self, number: Number) -> float:
        covering = (tolerance for tolerance in self.tolerances if tolerance.covers(number))
        first = next(covering, None)
        return 0.0 if first is None else first.absolute + first.relative * abs(number.value or 0.0)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A number of the baseline and the one found now.

    Attributes:
        expected: None where the baseline has none.
        found: None where the runs give none.
        allowed: how far the two values may be apart.
        direction: 'lower' or 'higher' is better; None where nothing was found.
    """

    expected: Number | None
    found: Number | None
    allowed: float
    direction: str | None

    @property
    def agrees(self) -> bool:
        """Whether the number found is the baseline's."""
        return self.verdict == "agrees"

    @property
    def verdict(self) -> str:
        """In a word: agrees, better or worse; new, missing, of other images, defined or undefined."""
        if self.expected is None or self.found is None:
            return "new" if self.expected is None else "missing"
        if self.expected[-2:] != self.found[-2:]:
            return "other images"
        if self.difference is None:
            return _VERDICTS[self.expected.value is None, self.found.value is None]
        if abs(self.difference) <= self.allowed:
            return "agrees"
        return "better" if (self.difference < 0) == (self.direction == "lower") else "worse"

    @property
    def difference(self) -> float | None:
        """Found minus expected, None where there are not two values."""
        values = [number.value for number in (self.expected, self.found) if number and number.value is not None]
        return values[1] - values[0] if len(values) == 2 else None

    def record(self) -> dict[str, Any]:
        """The comparison as files hold it."""
        number, counts = self._number, _VALUE_AND_COUNTS
        return {
            **dict(zip(Number._fields, number.key, strict=False)),
            **{name: getattr(self.found, name, None) for name in counts},
            **{f"expected_{name}": getattr(self.expected, name, None) for name in counts},
            "difference": self.difference,
            "allowed": self.allowed,
            "verdict": self.verdict,
        }

    def row(self) -> tuple[str, ...]:
        """The comparison as a line of a table."""
        number = self._number
        method = number.method if number.backend == "native" else f"{number.method} [{number.backend}]"
        images = [f"{one.n} of {one.n + one.n_dropped}" for one in (self.expected, self.found) if one]
        return (
            *(number.dataset, f"{number.model} ({number.weights})", method, number.metric, number.variant),
            *("-" if one is None else _short(one.value) for one in (self.expected, self.found)),
            *(_short(self.difference, ".2g"), f"{self.allowed:.2g}"),
            *(" -> ".join(dict.fromkeys(images)), self.verdict),
        )

    @property
    def _number(self) -> Number:
        number = self.expected or self.found
        assert number is not None
        return number


_VALUE_AND_COUNTS = ("value", "n", "n_dropped")
_VERDICTS = {(True, True): "agrees", (True, False): "defined", (False, True): "undefined"}
"""(no value expected, none found) -> verdict."""
_HEADER = (
    *("dataset", "model", "method", "metric", "variant"),
    *("expected", "found", "difference", "allowed", "images", "verdict"),
)


def document(comparisons: Sequence[Comparison], *, everything: bool = False, remark: str = "") -> Document:
    """What differs, or everything; the number of comparisons in a line, followed by the remark."""
    shown = [comparison for comparison in comparisons if everything or not comparison.agrees]
    grid = Grid(title="Against the baseline", header=_HEADER, rows=tuple(comparison.row() for comparison in shown))
    return Document(
        grids=(grid,) if shown else (),
        remarks=(total(comparisons) + remark,),
        about={"agree": all(comparison.agrees for comparison in comparisons), "compared": len(comparisons)},
        records=tuple(comparison.record() for comparison in shown),
    )


def total(comparisons: Sequence[Comparison]) -> str:
    """How many numbers were compared, and how many differ in which way."""
    counts = Counter(comparison.verdict for comparison in comparisons if not comparison.agrees)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{len(comparisons)} numbers compared: " + (f"{counts.total()} differ ({told})" if counts else "all agree")


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatchcase(name, pattern.strip()) for pattern in patterns.split(","))


def _number(result: Result) -> Number:
    document = result.document()
    number = Number(**{field: document[field] for field in Number._fields})
    return number._replace(value=_rounded(number.value))


def _by_key(numbers: Iterable[Number]) -> dict[tuple[str, ...], Number]:
    found: dict[tuple[str, ...], Number] = {}
    for number in numbers:
        if number.key in found:
            raise BadConfig(f"two numbers for {' '.join(number.key)}: a baseline holds one; make it two files")
        found[number.key] = number
    return found


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if value is not None and isfinite(value) else None


def _short(value: float | None, form: str = f".{_DIGITS}g") -> str:
    return "-" if value is None else f"{value:{form}}"

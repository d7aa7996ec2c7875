"""Ranks of methods as tables to read and as records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rapbench.report import result
from rapbench.report.formats import Document, Grid, number
from rapbench.report.paired import LEVEL
from rapbench.report.ranks import Criterion, Place, Ranks
from rapbench.report.result import measured_on

_MEASURED = result.FIELDS[: result.FIELDS.index("method")]
FIELDS = (
    *_MEASURED,
    *("method", "control", "metric", "variant", "direction", "counts", "rank", "ci_low", "ci_high", "first"),
    *("value", "n", "letters", "friedman_p"),
)
_LETTERS = (
    f"Behind a rank: methods that share a letter are not told apart, as the p of their difference is {LEVEL} or more "
    "after Holm for the column, or a few images decide it. Where a Friedman p is given, images have values of their "
    "own, and pairs are compared by Wilcoxon's signed-rank test, methods only if the Friedman p is below "
    f"{LEVEL}; elsewhere by the bootstrap."
)
_CONTROLS = (
    "A control is ranked among the methods and moves none of them: 0.5 is ahead of all, and between the second and the "
    "third is 2.5."
)


def document(found: Ranks) -> Document:
    """Mean ranks, controls apart, then each metric's variants and how far the metrics agree."""
    grids = [_overall(found, found.methods, "method", _heading(found))] if found.overall else []
    grids += [_overall(found, found.controls, "control", "controls")] if found.overall and found.controls else []
    grids += [_variants(found, metric) for metric in dict.fromkeys(one.metric for one in found.criteria)]
    return Document(
        grids=(*grids, *_agreement(found)),
        remarks=tuple(_remarks(found)),
        about={"ranks": _about(found)},
        records=tuple(_records(found)),
    )


def _heading(found: Ranks) -> str:
    return f"mean rank over {_count(len(found.of_metrics), 'metric')}, 1 the best, on {_setting(found)}"


def _setting(found: Ranks) -> str:
    return f"{found.cell.dataset}, {found.cell.model_title}"


def _overall(found: Ranks, names: Sequence[str], kind: str, title: str) -> Grid:
    rows = [
        (
            name,
            _told(found.overall.get(name), ".2f"),
            f"{100 * found.first[name]:.0f} %" if name in found.first else "-",
            *(_told(places.get(name), "g") for places in found.of_metrics.values()),
        )
        for name in names
    ]
    return Grid(title=title, header=(kind, "mean rank", "first", *found.of_metrics), rows=tuple(rows))


def _told(place: Place | None, form: str) -> str:
    if place is None:
        return "-"
    ends = "" if place.ci_low is None else f" [{place.ci_low:{form}}, {place.ci_high:{form}}]"
    return f"{place.value:{form}}{ends}"


def _variants(found: Ranks, metric: str) -> Grid:
    """Ranks by each variant of a metric, with the letters of what is not told apart."""
    criteria = [one for one in found.criteria if one.metric == metric]
    names = [*found.methods, *found.controls]
    rows = [(name, *(_lettered(one, name) for one in criteria)) for name in names]
    return Grid(
        title=f"rank by {metric} on {_setting(found)}",
        header=("method", *(f"{one.variant} ({one.direction})" for one in criteria)),
        rows=tuple(rows),
        notes=tuple(filter(None, [_images(criteria), _friedman(criteria), *map(_lacking, criteria)])),
    )


def _lettered(criterion: Criterion, name: str) -> str:
    if name not in criterion.places:
        return "-"
    letters = criterion.separation.letters.get(name, "") if criterion.separation else ""
    return f"{criterion.places[name].value:g} {letters}".rstrip()


def _images(criteria: Sequence[Criterion]) -> str:
    counts = {one.n: [other.variant for other in criteria if other.n == one.n] for one in criteria}
    told = [f"{n}" if len(counts) == 1 else f"{n} ({', '.join(variants)})" for n, variants in counts.items()]
    return f"images that all methods have: {', '.join(told)}"


def _friedman(criteria: Sequence[Criterion]) -> str:
    tested = [(one.variant, one.separation.friedman_p) for one in criteria if one.separation]
    told = [f"{variant} {number(p)}" for variant, p in tested if p is not None]
    return f"Friedman p: {', '.join(told)}" if told else ""


def _lacking(criterion: Criterion) -> str:
    if criterion.counts:
        return ""
    why = f"no value of {', '.join(criterion.lacking)}" if criterion.lacking else "fewer than two images"
    return f"{criterion.variant} does not count: {why}"


def _agreement(found: Ranks) -> Iterator[Grid]:
    rows = [(*pair, _told(place, ".2f")) for pair, place in found.agreement.tau_b.items()]
    w = found.agreement.w
    notes = [f"Kendall's W of {_count(len(found.of_metrics), 'metric')}: {_told(w, '.2f')}"] if w else []
    if rows or notes:
        yield Grid(
            title="agreement of metrics on the methods",
            header=("metric", "and metric", "Kendall's tau-b"),
            rows=tuple(rows),
            notes=tuple(notes),
        )


def _remarks(found: Ranks) -> Iterator[str]:
    if not found.overall:
        yield "No mean rank: there is no variant of which every method has a value."
    else:
        lost = f"; {found.lost} of them hold no value of some method and are left out" if found.lost else ""
        yield (
            "Each metric weighs the same: a method's rank for it is that of its mean rank over the variants that "
            "count, those of which every method has a value. In brackets are 95 % intervals; first is the share of "
            f"samples in which no mean rank is lower. Both are of {found.resamples} bootstrap samples of {found.n} "
            f"images, drawn alike for all methods and metrics{lost}."
        )
    if found.controls:
        yield _CONTROLS
    yield _LETTERS


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _about(found: Ranks) -> dict[str, Any]:
    """What JSON holds besides the records."""
    pairs = [
        {
            "metric": one.metric,
            "variant": one.variant,
            "methods": sorted(both),
            "p_holm": p,
            "alike": both in told.alike,
        }
        for one in found.criteria
        if (told := one.separation)
        for both, p in told.p_values.items()
    ]
    return {
        "metrics": list(found.of_metrics),
        "images": found.n,
        "resamples": found.resamples,
        "lost": found.lost,
        "kendall_w": asdict(found.agreement.w) if found.agreement.w else None,
        "kendall_tau_b": [{"metrics": list(of), **asdict(place)} for of, place in found.agreement.tau_b.items()],
        "pairs": pairs,
    }


def _records(found: Ranks) -> Iterator[Mapping[str, Any]]:
    """A record for each rank: over all metrics, of each metric, by each variant."""
    names = [*found.methods, *found.controls]
    fixed = {key: value for key, value in measured_on(found.cell).items() if key in _MEASURED}

    def record(name: str, place: Place | None, **given: Any) -> dict[str, Any]:
        own = {"method": name, "control": name in found.controls, "rank": place and place.value}
        ends = {"ci_low": place and place.ci_low, "ci_high": place and place.ci_high}
        return {**dict.fromkeys(FIELDS), **fixed, **own, **ends, **given}

    for name in names:
        yield record(name, found.overall.get(name), first=found.first.get(name))
    for metric, places in found.of_metrics.items():
        yield from (record(name, places.get(name), metric=metric) for name in names)
    for one in found.criteria:
        yield from (record(name, one.places.get(name), **_of_criterion(one, name)) for name in names)


def _of_criterion(one: Criterion, name: str) -> dict[str, Any]:
    told = one.separation
    return {
        **{key: getattr(one, key) for key in ("metric", "variant", "direction", "counts", "n")},
        "value": one.values.get(name),
        "letters": told.letters.get(name) if told else None,
        "friedman_p": told.friedman_p if told else None,
    }

"""Which methods a number tells apart, and the groups of those that it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from string import ascii_letters
from typing import TYPE_CHECKING

import numpy as np

from rapbench.core.types import first
from rapbench.report.agreement import friedman_p, gap, ranks_among
from rapbench.report.paired import LEVEL, Sample, bootstrap_p, differs, holm, pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rapbench.core.types import Variant

Pairs = Mapping[frozenset[str], float]


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Which methods one number tells apart.

    Attributes:
        names: what was compared, methods and controls.
        of_images: whether images have values of their own: then methods are compared by Wilcoxon's signed-rank test,
            else by the bootstrap in which an image is drawn for all of them or for none.
        friedman_p: of the test that all methods, without controls, are alike; None where images have no values of their
            own or there are fewer than three methods.
        image_ranks: by name, the mean over images of the rank among the methods; empty where there is no such value.
        p_values: of each pair, corrected for their number; without pairs that cannot be compared.
        alike: pairs that are not told apart.
    """

    names: tuple[str, ...]
    of_images: bool
    friedman_p: float | None
    image_ranks: Mapping[str, float]
    p_values: Pairs
    alike: frozenset[frozenset[str]]

    @property
    def cliques(self) -> tuple[tuple[str, ...], ...]:
        """The largest groups in which no two are told apart, in the order of their first members; one may be alone."""
        places = {name: n for n, name in enumerate(self.names)}
        found = [sorted(clique, key=places.__getitem__) for clique in _maximal_cliques(self.names, self.alike)]
        return tuple(tuple(clique) for clique in sorted(found, key=lambda clique: [places[name] for name in clique]))

    @property
    def letters(self) -> dict[str, str]:
        """By name, a letter for each of its cliques: those that share one are not told apart. Source: Piepho 2004."""
        letters = dict.fromkeys(self.names, "")
        for n, clique in enumerate(self.cliques):
            round_, place = divmod(n, len(ascii_letters))
            for name in clique:
                letters[name] += ascii_letters[place] + "'" * round_
        return letters


def separation(
    variant: Variant,
    samples: Mapping[str, Sample],
    drawn: Mapping[str, NDArray[np.float64]],
    *,
    controls: frozenset[str],
    seed: int,
) -> Separation:
    """Which of the methods and controls are told apart by a variant.

    Pairs are corrected by Holm. Where images have values of their own, two methods are told apart only if the Friedman
    test says that the methods are not all alike; and two whose values and ranks of images point in opposite directions
    are not.

    Args:
        variant: the number.
        samples: what it averages, by name; methods have the same images, controls some of them.
        drawn: its values (M,) over resamples of the images, the same draws for all.
        controls: names of those that are controls.
        seed: of what else is drawn.

    Source: Demšar 2006, Section 3.2; Benavoli et al. 2016, for Wilcoxon's test of pairs; Holm 1979.
    """
    names, of_images = tuple(samples), _is_of_images(variant)
    pairs = [frozenset(both) for both in combinations(names, 2)]
    test = partial(_of_images_p, variant, samples, seed) if of_images else partial(_bootstrap_p, drawn)
    corrected = dict(zip(pairs, holm([test(*sorted(both)) for both in pairs]), strict=True))
    ranks = _image_ranks(variant, samples, controls) if of_images else {}
    of_methods = [some for name, some in ranks.items() if name not in controls]
    overall = friedman_p(np.stack(of_methods, axis=1)) if of_methods else None
    differ = overall is None or overall < LEVEL
    apart = {both for both, p in corrected.items() if p is not None and p < LEVEL and (differ or both & controls)}
    return Separation(
        names=names,
        of_images=of_images,
        friedman_p=overall,
        image_ranks={name: float(some.mean()) for name, some in ranks.items()},
        p_values={both: p for both, p in corrected.items() if p is not None},
        alike=frozenset(pairs) - apart,
    )


def _of_images_p(variant: Variant, samples: Mapping[str, Sample], seed: int, one: str, other: str) -> float | None:
    return differs(variant, pair(samples[one], samples[other]), seed=seed)


def _bootstrap_p(drawn: Mapping[str, NDArray[np.float64]], one: str, other: str) -> float | None:
    """Over the resamples that hold images of both."""
    gaps = gap(drawn[one], drawn[other])
    return bootstrap_p(gaps[np.isfinite(gaps)]) if np.isfinite(gaps).any() else None


def _is_of_images(variant: Variant) -> bool:
    """Whether the number is a mean of values of single images."""
    return variant.value is first and variant.average == "mean"


def _image_ranks(
    variant: Variant, samples: Mapping[str, Sample], controls: frozenset[str]
) -> dict[str, NDArray[np.float64]]:
    """Rank among the methods on each image (n,), 1 the best; a control has those of the images that it has."""
    everyone = next(sample.ids for name, sample in samples.items() if name not in controls)
    values = np.full((len(everyone), len(samples)), np.nan)
    for column, sample in enumerate(samples.values()):
        values[everyone.get_indexer(sample.ids), column] = sample.statistics[:, 0]
    badness = values if variant.direction == "lower" else -values
    ranks = ranks_among(badness, np.array([name not in controls for name in samples]))
    return {name: some[np.isfinite(some)] for name, some in zip(samples, ranks.T, strict=True)}


def _maximal_cliques(names: Sequence[str], edges: frozenset[frozenset[str]]) -> Iterator[frozenset[str]]:
    """The groups in which every two are joined and to which no other can be added. Source: Bron and Kerbosch 1973."""
    joined = {name: frozenset(other for other in names if frozenset((name, other)) in edges) for name in names}

    def grown(clique: frozenset[str], candidates: frozenset[str], done: frozenset[str]) -> Iterator[frozenset[str]]:
        if not candidates and not done:
            yield clique
            return
        pivot = max(candidates | done, key=lambda name: len(joined[name] & candidates))
        for name in candidates - joined[pivot]:
            yield from grown(clique | {name}, candidates & joined[name], done & joined[name])
            candidates, done = candidates - {name}, done | {name}

    yield from grown(frozenset(), frozenset(names), frozenset())

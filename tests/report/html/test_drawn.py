"""Boxes, diagrams and curves of a page: what is drawn stands where its number is."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pages import Page, read
from stored import cell, held, ratios

from rapbench.report.boxes import boxes
from rapbench.report.critical_difference import bars, drawn
from rapbench.report.curves import Curve, Labels, plots
from rapbench.report.html.curves import curves
from rapbench.report.html.figures import Place
from rapbench.report.html.page import page
from rapbench.report.html.parts import Part, Section
from rapbench.report.html.separations import separations
from rapbench.report.html.spreads import spreads
from rapbench.report.html.svg import shortened
from rapbench.report.ranks import Ranks, ranks
from rapbench.report.result import Result, results
from rapbench.report.tables import scores

RNG = np.random.default_rng(0)
AT = Place(name="here", title="Title", command="command")
VALUES = {"random": 90 + RNG.random(30), **{m: n + RNG.gamma(2, 1, 30) for n, m in enumerate(("rap", "gradient"))}}


def shown(parts: tuple[Part, ...]) -> Page:
    return read(page("Title", "Lead.", [Section(name="all", title="All", parts=parts)]))


def found() -> list[Result]:
    return [r for method, values in VALUES.items() for r in results(held(cell(method), ratios(list(values))))]


def ranked() -> Ranks:
    others = {"lrp_a2b1": 0.1 + VALUES["rap"], "deeplift": VALUES["rap"][::-1]}
    more = [r for method, values in others.items() for r in results(held(cell(method), ratios(list(values))))]
    made = ranks([*found(), *more])
    assert made is not None
    return made


def places(path: str) -> np.ndarray:
    return np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", path), float)


def paths(html: Page, kind: str) -> list[np.ndarray]:
    return [places(str(given["d"])) for given in html.of("path") if str(given.get("class")).split()[0] == kind]


def test_boxes_are_the_quantiles_of_images_by_definition_controls_last() -> None:
    (table,) = scores(found())
    made = boxes(table, "pos")
    assert [box.name for box in made] == ["rap", "gradient", "random"]
    for box in made:
        expected = [np.quantile(VALUES[box.name], share) for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
        assert box.quantiles == pytest.approx(expected)


def test_boxes_and_values_stand_in_proportion_and_a_control_beyond_stands_at_the_edge() -> None:
    (table,) = scores(found())
    some = [box for box in boxes(replace(table, variants={"pos": "lower"}), "pos") if box.quantiles is not None]
    html = shown(spreads(replace(table, variants={"pos": "lower"}), AT))
    numbers = [(box.result.estimate.value, *box.quantiles[[1, 3]]) for box in some if box.quantiles is not None]
    pairs = zip(paths(html, "mark"), paths(html, "box"), strict=True)
    seen = np.array([(mark[:, 0].mean(), box[:, 0].min(), box[:, 0].max()) for mark, box in pairs])
    slope, start = np.polyfit(np.ravel(numbers[:2]), seen[:2].ravel(), 1)
    assert slope > 0
    assert seen[:2] == pytest.approx(start + slope * np.array(numbers[:2]), abs=0.2)
    assert seen[2] == pytest.approx(seen[2, 0], abs=0.1)
    assert seen[2, 0] > seen[:2].max()


def test_names_of_a_diagram_do_not_meet_and_stand_in_the_order_of_their_ranks() -> None:
    made = ranked()
    html = shown(separations(made, AT))
    labels = [given for given in html.of("text") if given.get("class") == "label"]
    first = next(iter(drawn(made).values()))[1]
    count = len(first.names)
    places_of = [(given["text-anchor"], float(str(given["y"]))) for given in labels[:count]]
    assert len({*places_of}) == count
    left, right = ([y for anchor, y in places_of if anchor == side] for side in ("end", "start"))
    assert len(left) - len(right) in {0, 1}
    assert all(a < b for a, b in pairwise(left))
    assert all(a > b for a, b in pairwise(right))


def test_bars_of_a_diagram_reach_from_the_first_to_the_last_that_they_join() -> None:
    made = ranked()
    html = shown(separations(made, AT))
    dots = [float(str(given["cx"])) for given in html.of("circle") if given.get("class") == "dot"]
    told = [separation for _, separation in drawn(made).values()]
    cliques = [(one, clique) for one in told for clique in bars(one)]
    assert cliques
    for (_, clique), line in zip(cliques, paths(html, "bar"), strict=True):
        own, dots = dots[: len(clique)], dots[len(clique) :]
        assert line[:, 0] == pytest.approx([min(own), max(own)], abs=0.1)
    assert not dots


def test_a_band_goes_along_its_upper_end_and_back_along_the_lower() -> None:
    y = np.array([1.0, 0.7, 0.5])
    x = np.array([0, 10, 20])
    curve = Curve(cell=cell("rap", metric="perturbation"), name="rap", x=x, y=y, ci_low=y - 0.1, ci_high=y, n=9)
    (plot,) = plots([curve], Labels(x_label="x", y_label="y", x="x", y="y"))
    html = shown(curves(plot, AT))
    (band,), line = paths(html, "band"), paths(html, "curve")[0]
    assert band[:3] == pytest.approx(line)
    assert band[3:, 0] == pytest.approx(line[::-1, 0])
    assert (band[3:, 1] > line[::-1, 1]).all()


@pytest.mark.parametrize(("most", "expected"), [(4, "abcd"), (3, "ab…"), (9, "abcd")])
def test_a_name_is_as_long_as_there_is_room(most: int, expected: str) -> None:
    assert shortened("abcd", most) == expected

"""Which numbers of a column are marked, and that a mark is in no file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from stored import cell, held, masks, ratios

from rapbench.report.best import ALIKE, BEST, LEGEND, UNBEATEN, marks
from rapbench.report.formats import Format, rendered
from rapbench.report.result import Result, results
from rapbench.report.tables import document

RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=30)


def column(variant: str = "pos", **values: object) -> dict[str, Result]:
    """A number of each method, of images with those ratios."""
    return {
        name: next(r for r in results(held(cell(name), ratios(list(some)))) if r.variant == variant)  # type: ignore[call-overload]
        for name, some in values.items()
    }


def marked(found: dict[str, Result]) -> dict[str, str]:
    special = marks(list(found.values()))
    return {name: special[result] for name, result in found.items() if result in special}


def test_the_best_method_and_those_that_cannot_be_told_from_it_are_marked() -> None:
    rap = 5 + NOISE
    found = column(rap=rap, lrp_a1b0=rap + RNG.normal(scale=0.5, size=30) + 0.01, gradient=rap + 1)
    assert marked(found) == {"rap": BEST, "lrp_a1b0": ALIKE}


@pytest.mark.parametrize(("shift", "mark"), [(-1, UNBEATEN), (0, UNBEATEN), (1, "")])
def test_a_control_is_never_the_best_and_is_marked_where_it_is_not_beaten(shift: float, mark: str) -> None:
    rap = 5 + NOISE
    found = column(rap=rap, center=rap + shift, gradient=rap + 2)
    assert marked(found) == {"rap": BEST, **({"center": mark} if mark else {})}


def test_the_higher_end_is_the_best_where_higher_is_better() -> None:
    counts = {"rap": [6, 0, 0, 10], "gradient": [3, 3, 3, 7], "center": [5, 1, 1, 9]}
    cells = {
        name: held(cell(name, metric="segmentation"), masks(zero=[c] * 20, mean=[c] * 20)) for name, c in counts.items()
    }
    found = {n: next(r for r in results(one) if r.variant == "miou@paper") for n, one in cells.items()}
    assert marked(found) == {"rap": BEST}


def test_a_method_that_a_few_images_decide_against_is_not_told_from_the_best() -> None:
    found = column(gradient=np.full(40, 0.2), rap=np.r_[np.full(39, 0.1), 60.0])
    assert marked(found) == {"gradient": BEST, "rap": ALIKE}


def test_methods_of_the_same_number_are_the_best_together() -> None:
    assert marked(column(rap=[0.0] * 9, lrp_a1b0=[0.0] * 9, gradient=1 + NOISE[:9] ** 2)) == {
        "rap": BEST,
        "lrp_a1b0": BEST,
    }


@pytest.mark.parametrize(
    "values",
    [{}, {"rap": [1.0, 2.0]}, {"center": [1.0, 2], "random": [3.0, 4]}, {"rap": [1.0] * 9, "gradient": [1.0] * 9}],
)
def test_nothing_is_special_without_methods_that_differ(values: dict[str, list[float]]) -> None:
    assert marked(column(**values)) == {}


def test_a_method_is_compared_on_the_images_that_both_have() -> None:
    rap, gradient = (
        held(cell("rap"), ratios(list(5 + NOISE))),
        held(cell("gradient"), ratios(list(6 + NOISE[20:]), start=20)),
    )
    found = {
        n: next(r for r in results(one) if r.variant == "pos") for n, one in (("rap", rap), ("gradient", gradient))
    }
    assert marked(found) == {"rap": BEST}


def test_p_values_are_corrected_for_the_methods_of_a_column() -> None:
    rap, apart = 5 + NOISE[:8], np.r_[np.full(7, 0.1), -0.05]
    two = column(rap=rap, gradient=rap + apart)
    assert marked(two) == {"rap": BEST}
    names = ("lrp_a1b0", "lrp_a2b1", "input_gradient", "guided_backprop")
    assert marked(column(rap=rap, gradient=rap + apart, **dict.fromkeys(names, rap + apart))) == {
        "rap": BEST,
        **dict.fromkeys(("gradient", *names), ALIKE),
    }


def test_people_read_marks_with_their_legend_and_files_hold_numbers() -> None:
    rap = 5 + NOISE
    found = [
        r for name, some in (("rap", rap), ("center", rap - 1)) for r in results(held(cell(name), ratios(list(some))))
    ]
    assert f"rap     {5 + NOISE.mean():.3f}* [" in rendered(document(found, Format.TEXT), Format.TEXT)
    for form in (Format.TEXT, Format.MARKDOWN, Format.LATEX):
        shown = document(found, form)
        assert shown.remarks == (LEGEND,)
        assert all(f"{UNBEATEN} [" in row[1] for grid in shown.grids for row in grid.rows if row[0] == "center")
    for form in (Format.CSV, Format.JSON):
        assert not {BEST, UNBEATEN} & set(rendered(document(found, form), form))
    assert json.loads(rendered(document(found, Format.JSON), Format.JSON))["results"][0]["value"]


def test_tables_without_marks_have_no_legend() -> None:
    assert document(results(held(cell("rap"), ratios([0.5, 0.6]))), Format.TEXT).remarks == ()

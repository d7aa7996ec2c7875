"""Rows beside the same computed again: what counts as a difference, and what is said of it."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pandas as pd
import pytest
from stored import cell

from rapbench.report.verification import ALIKE, APART, Difference, Verification, differences

OWN = cell("rap")


def rows(**columns: Any) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"index": range(n), "id": [f"image-{i}" for i in range(n)], **columns})


def found(stored: pd.DataFrame, now: pd.DataFrame, tolerance: float = ALIKE) -> list[Difference]:
    return list(differences(OWN, stored, now, tolerance))


def test_a_difference_is_a_share_of_the_larger_value_and_of_what_is_usual_in_the_column() -> None:
    stored = rows(a=[4.0, 4.0, 4.0, 0.0, 8.0])
    now = rows(a=[4.0, 5.0, 3.0, 1e-9, 8.0])
    assert [row.size for row in found(stored, now)] == pytest.approx([0, 1 / 5, 1 / 4, 1e-9 / 4, 0])


def test_images_are_matched_by_name_and_their_place_does_not_matter() -> None:
    stored = rows(a=[1.0, 2.0, 3.0])
    now = stored.iloc[[2, 0]].assign(index=[0, 1])
    assert [(row.image, row.size) for row in found(stored, now)] == [("image-2", 0), ("image-0", 0)]


@pytest.mark.parametrize(("one", "other", "size"), [(nan, nan, 0), (inf, inf, 0), (1.0, nan, inf), (1.0, inf, inf)])
def test_what_is_a_number_on_one_side_only_differs_without_bound(one: float, other: float, size: float) -> None:
    for before, after in ((one, other), (other, one)):
        (row, _) = found(rows(a=[before, 1.0]), rows(a=[after, 1.0]))
        assert row.size == size


def test_of_vectors_and_columns_the_value_that_is_furthest_is_told() -> None:
    stored = rows(a=[1.0, 1.0], curve=[np.array([1.0, 2.0]), np.array([3.0, 4.0])], hit=[True, False])
    now = rows(a=[1.0, 1.0], curve=[np.array([1.0, 2.0]), np.array([3.1, 5.0])], hit=[True, False])
    first, second = found(stored, now)
    assert (first.size, first.is_rounding) == (0, True)
    assert (second.column, second.stored, second.now, second.is_rounding) == ("curve", 4, 5, False)


def test_a_column_that_one_side_lacks_or_that_has_another_length_differs() -> None:
    stored = rows(a=[1.0], curve=[np.array([1.0, 2.0])])
    assert [row.size for row in found(stored, rows(a=[1.0]))] == [inf]
    assert [row.size for row in found(stored.drop(columns="a"), stored)] == [inf]
    (row,) = found(stored, rows(a=[1.0], curve=[np.array([1.0, 2.0, 3.0])]))
    assert (row.column, row.size) == ("curve", inf)
    assert "nothing now" in str(found(stored, rows(a=[1.0]))[0])


def test_rounding_of_another_machine_is_more() -> None:
    stored, now = rows(a=[1.0]), rows(a=[1.001])
    assert [found(stored, now, tolerance)[0].is_rounding for tolerance in (ALIKE, APART)] == [False, True]


def test_the_verdict_counts_names_the_greatest_and_says_what_was_left_out() -> None:
    some = found(rows(a=[1.0, 1.0, 1.0]), rows(a=[1.0, 2.0, 1.1]))
    lacking = {"no module": {("own", "energy"): 3, ("own", "guards"): 2, ("rap", "saco"): 1}}
    said = list(Verification(title="net on images", asked="1%", num_rows=9, rows=some, lacking=lacking).lines())
    assert said[0] == "net on images: 3 of 9 rows computed again (--verify 1%): 2 of them differ."
    greatest = "The greatest difference is 5.0e-01 (a of rap by outside_inside, image image-1: 1 stored, 2 now)."
    assert said[1] == greatest
    assert "up to 1e-05" in said[2]
    assert "image image-2: 1 stored, 1.1 now" in said[3]
    assert said[4:] == ["Not computed again, 6 rows of 3 cells (own by energy, guards; rap by saco): no module."]


def test_rows_of_another_origin_are_said_to_be() -> None:
    some = found(rows(a=[1.0]), rows(a=[1.0]), APART)
    said = list(Verification(title="", asked="1", num_rows=1, rows=some, elsewhere=("torch 1", "torch 2")).lines())
    assert said[1] == "They are equal to the last bit."
    assert "of torch 1, these of torch 2" in said[2]
    assert "up to 1e-02" in said[2]

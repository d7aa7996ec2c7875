"""The images of a gallery follow from the scores alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from stored import cell, held, masks, ratios

from rapbench.core.errors import UnknownName
from rapbench.report.picks import PERCENTILES, Ranking, by_metric, picks, ranking
from rapbench.report.result import Result, results


def scored(method: str, values: Sequence[float]) -> list[Result]:
    """Numbers of outside-inside ratios: the score `all` of image i is values[i]."""
    return results(held(cell(method), ratios(values)))


def ranked(found: Sequence[Result], by: str = "") -> Ranking:
    made = ranking(found, by)
    assert made is not None
    return made


def test_images_are_those_at_the_percentiles_of_the_method_s_own_ranking() -> None:
    values = np.random.default_rng(0).permutation(101).astype(float)
    found = picks(ranked(scored("rap", list(values))), most=100)
    assert {pick.percentile: pick.score for pick in found} == {p: float(p) for p in PERCENTILES}
    assert all(values[int(pick.image.removeprefix("image-"))] == pick.score for pick in found)


def test_of_one_image_every_percentile_is_that_image() -> None:
    assert {pick.image for pick in picks(ranked(scored("rap", [2.0])), most=9)} == {"image-0"}


def test_where_higher_is_better_the_best_is_the_highest() -> None:
    counts = [[k, 6 - k, 0, 10] for k in range(7)]
    rows = masks(zero=counts, mean=counts)
    found = ranked(results(held(cell("rap", metric="segmentation"), rows)))
    assert all(scores.is_monotonic_decreasing for scores in found.scores.values())
    assert "higher is better" in found.rule


def test_images_of_equal_scores_are_in_the_order_of_the_run() -> None:
    scores = ranked(scored("rap", [1.0, 0.5] * 50)).scores["rap"]
    assert list(scores.index) == [f"image-{i}" for i in (*range(1, 100, 2), *range(0, 100, 2))]


def test_controls_have_maps_beside_the_others_and_choose_no_image() -> None:
    found = ranked([*scored("random", [3.0, 1.0, 2.0]), *scored("rap", [1.0, 2.0, 3.0])])
    assert list(found.numbers) == ["rap", "random"]
    assert {pick.method for pick in picks(found, most=9)} == {"rap"}


def test_a_method_without_negative_evidence_is_ranked_by_what_it_has() -> None:
    found = ranked([*scored("rap", [1.0, 2.0]), *scored("gradient", [2.0, 1.0])])
    assert {name: result.variant for name, result in found.numbers.items()} == {"rap": "all", "gradient": "pos"}


@pytest.mark.parametrize("most", range(1, 9))
def test_there_are_at_most_so_many_images_and_the_ends_come_first(most: int) -> None:
    generator = np.random.default_rng(1)
    found = [r for m in ("rap", "lrp_zero") for r in scored(m, list(generator.random(200)))]
    chosen = picks(ranked(found), most)
    assert len({pick.image for pick in chosen}) == most
    assert {pick.percentile for pick in chosen} <= set((0, 100, 50, 2, 98, 5, 95)[: most // 2 + 1])


def test_more_rows_of_other_methods_do_not_move_a_method_s_images() -> None:
    alone = picks(ranked(scored("rap", [3.0, 1.0, 2.0])), most=9)
    beside = picks(ranked([*scored("rap", [3.0, 1.0, 2.0]), *scored("lrp_zero", [1.0, 2.0, 3.0])]), most=9)
    assert [pick for pick in beside if pick.method == "rap"] == alone


def test_a_metric_and_a_variant_can_be_asked_for_and_a_wrong_one_is_answered() -> None:
    found = scored("rap", [3.0, 1.0])
    assert ranked(found, "outside_inside/pos_median").numbers["rap"].variant == "pos_median"
    with pytest.raises(UnknownName, match="did you mean outside_inside"):
        ranking(found, "outside_insid")
    with pytest.raises(UnknownName, match="no variant 'alll'"):
        ranking(found, "outside_inside/alll")


def test_without_scores_of_single_images_there_is_no_ranking() -> None:
    assert ranking([]) is None
    assert ranking([r for r in scored("rap", [1.0, 2.0]) if r.variant == "all_ratio_of_means"]) is None


def test_the_first_metric_that_is_listed_ranks_whatever_is_stored_first() -> None:
    counts = [[1, 2, 3, 4]] * 3
    other = results(held(cell("lrp_zero", metric="segmentation"), masks(zero=counts, mean=counts)))
    found = ranked([*other, *scored("rap", [1.0, 2.0, 3.0])])
    assert {result.cell.metric for result in found.numbers.values()} == {"outside_inside"}


def test_a_metric_s_scores_of_single_images_are_found_where_its_headline_has_none() -> None:
    counts = [[1, 2, 3, 4]] * 3
    found = results(held(cell("rap", metric="segmentation"), masks(zero=counts, mean=counts)))
    (numbers,) = by_metric(found).values()
    assert numbers["rap"].variant.endswith(":per_image")

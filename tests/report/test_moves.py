"""Two results folders side by side: what counts as moved, restated, and what is matched with what."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from stored import cell, masks, ratios, scored

from rapbench.core.errors import BadConfig
from rapbench.report.formats import Format, rendered
from rapbench.report.move_tables import document
from rapbench.report.moves import Move, Moves, apart, moves
from rapbench.report.paired import Pair, unpaired
from rapbench.report.result import Scored

RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=40)
BEFORE = 5 + NOISE


def rap(values: Any, start: int = 0, **chosen: Any) -> Scored:
    return scored("rap", ratios(list(values), start), **chosen)


def only(found: Moves, variant: str = "pos") -> Move:
    (move,) = [one for one in found.both if one.after.variant == variant]
    return move


def test_a_folder_beside_itself_has_not_moved() -> None:
    found = moves([rap(BEFORE)], [rap(BEFORE)])
    assert not found.moved
    assert found.verdicts == {"same": 4}
    gap = only(found).difference
    assert gap is not None
    assert (gap.value, gap.ci_low, gap.ci_high, gap.n) == (0, 0, 0, 40)


@pytest.mark.parametrize(("shift", "verdict"), [(-0.5, "better"), (0.5, "worse"), (0.001, "same")])
def test_a_shift_of_every_image_is_told_with_its_direction(shift: float, verdict: str) -> None:
    found = moves([rap(BEFORE)], [rap(BEFORE + shift)])
    assert only(found).verdict == verdict
    gap = only(found).difference
    assert gap is not None
    assert gap.value == pytest.approx(shift)


def test_the_higher_end_is_the_better_where_higher_is_better() -> None:
    worse, better = ([[6, 2, 2, 6]] * 20, [[7, 1, 1, 7]] * 20)
    before, after = (scored("rap", masks(zero=c, mean=c), metric="segmentation") for c in (worse, better))
    assert {move.verdict for move in moves([before], [after]).both} == {"better"}


def test_differences_that_point_both_ways_are_within_their_interval() -> None:
    found = moves([rap(BEFORE)], [rap(BEFORE + 0.3 * RNG.normal(size=40))])
    assert only(found).verdict == "within its interval"
    assert not only(found).has_moved


def test_an_interval_that_ends_at_zero_holds_it() -> None:
    few = np.r_[np.ones(3), np.zeros(37)]  # a resample without the three is not rare
    move = only(moves([rap(np.zeros(40))], [rap(few)]))
    assert move.difference is not None
    assert move.difference.ci_low == 0
    assert move.verdict == "within its interval"


def test_images_are_paired_by_id_where_both_have_them() -> None:
    """Unpaired, a shift this small would drown in how hard images are."""
    before, after = rap(BEFORE[:30]), rap(BEFORE[10:] + 0.1, start=10)
    move = only(moves([before], [after]))
    assert (move.is_paired, move.counts) == (True, (20, 20))
    assert move.numbers[0] == pytest.approx(BEFORE[10:30].mean())
    assert move.verdict == "worse"


@pytest.mark.parametrize(("shift", "verdict"), [(0.1, "within its interval"), (3, "worse")])
def test_different_images_are_compared_unpaired(shift: float, verdict: str) -> None:
    move = only(moves([rap(BEFORE)], [rap(BEFORE[:30] + shift, start=100)]))
    assert (move.is_paired, move.counts) == (False, (40, 30))
    assert move.verdict == verdict
    gap = move.difference
    assert gap is not None
    draws = [np.random.default_rng((seed, n)).integers(n, size=(1000, n)) for seed, n in ((0, 30), (1, 40))]
    drawn = (BEFORE[:30] + shift)[draws[0]].mean(axis=1) - BEFORE[draws[1]].mean(axis=1)
    assert [gap.ci_low, gap.ci_high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]))


def test_equal_runs_on_different_images_move_in_about_one_of_twenty() -> None:
    definition = only(moves([rap(BEFORE)], [rap(BEFORE)])).after.definition
    pairs = [Pair(RNG.normal(size=(30, 1)), RNG.normal(size=(30, 1))) for _ in range(200)]
    gaps = [unpaired(definition, both, seed=0, resamples=400) for both in pairs]
    assert 1 <= sum(not gap.ci_low <= 0 <= gap.ci_high for gap in gaps) <= 24  # type: ignore[operator]


def test_a_value_that_appears_or_vanishes_has_moved() -> None:
    nothing = ratios([1.0, 2.0]).assign(num_non_finite=1)
    assert {move.verdict for move in moves([scored("rap", nothing)], [rap([1.0, 2.0])]).both} == {"defined"}
    assert {move.verdict for move in moves([rap([1.0, 2.0])], [scored("rap", nothing)]).both} == {"undefined"}
    assert {move.verdict for move in moves([scored("rap", nothing)], [scored("rap", nothing)]).both} == {"same"}


def test_what_has_no_rows_is_compared_with_nothing() -> None:
    found = moves([scored("rap", pd.DataFrame())], [rap([1.0, 2.0])])
    assert {move.verdict for move in found.both} == {"defined"}


def test_the_version_tells_no_numbers_apart_and_all_else_does() -> None:
    assert len(moves([rap(BEFORE, rapbench="1")], [rap(BEFORE, rapbench="2")]).both) == 4
    for other in ({"seed": 1}, {"precision": "fp64"}, {"device": "cuda"}, {"weights": "random"}, {"digest": "d"}):
        found = moves([rap(BEFORE)], [rap(BEFORE, **other)])
        assert not found.both
        assert len(found.only_before) == len(found.only_after) == 1


def test_what_is_ignored_may_differ() -> None:
    found = moves([rap(BEFORE)], [rap(BEFORE, seed=3)], ignored=frozenset({"seed"}))
    assert found.verdicts == {"same": 4}
    assert apart([rap(BEFORE)], [rap(BEFORE, seed=3)]) == {"seed": ("0", "3")}


def test_folders_are_kept_apart_only_by_what_they_have_no_value_of_in_common() -> None:
    ours = [rap(BEFORE, seed=0, device="cuda"), rap(BEFORE, seed=1, device="cuda")]
    theirs = [rap(BEFORE, seed=1), rap(BEFORE, seed=2)]
    assert apart(ours, theirs) == {"device": ("cuda", "cpu")}


def test_two_cells_that_would_be_one_number_are_refused() -> None:
    with pytest.raises(BadConfig, match="which would be one number"):
        moves([rap(BEFORE), rap(BEFORE, rapbench="2")], [rap(BEFORE)])


def test_what_only_one_folder_holds_is_listed_by_metric() -> None:
    ours = [rap(BEFORE), scored("gradient", ratios([1.0])), scored("random", ratios([1.0]))]
    theirs = [rap(BEFORE), scored("rap", masks(zero=[[1, 2, 3, 4]]), metric="segmentation")]
    shown = rendered(document(moves(ours, theirs), "old", "new"), Format.TEXT)
    assert "only in A, old" in shown
    assert "outside_inside  gradient, random" in shown
    assert "only in B, new" in shown
    assert "nothing moved" in shown


def test_a_method_of_another_backend_is_told_from_the_native_one() -> None:
    ours = [rap(BEFORE), rap(BEFORE, backend="captum")]
    both = document(moves(ours, ours), "a", "b", everything=True).grids[0]
    assert {row[0] for row in both.rows} == {"rap", "rap [captum]"}
    (alone,) = document(moves(ours, ours[:1]), "a", "b").grids
    assert [row[-1] for row in alone.rows] == ["rap [captum]"]


def test_moved_numbers_are_printed_and_the_others_on_request() -> None:
    counts = [[6, 2, 2, 6]] * 20
    ours = [rap(BEFORE), scored("rap", masks(zero=counts), metric="segmentation")]
    theirs = [rap(BEFORE - 1), ours[1]]
    found = moves(ours, theirs)
    (grid,) = document(found, "a", "b").grids
    assert {row[1] for row in grid.rows} == {"outside_inside"}
    assert {row[-1] for row in grid.rows} == {"better"}
    (every,) = document(found, "a", "b", everything=True).grids
    assert len(every.rows) == len(found.both) > len(grid.rows)
    assert "4 moved (4 better); 3 are the same and 0 differ" in rendered(document(found, "a", "b"), Format.TEXT)


def test_files_hold_every_number_with_both_keys_and_origins() -> None:
    found = moves([rap(BEFORE)], [rap(BEFORE, rapbench="2")], headline=False)
    shown = document(found, "a", "b")
    assert len(shown.records) == len(found.both) > 4
    assert len({tuple(record) for record in shown.records}) == 1
    loaded = json.loads(rendered(shown, Format.JSON))
    assert loaded["verdicts"] == {"same": len(found.both)}
    (first, *_) = loaded["results"]
    assert (first["key_before"], first["key_after"]) == (cell("rap").key, cell("rap", rapbench="2").key)

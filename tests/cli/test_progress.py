"""What a command says while it works, and how it reckons the time left."""

from __future__ import annotations

import re
import time

import pytest

from rapbench.cli import progress
from rapbench.cli.progress import Ahead, ProgressBar
from rapbench.core.stages import advance, stage

WORK = {"reading": 100, "explaining by rap": 100, "explaining by gradient": 100, "scoring by perturbation": 24}


def test_the_time_left_is_that_of_the_stages_that_are_left() -> None:
    """Perturbation takes the first images only; its time was expected of all."""
    ahead = Ahead(WORK)
    ahead.measured("reading", 32, 3.2)
    ahead.measured("explaining by rap", 32, 32)
    ahead.measured("explaining by gradient", 32, 16)
    assert ahead.seconds() is None  # not all is known
    ahead.measured("scoring by perturbation", 24, 240)
    assert ahead.seconds() == pytest.approx(68 * (0.1 + 1 + 0.5))


def test_a_method_that_has_not_explained_is_expected_to_take_as_long_as_the_others() -> None:
    ahead = Ahead({key: WORK[key] for key in ("explaining by rap", "explaining by gradient")})
    ahead.measured("explaining by rap", 50, 100)
    assert ahead.seconds() == pytest.approx(50 * 2 + 100 * 2)


@pytest.mark.parametrize(("elapsed", "left"), [(0, 100), (30, 70), (1000, 50)])
def test_what_a_stage_has_been_at_is_taken_off_and_never_more_than_it_should_take(elapsed: float, left: float) -> None:
    ahead = Ahead({"reading": 40})
    ahead.measured("reading", 20, 100)
    assert ahead.seconds("reading", 10, elapsed) == pytest.approx(left)


def test_more_work_than_was_expected_leaves_nothing() -> None:
    ahead = Ahead({"reading": 40})
    ahead.measured("reading", 64, 100)
    assert ahead.seconds() == 0


def test_a_line_says_method_stage_batch_and_count() -> None:
    bar = ProgressBar(64, "explanations", {"explaining by rap": 64, "scoring by perturbation": 24})
    bar.begins("explaining by rap", 32, "")
    bar.advances(8)
    assert bar.line() == "explaining by rap (8 of 32): 0/64 explanations"
    bar.ends()
    bar.begins("scoring by perturbation", 24, "rap")
    bar.advances(72)
    assert bar.line().startswith("rap: scoring by perturbation (72 inputs): 0/64 explanations")
    bar.ends()
    bar(32)
    assert re.fullmatch(r"32/64 explanations, [\d.]+ explanations/s, 0 s left", bar.line())
    bar(40)
    assert bar.line().startswith("64/64 explanations")


def test_in_a_log_a_long_stage_has_a_line_and_short_ones_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_WORTH_A_LINE", 0.1)
    with ProgressBar():
        for n in range(100):
            with stage(f"short {n}"):
                advance(1)
        with stage("long"):
            time.sleep(0.5)
    assert capsys.readouterr().err == "long\n"


def test_nobody_need_listen() -> None:
    with stage("alone"):
        advance(1)


def test_a_stage_that_did_more_than_was_expected_takes_no_time_from_others() -> None:
    ahead = Ahead({"reading": 2, "scoring": 10})
    ahead.measured("reading", 5, 5.0)
    ahead.measured("scoring", 1, 1.0)
    assert ahead.seconds() == 9

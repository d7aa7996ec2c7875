"""What scoring costs on either side: time of the processor, one thread, both in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from counterparts import erasing, regions, sampling
from counterparts.subject import Subject
from rapbench.core.types import Metric
from rapbench.metrics.average_precision import average_precision, scaled
from rapbench.metrics.deletion_insertion import DeletionInsertion
from rapbench.metrics.energy import Energy, top_inside
from rapbench.metrics.imputation import imputed
from rapbench.metrics.infidelity import Infidelity
from rapbench.metrics.perturbation import Perturbation
from rapbench.metrics.pointing_game import PointingGame
from rapbench.metrics.randomisation import Randomisation
from rapbench.metrics.regions import by_boxes, stacked_masks
from rapbench.metrics.road import Road
from rapbench.metrics.sensitivity_n import SensitivityN

ROUNDS = 3


@dataclass(frozen=True)
class Pair:
    """The same work on either side.

    Attributes:
        ours: as it is typed.
        library: the module that holds the other one.
        theirs: its name there.
        work: classifications, masks or maps of an image that each takes, ours and theirs.
        images: how many of the subject's are scored.
        candidates: given the images, what ours and theirs run.
    """

    ours: str
    library: str
    theirs: str
    work: str
    images: int
    candidates: Callable[[Subject], tuple[Callable[[], object], Callable[[], object]]]


def measured(pair: Pair, subject: Subject) -> tuple[float, float, float]:
    """Milliseconds an image of ours and of theirs, and theirs over ours: medians over rounds that alternate."""
    ours, theirs = pair.candidates(subject.head(pair.images))
    spent = [(_seconds(ours), _seconds(theirs)) for _ in range(ROUNDS)]
    mine, other = (1000 * statistics.median(times) / pair.images for times in zip(*spent, strict=True))
    return mine, other, statistics.median(b / a for a, b in spent)


def _seconds(function: Callable[[], object]) -> float:
    """Time of the processor of one call, or the mean of calls that take a tenth of a second."""
    start, calls = time.process_time(), 0
    while calls == 0 or time.process_time() - start < 0.1:
        function()
        calls += 1
    return (time.process_time() - start) / calls


def _against(
    metric: Metric, theirs: Callable[[Subject], object], seen: Callable[[Subject], Subject] = lambda subject: subject
) -> Callable[[Subject], tuple[Callable[[], object], Callable[[], object]]]:
    """A metric on a subject, or on what is made of it, and what a library does with the same."""

    def candidates(subject: Subject) -> tuple[Callable[[], object], Callable[[], object]]:
        same = seen(subject)
        return lambda: metric(same.explained), lambda: theirs(same)

    return candidates


def _imputing(subject: Subject) -> tuple[Callable[[], object], Callable[[], object]]:
    gone, x = erasing.masks(subject), subject.raw.batch.x[:1]
    wide = x.expand(len(gone), *x.shape[1:]).contiguous()
    return lambda: imputed(wide, gone), lambda: [erasing.solved_by_grad_cam(x[0], one) for one in gone]


def _ranking(subject: Subject) -> tuple[Callable[[], object], Callable[[], object]]:
    found, positive = by_boxes(subject.explained), subject.explained.pixels.clamp(min=0)
    maps = np.clip(subject.maps, 0, None)
    return lambda: top_inside(positive, found), lambda: regions.located("RelevanceRankAccuracy", subject, maps)


def _precision(subject: Subject) -> tuple[Callable[[], object], Callable[[], object]]:
    maps, masks = scaled(subject.explained.pixels), stacked_masks(subject.raw.batch.mask, subject.raw.pixels)
    return lambda: average_precision(maps, masks), lambda: regions.precisions(maps, masks)


_SHARES = [10, 20, 30, 40, 50, 70, 90]

PAIRS = (
    Pair(
        "deletion_insertion(step=1792, curves=deletion)",
        "quantus",
        "PixelFlipping, the same curve",
        "28 and 84 classifications",
        2,
        _against(
            DeletionInsertion(step=erasing.STEP, curves="deletion"),
            lambda subject: erasing.flipped(subject, perturb_baseline=0.0),
        ),
    ),
    Pair(
        "deletion_insertion(step=598, curves=deletion)",
        "quantus",
        "PixelFlipping, as many points",
        "84 and 84 classifications",
        2,
        _against(
            DeletionInsertion(step=598, curves="deletion"),
            lambda subject: erasing.flipped(subject, perturb_baseline=0.0),
        ),
    ),
    Pair(
        "perturbation(pixels=64, steps=100, orders=morf)",
        "quantus",
        "RegionPerturbation",
        "100 and 100 classifications",
        2,
        _against(Perturbation(pixels=64, steps=100, orders="morf"), erasing.dropped),
    ),
    Pair(
        "road",
        "pytorch_grad_cam",
        "ROADCombined at as many shares",
        "14 and 14 masks, classified",
        1,
        _against(Road(), lambda subject: erasing.combined(subject, _SHARES)),
    ),
    Pair(
        "road",
        "quantus",
        "ROAD on grey photographs, MoRF alone",
        "14 and 7 masks, classified",
        1,
        _against(Road(), lambda subject: erasing.accuracies(subject, _SHARES), Subject.grey),
    ),
    Pair(
        "road, imputation alone",
        "pytorch_grad_cam",
        "NoisyLinearImputer",
        "3 and 3 masks, of 10, 50 and 90 %",
        1,
        _imputing,
    ),
    Pair(
        f"infidelity(perturbation=gaussian, samples={sampling.SAMPLES})",
        "captum",
        "infidelity, 32 at once",
        "32 and 33 classifications",
        2,
        _against(
            Infidelity(perturbation="gaussian", samples=sampling.SAMPLES),
            lambda subject: sampling.captums(subject, "gaussian"),
        ),
    ),
    Pair(
        f"infidelity(perturbation=gaussian, samples={sampling.SAMPLES})",
        "quantus",
        "Infidelity",
        "32 and 33 classifications",
        2,
        _against(Infidelity(perturbation="gaussian", samples=sampling.SAMPLES), sampling.infidelities),
    ),
    Pair(
        "sensitivity_n(sizes=1024, subsets=84)",
        "quantus",
        "FaithfulnessCorrelation",
        "84 and 85 classifications",
        2,
        _against(SensitivityN(sizes="1024", subsets=84), lambda subject: sampling.faithfulness(subject, 84)),
    ),
    Pair(
        "sensitivity_n(sizes=1024, subsets=84)",
        "quantus",
        "SensitivityN",
        "84 and 85 classifications",
        2,
        _against(SensitivityN(sizes="1024", subsets=84), lambda subject: sampling.sensitivities(subject, 1792)),
    ),
    Pair(
        "randomisation",
        "quantus",
        "MPRT",
        "26 and 27 maps, 3 and 1 similarities",
        2,
        _against(Randomisation(), sampling.randomised, sampling.randomisable),
    ),
    Pair(
        "pointing_game(tolerance=0)",
        "quantus",
        "PointingGame",
        "",
        4,
        _against(PointingGame(tolerance=0), lambda subject: regions.located("PointingGame", subject, subject.maps)),
    ),
    Pair(
        "pointing_game",
        "quantus",
        "PointingGame, without tolerance",
        "",
        4,
        _against(PointingGame(), lambda subject: regions.located("PointingGame", subject, subject.maps)),
    ),
    Pair("energy, rra alone", "quantus", "RelevanceRankAccuracy", "", 4, _ranking),
    Pair(
        "energy, all of it",
        "quantus",
        "RelevanceMassAccuracy",
        "4 scores and 1",
        4,
        _against(Energy(), lambda subject: regions.located("RelevanceMassAccuracy", subject, subject.maps)),
    ),
    Pair("segmentation, ap_soft alone", "torchmetrics", "binary_average_precision", "", 4, _precision),
)

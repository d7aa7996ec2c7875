"""Metrics that compare a map with the object: its boxes or its mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterparts.subject import Counterpart, Subject, Values, furthest, mean, pixel_maps, statistics, value
from rapbench.core.types import VOID, Explained
from rapbench.metrics.average_precision import scaled
from rapbench.metrics.energy import POOLINGS, Energy
from rapbench.metrics.pointing_game import PointingGame
from rapbench.metrics.regions import by_boxes, stacked_masks
from rapbench.metrics.segmentation import Segmentation, thresholds

_EBPG = {"positive": "ebpg", "l2_squared": "rma@l2_squared", "max_abs": "rma@max_abs"}


def boxed(subject: Subject) -> Values:
    """Which pixels (N, 1, H, W) are inside the boxes, as Quantus takes them."""
    found: Values = by_boxes(subject.raw).inside.unsqueeze(1).numpy().astype(np.float64)
    return found


def located(name: str, subject: Subject, maps: Values, **given: Any) -> Values:
    """One of Quantus's scores of localisation (N,) of maps (N, 1, H, W)."""
    import quantus

    metric = getattr(quantus, name)(disable_warnings=True, **given)
    found = metric(**{**subject.scored, "a_batch": maps, "s_batch": boxed(subject)})
    return np.asarray(found, dtype=np.float64)


def _as_it_comes(name: str, subject: Subject) -> float:
    return 100 * float(np.nanmean(located(name, subject, pixel_maps(subject.raw))))


def _pointing(subject: Subject) -> float:
    ours = statistics(PointingGame(tolerance=0), subject.explained, "accuracy")
    return furthest(ours, 100 * located("PointingGame", subject, subject.maps, normalise=False))


def _rank(subject: Subject) -> float:
    """Of magnitudes: where K reaches beyond the positive pixels, ours shares the places among those of value 0."""
    large = subject.with_maps(subject.explained.pixels.abs().unsqueeze(1))
    ours = statistics(Energy(), large.explained, "rra")
    return furthest(ours, 100 * located("RelevanceRankAccuracy", large, large.maps, normalise=False))


def _mass(subject: Subject) -> float:
    apart = []
    for pooling, variant in _EBPG.items():
        maps = POOLINGS[pooling](subject.explained.relevance).unsqueeze(1).numpy()
        theirs = located("RelevanceMassAccuracy", subject, maps, normalise=False)
        apart.append(furthest(statistics(Energy(), subject.explained, variant), 100 * theirs))
    return max(apart)


def _attributed(subject: Subject) -> float:
    given = {"positive_attributions": True, "abs": False, "normalise": False}
    theirs = located("AttributionLocalisation", subject, subject.maps, **given)
    return furthest(statistics(Energy(), subject.explained, "ebpg"), 100 * theirs)


def _answers(explained: Explained) -> tuple[Tensor, Tensor]:
    """Pixels above their map's mean, and masks, (N, H, W) int64; 255 is void."""
    pixels = explained.pixels
    return (pixels > thresholds(pixels)["mean"]).long(), stacked_masks(explained.batch.mask, pixels).long()


def _counted(subject: Subject) -> float:
    from torchmetrics.functional import classification

    given, answers = {"ignore_index": VOID}, _answers(subject.explained)
    theirs = {
        "pixel_accuracy": classification.binary_accuracy(*answers, **given),
        "fg_iou": classification.binary_jaccard_index(*answers, **given),
        "miou": classification.multiclass_jaccard_index(*answers, num_classes=2, average="macro", **given),
        "f1": classification.binary_f1_score(*answers, **given),
    }
    found = {name: value(Segmentation(), subject.explained, f"{name}@mean") for name in theirs}
    return max(abs(found[name] - 100 * float(score)) for name, score in theirs.items())


def _without_void(subject: Subject) -> Subject:
    masks = tuple(None if mask is None else mask.where(mask != VOID, 0) for mask in subject.raw.batch.mask)
    explained = replace(subject.explained, batch=replace(subject.explained.batch, mask=masks))
    return Subject(subject.net, explained, explained)


def _by_image(subject: Subject) -> float:
    from torchmetrics.segmentation import DiceScore, MeanIoU

    plain = _without_void(subject).explained
    dice = DiceScore(num_classes=2, include_background=False, average="micro", input_format="index")
    theirs = {
        "f1@mean:per_image": dice(*_answers(plain)),
        "miou@mean:per_image": MeanIoU(num_classes=2, input_format="index")(*_answers(plain)),
    }
    return max(abs(value(Segmentation(), plain, name) - 100 * float(score)) for name, score in theirs.items())


def _by_image_as_it_comes(subject: Subject) -> float:
    from torchmetrics.segmentation import MeanIoU

    return 100 * float(MeanIoU(num_classes=2, input_format="index")(*_answers(_without_void(subject).raw)))


def precisions(maps: Tensor, masks: Tensor) -> Values:
    """Average precision (N,) by torchmetrics of 2 HW answers: of each pixel M for the object, 1 - M for the rest."""
    from torchmetrics.functional.classification import binary_average_precision

    found = []
    for soft, mask in zip(maps, masks, strict=True):
        labelled = mask != VOID
        answers, right = torch.stack([soft, 1 - soft])[:, labelled], torch.stack([mask == 1, mask == 0])[:, labelled]
        found.append(float(binary_average_precision(answers, right.long())))
    return np.array(found)


def _soft(subject: Subject) -> float:
    maps, masks = scaled(subject.explained.pixels), stacked_masks(subject.raw.batch.mask, subject.raw.pixels)
    ours = statistics(Segmentation(ap="soft"), subject.explained, "ap_soft@signed")
    return furthest(ours, 100 * precisions(maps, masks))


def _one_class(subject: Subject) -> float:
    """Average precision in percent of the object alone."""
    from torchmetrics.functional.classification import binary_average_precision

    maps, masks = scaled(subject.raw.pixels), stacked_masks(subject.raw.batch.mask, subject.raw.pixels).long()
    pairs = zip(maps, masks, strict=True)
    return 100 * float(np.mean([float(binary_average_precision(*pair, ignore_index=VOID)) for pair in pairs]))


COUNTERPARTS = (
    Counterpart(
        ours="pointing_game(tolerance=0), in percent",
        library="quantus",
        theirs="PointingGame",
        settings="boxes as its mask",
        differs="Departs from Zhang et al.: no tolerance of 15 pixels, no mean over classes. An image of which "
        "any tied maximum is on the object hits, so that a constant map beside others always does.",
        apart=_pointing,
        usual=mean(PointingGame(), "accuracy"),
        theirs_usual=lambda subject: _as_it_comes("PointingGame", subject),
    ),
    Counterpart(
        ours="energy, rra in percent",
        library="quantus",
        theirs="RelevanceRankAccuracy",
        settings="boxes as its mask, magnitudes on both sides",
        differs="Ranks the map with its signs, where Arras et al. pool it to a positive one first: the same but"
        " for objects larger than what is positive. Tied pixels go in no defined order; void pixels "
        "take places.",
        apart=_rank,
        usual=mean(Energy(), "rra"),
        theirs_usual=lambda subject: _as_it_comes("RelevanceRankAccuracy", subject),
    ),
    Counterpart(
        ours="energy, ebpg and rma in percent",
        library="quantus",
        theirs="RelevanceMassAccuracy",
        settings="boxes as its mask, pooled maps",
        differs="Departs from Arras et al.: sums the map with its signs, so that it can be negative or above 100.",
        apart=_mass,
        usual=mean(Energy(), "ebpg"),
        theirs_usual=lambda subject: _as_it_comes("RelevanceMassAccuracy", subject),
    ),
    Counterpart(
        ours="energy, ebpg in percent",
        library="quantus",
        theirs="AttributionLocalisation",
        settings="boxes as its mask, positive attributions, abs and normalise off",
        differs="Of magnitudes unless told otherwise; 1e-9 is added to the sum.",
        apart=_attributed,
        usual=mean(Energy(), "ebpg"),
        theirs_usual=lambda subject: _as_it_comes("AttributionLocalisation", subject),
    ),
    Counterpart(
        ours="segmentation: pixel_accuracy, fg_iou, miou, f1 @mean in percent",
        library="torchmetrics",
        theirs="accuracy, jaccard_index, f1_score",
        settings="pixels above the mean, void ignored",
        differs="Nothing, once the map is thresholded.",
        apart=_counted,
    ),
    Counterpart(
        ours="segmentation: f1, miou @mean:per_image in percent",
        library="torchmetrics",
        theirs="DiceScore, MeanIoU",
        settings="pixels above the mean, masks without void",
        differs="Mean of the images' scores, where ours sums counts over the data set; cannot leave void out; leaves "
        "out a class that neither map nor mask holds, which here counts as 0.",
        apart=_by_image,
        usual=lambda subject: value(Segmentation(), _without_void(subject).raw, "miou@mean"),
        theirs_usual=_by_image_as_it_comes,
    ),
    Counterpart(
        ours="segmentation(ap=soft), ap_soft@signed in percent",
        library="torchmetrics",
        theirs="binary_average_precision",
        settings="both classes as one problem, image by image, without void pixels",
        differs="Of the object alone, in which only the order of pixels matters; Chefer et al. score both "
        "classes as one problem.",
        apart=_soft,
        usual=mean(Segmentation(ap="soft"), "ap_soft@signed"),
        theirs_usual=_one_class,
    ),
)

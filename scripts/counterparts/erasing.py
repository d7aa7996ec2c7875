"""Metrics that erase pixels and look at what is left of the prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterparts.subject import Counterpart, Subject, Values, furthest, mean, pixel_maps, statistics
from rapbench.core.types import Explained
from rapbench.metrics.average_drop import AverageDrop
from rapbench.metrics.average_precision import scaled
from rapbench.metrics.degradation import Degradation
from rapbench.metrics.deletion_insertion import DeletionInsertion
from rapbench.metrics.fraction_perturbation import FRACTIONS, FractionPerturbation
from rapbench.metrics.guards import Guards
from rapbench.metrics.imputation import imputed
from rapbench.metrics.masked import ranks
from rapbench.metrics.perturbation import Perturbation
from rapbench.metrics.road import SHARES, Road, _broken

STEP = 1792
"""Pixels a step of deletion; Quantus counts channel values, three to a pixel."""
_PATCH = 8
_FEW = (0.1, 0.5, 0.9)
"""Shares at which the sparse systems of ROAD are solved directly, which takes half a second each."""
_PLAIN = {"abs": False, "normalise": False}


def flipped(subject: Subject, **given: Any) -> Values:
    """Quantus's probabilities (N, L) after each step of deletion."""
    from quantus import PixelFlipping

    found: Values = np.array(PixelFlipping(features_in_step=STEP, disable_warnings=True, **given)(**subject.scored))
    return found


def _deletion(subject: Subject) -> float:
    ours = DeletionInsertion(step=STEP, curves="deletion")(subject.explained)["deletion_probability"][:, 1:]
    theirs = flipped(subject, perturb_baseline=0.0, **_PLAIN)
    return furthest(ours, theirs[:, 2::3])


def _flipped_as_it_comes(subject: Subject) -> float:
    return float(flipped(subject, return_auc_per_sample=True).mean())


def dropped(subject: Subject, **given: Any) -> Values:
    """Quantus's drops (N, L) of the probability."""
    from quantus import RegionPerturbation

    found: Values = np.array(RegionPerturbation(disable_warnings=True, **given)(**subject.scored))
    return found


def _perturbation(subject: Subject) -> float:
    columns = Perturbation(pixels=1, steps=40)(subject.explained)
    given = {**_PLAIN, "patch_size": 1, "regions_evaluation": 40, "perturb_baseline": 0.0}
    apart = []
    for order in ("morf", "lerf"):
        curve = columns[f"{order}_probability"]
        apart.append(furthest(curve[:, :1] - curve[:, 1:], dropped(subject, order=order, **given)))
    return max(apart)


def _dropped_as_it_comes(subject: Subject) -> float:
    return float(dropped(subject).mean())


def _own_means(arr: Values, indices: Values, **_: object) -> Values:
    """Every channel of a patch becomes its own mean."""
    found, rows = arr.copy(), np.arange(len(arr))[:, None]
    patch = arr[rows, indices].reshape(len(arr), 3, -1)
    found[rows, indices] = np.broadcast_to(patch.mean(2, keepdims=True), patch.shape).reshape(len(arr), -1)
    return found


def _degradation(subject: Subject) -> float:
    curve = Degradation(patch=_PATCH)(subject.explained)["probability"]
    theirs = dropped(subject, patch_size=_PATCH, perturb_func=_own_means, **_PLAIN)
    return furthest(curve[:, :1] - curve[:, 1:], theirs)


def confidence(
    subject: Subject, maps: Values, removal: str, percentile: float, imputer: Callable[[Tensor, Tensor], Tensor]
) -> Values:
    """pytorch-grad-cam's probability (N,) of images without the pixels above a percentile of their map (N, 1, H, W)."""
    from pytorch_grad_cam.metrics import perturbation_confidence as theirs

    metric = theirs.PerturbationConfidenceMetric(getattr(theirs, removal)(percentile, imputer))
    found: Values = metric(*_inputs(subject, maps), return_diff=False)
    return found.astype(np.float64)


def _inputs(subject: Subject, maps: Values) -> tuple[Tensor, Values, list[Any], torch.nn.Module]:
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    targets = [ClassifierOutputSoftmaxTarget(int(target)) for target in subject.y]
    return subject.raw.batch.x, maps[:, 0], targets, subject.net


def _removes(count: int, size: int) -> float:
    """The percentile above which just so many of the pixels lie."""
    return 100 * (size - count - 0.5) / (size - 1)


def _black(subject: Subject) -> Callable[[Tensor, Tensor], Tensor]:
    value = torch.tensor(subject.raw.network.black).view(-1, 1, 1)
    return lambda x, kept: torch.where(kept > 0, x, value)


_REMOVALS = {"positive": "RemoveMostRelevantFirst", "negative": "RemoveLeastRelevantFirst"}


def _fractions(subject: Subject) -> float:
    columns, maps = FractionPerturbation()(subject.explained), subject.maps
    size, apart = maps[0].size, []
    for order, removal in _REMOVALS.items():
        for step, fraction in enumerate(FRACTIONS, 1):
            percentile = _removes(int(fraction * size), size)
            found = confidence(subject, maps, removal, percentile, _black(subject))
            apart.append(furthest(columns[f"{order}_probability"][:, step], found))
    return max(apart)


def _without_noise(subject: Subject, explained: Explained) -> dict[str, Tensor]:
    """Columns of ROAD whose imputed pixels get no noise."""
    network = replace(explained.network, std=(float("inf"),) * subject.x.shape[1])
    return Road()(replace(explained, network=network))


def _order(explained: Explained) -> Values:
    """Maps (N, 1, H, W) that have the order of our ROAD, ties broken as it breaks them."""
    return -ranks(_broken(explained.pixels), descending=True).double().unsqueeze(1).numpy()


def _road(subject: Subject) -> float:
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    subject = subject.head(2)
    columns, maps = _without_noise(subject, subject.explained), _order(subject.explained)
    size, apart = maps[0].size, []
    for share in _FEW:
        count = int(share * size)
        removed = {"morf": count, "lerf": size - count}
        for (order, number), removal in zip(removed.items(), _REMOVALS.values(), strict=True):
            imputer = NoisyLinearImputer(noise=0.0)
            found = confidence(subject, maps, removal, _removes(number, size), imputer)
            apart.append(furthest(columns[f"{order}_probability"][:, SHARES.index(share)], found))
    return max(apart)


def combined(subject: Subject, percentiles: list[int]) -> Values:
    """pytorch-grad-cam's ROADCombined (N,)."""
    from pytorch_grad_cam.metrics.road import ROADCombined

    maps = pixel_maps(subject.raw).astype(np.float32)
    found: Values = ROADCombined(percentiles=percentiles)(*_inputs(subject, maps))
    return found


def _combined_as_it_comes(subject: Subject) -> float:
    return float(combined(subject.head(2), [10, 50, 90]).mean())


def _combined(subject: Subject) -> float:
    columns, places = Road()(subject.head(2).raw), [SHARES.index(p) for p in _FEW]
    morf, lerf = (float(columns[f"{order}_probability"][:, places].mean()) for order in ("morf", "lerf"))
    return (lerf - morf) / 2


def accuracies(subject: Subject, percentages: list[int], noise: float = 0.01) -> dict[int, float]:
    """Quantus's ROAD: mean accuracy by percentage removed."""
    from quantus import ROAD

    metric = ROAD(percentages=percentages, noise=noise, disable_warnings=True)
    found: dict[int, float] = metric(**subject.scored)
    return found


def _grey_road(subject: Subject) -> float:
    grey = subject.head(2).grey()
    broken = torch.from_numpy(_order(grey.explained))
    found = accuracies(grey.with_maps(broken), [round(100 * p) for p in _FEW], noise=0.0)
    ours = _without_noise(grey, grey.explained)["morf_accuracy"].mean(0)
    return furthest(np.array([ours[SHARES.index(p)] for p in _FEW]), list(found.values()))


def _road_as_it_comes(subject: Subject) -> float:
    return float(np.mean(list(accuracies(subject.head(2), [10, 50, 90]).values())))


def masks(subject: Subject) -> Tensor:
    """The pixels that our ROAD removes (M, H, W) at a few shares of the first image."""
    place = ranks(_broken(subject.explained.pixels[:1]), descending=True)
    return torch.cat([place < int(share * place[0].numel()) for share in _FEW])


def _imputed(subject: Subject, theirs: Callable[[Tensor, Tensor], Tensor]) -> float:
    gone, x = masks(subject), subject.raw.batch.x[:1]
    std = torch.tensor(subject.raw.network.std).view(-1, 1, 1)
    ours = imputed(x.expand(len(gone), *x.shape[1:]).contiguous(), gone)
    return max(furthest(mine * std, theirs(x[0], one) * std) for mine, one in zip(ours, gone, strict=True))


def solved_by_grad_cam(x: Tensor, gone: Tensor) -> Tensor:
    """A picture (C, H, W) imputed by pytorch-grad-cam, without noise."""
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    found: Tensor = NoisyLinearImputer(noise=0.0)(x.contiguous(), (~gone).float())
    return found


def solved_by_quantus(x: Tensor, gone: Tensor) -> Tensor:
    """A picture (C, H, W) imputed by Quantus, without noise."""
    from quantus.functions.perturb_func import noisy_linear_imputation

    indices = gone.flatten().nonzero().squeeze(1).numpy()
    return torch.from_numpy(noisy_linear_imputation(arr=np.ascontiguousarray(x.numpy()), indices=indices, noise=0.0))


def _masked(subject: Subject, name: str) -> Values:
    """A score of pytorch-grad-cam (N,) of images times their scaled maps."""
    from pytorch_grad_cam.metrics import cam_mult_image

    maps = scaled(subject.explained.pixels).unsqueeze(1).numpy().astype(np.float32)
    found: Values = getattr(cam_mult_image, name)()(*_inputs(subject, maps))
    return found.astype(np.float64)


def _drop(subject: Subject) -> float:
    clean = AverageDrop()(subject.explained)["probability"].numpy()
    theirs = 100 * _masked(subject, "DropInConfidence") / clean
    return furthest(statistics(AverageDrop(), subject.explained, "average_drop"), theirs)


def _increase(subject: Subject) -> float:
    ours = statistics(AverageDrop(), subject.explained, "increase")
    return furthest(ours, 100 * _masked(subject, "IncreaseInConfidence"))


def _complete(subject: Subject, **given: Any) -> float:
    """Percent of maps that Quantus calls complete."""
    from quantus import Completeness

    found = Completeness(disable_warnings=True, **given)(**subject.scored)
    return 100 * float(np.mean(found))


def _residual(subject: Subject) -> float:
    total = subject.raw.logits.gather(1, subject.raw.target.unsqueeze(1))[:, 0]
    return float(np.median(statistics(Guards(), replace(subject.raw, total=total), "residual")))


COUNTERPARTS = (
    Counterpart(
        ours="deletion_insertion(step=1792, curves=deletion)",
        library="quantus",
        theirs="PixelFlipping",
        settings="step of 1,792 channel values, baseline 0, abs and normalise off; every third point",
        differs="Counts channel values, three to a pixel, and takes only steps that divide the number of "
        "pixels, so that at 224 × 224 no step is a whole number of pixels. 'black' is the least value "
        "in any channel. The curve lacks the intact image, and its area is a sum over steps, by "
        "`numpy.trapz`, which numpy 2.4 does not have. No insertion.",
        apart=_deletion,
        usual=mean(DeletionInsertion(curves="deletion"), "deletion_auc"),
        theirs_usual=_flipped_as_it_comes,
    ),
    Counterpart(
        ours="perturbation(pixels=1, steps=40)",
        library="quantus",
        theirs="RegionPerturbation",
        settings="patch of 1, baseline 0, abs and normalise off, both orders",
        differs="Erases 100 patches of 8 × 8 in the order of their sums, as Samek et al. do with 9 × 9; ours "
        "erases pixels, as Nam et al.; 'black' as above.",
        apart=_perturbation,
        usual=mean(Perturbation(orders="morf"), "morf_aopc_probability"),
        theirs_usual=_dropped_as_it_comes,
    ),
    Counterpart(
        ours=f"degradation(patch={_PATCH})",
        library="quantus",
        theirs="RegionPerturbation",
        settings="patch of 8, a function that fills in each channel's mean, abs and normalise off",
        differs="Has no such fill: its 'mean' is one number over all channels of the whole image.",
        apart=_degradation,
    ),
    Counterpart(
        ours="fraction_perturbation",
        library="pytorch_grad_cam",
        theirs="RemoveMostRelevantFirst, RemoveLeastRelevantFirst",
        settings="a function that fills in black, percentiles between two pixels, softmax",
        differs="Removes what reaches a percentile: one pixel more at round ones, and of tied pixels all or "
        "none. Comes with no fill but ROAD's.",
        apart=_fractions,
    ),
    Counterpart(
        ours="road",
        library="pytorch_grad_cam",
        theirs="ROADMostRelevantFirst, ROADLeastRelevantFirst, ROADCombined",
        settings="no noise on either side, our order, percentiles between two pixels, softmax",
        differs="Departs from Rong et al.: noise of 0.01 is added to the normalised image, which is 0.0023 in "
        "[0, 1]; ties are not broken. Shares of 10 to 90 percent; (LeRF - MoRF) / 2 of the class's "
        "score, of which the columns here hold the mean over 10, 50 and 90 percent.",
        apart=_road,
        usual=_combined,
        theirs_usual=_combined_as_it_comes,
    ),
    Counterpart(
        ours="road, morf_accuracy",
        library="quantus",
        theirs="ROAD",
        settings="grey photographs, no noise on either side, our order",
        differs="Ranks channel values and takes their places for those of pixels, so that images of three "
        "channels fail; MoRF alone; of all images only the first batch counts; noise and ties as above.",
        apart=_grey_road,
        usual=lambda subject: mean(Road(), "morf_accuracy")(subject.head(2)),
        theirs_usual=_road_as_it_comes,
    ),
    Counterpart(
        ours="road, imputed pixels in [0, 1]",
        library="pytorch_grad_cam",
        theirs="NoisyLinearImputer",
        settings="no noise",
        differs="Solves each mask directly; ours iterates until it is within 1/255.",
        apart=partial(_imputed, theirs=solved_by_grad_cam),
    ),
    Counterpart(
        ours="road, imputed pixels in [0, 1]",
        library="quantus",
        theirs="noisy_linear_imputation",
        settings="no noise",
        differs="As above.",
        apart=partial(_imputed, theirs=solved_by_quantus),
    ),
    Counterpart(
        ours="average_drop, average_drop in percent",
        library="pytorch_grad_cam",
        theirs="DropInConfidence",
        settings="softmax, and its drop divided by the probability",
        differs="Departs from Chattopadhay et al.: the drop itself, not its share of the intact score; and of "
        "whatever score the target reads.",
        apart=_drop,
        usual=mean(AverageDrop(), "average_drop"),
        theirs_usual=lambda subject: 100 * float(_masked(subject, "DropInConfidence").mean()),
    ),
    Counterpart(
        ours="average_drop, increase in percent",
        library="pytorch_grad_cam",
        theirs="IncreaseInConfidence",
        settings="softmax",
        differs="Nothing but the score that the target reads.",
        apart=_increase,
        usual=mean(AverageDrop(), "increase"),
        theirs_usual=lambda subject: 100 * float(_masked(subject, "IncreaseInConfidence").mean()),
    ),
    Counterpart(
        ours="guards, residual",
        library="quantus",
        theirs="Completeness",
        settings="",
        differs="Asks whether two sums of floats are equal, bit by bit, having divided the map by its greatest "
        "magnitude: no measure of how far it is from complete. Given here in percent of images.",
        usual=_residual,
        theirs_usual=_complete,
    ),
)

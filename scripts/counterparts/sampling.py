"""Metrics that draw perturbations or networks at random: both sides are given the same draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import cycle
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from counterparts.subject import Counterpart, Subject, Values, classifier, furthest, mean, relatively, statistics
from rapbench.core.types import Explain, Network
from rapbench.methods.gradient import input_gradients
from rapbench.metrics.draws import generators
from rapbench.metrics.infidelity import Infidelity, _square
from rapbench.metrics.randomisation import Randomisation
from rapbench.metrics.sensitivity_n import SensitivityN
from rapbench.metrics.similarity import freedman_diaconis, ssim

SAMPLES = 32
_SIDE, _SETS, _PIXELS = 112, 30, 1024
_SIGMA = 0.2
_SEED = 43
"""With which Quantus draws every layer, having been given 42."""

Kind = Literal["square", "gaussian"]


def captums(subject: Subject, kind: Kind, *, normalize: bool = False) -> Values:
    """Infidelity (N,) by captum of the perturbations that ours draws, 32 at once."""
    from captum.metrics import infidelity

    found = []
    for n, draw in enumerate(generators(subject.raw.batch.seeds, "infidelity")):

        def perturbed(inputs: Tensor, draw: torch.Generator = draw) -> tuple[Tensor, Tensor]:
            if kind == "gaussian":
                noise = torch.stack([_noise(one, draw) for one in inputs])
                return noise, inputs - noise
            inside = torch.stack([_square(*one.shape[1:], draw).expand_as(one) for one in inputs])
            return inside.to(inputs), inputs.masked_fill(inside, 0)

        found.append(
            infidelity(
                subject.net,
                perturbed,
                subject.explained.batch.x[n : n + 1],
                subject.explained.relevance[n : n + 1],
                target=int(subject.y[n]),
                n_perturb_samples=SAMPLES,
                max_examples_per_batch=32,
                normalize=normalize,
            )
        )
    values: Values = torch.cat(found).double().numpy()
    return values


def _noise(x: Tensor, draw: torch.Generator) -> Tensor:
    return _SIGMA * torch.randn(x.shape, generator=draw)


def _captum(subject: Subject) -> float:
    apart = []
    asked: tuple[tuple[Kind, str], ...] = (("square", "rescaled"), ("gaussian", "infidelity"))
    for kind, variant in asked:
        ours = statistics(Infidelity(perturbation=kind, samples=SAMPLES, sigma=_SIGMA), subject.explained, variant)
        apart.append(relatively(ours, captums(subject, kind, normalize=variant == "rescaled")))
    return max(apart)


def infidelities(subject: Subject) -> Values:
    """Quantus's infidelity (N,) of the Gaussian noise that ours draws, all images at once."""
    from quantus import Infidelity as Theirs

    draws = generators(subject.raw.batch.seeds, "infidelity")
    x = subject.raw.batch.x

    def perturbed(**_: object) -> Values:
        return (x - torch.stack([_noise(one, draw) for one, draw in zip(x, draws, strict=True)])).numpy()

    rounds = SAMPLES // (x.shape[2] // _SIDE) ** 2
    metric = Theirs(
        perturb_patch_sizes=[_SIDE], n_perturb_samples=rounds, perturb_func=perturbed, disable_warnings=True
    )
    scored = {**subject.scored, "a_batch": subject.explained.relevance.numpy()}
    found: Values = np.asarray(metric(**scored))
    return found


def _quantus(subject: Subject) -> float:
    metric = Infidelity(perturbation="gaussian", samples=SAMPLES, sigma=_SIGMA)
    return relatively(statistics(metric, subject.explained, "infidelity"), infidelities(subject))


def _infidelity_as_it_comes(subject: Subject) -> float:
    from quantus import Infidelity as Theirs

    metric = Theirs(perturb_patch_sizes=[_SIDE // 2], n_perturb_samples=1, disable_warnings=True)
    return float(np.mean(metric(**{**subject.scored, "a_batch": subject.raw.relevance.numpy()})))


def faithfulness(subject: Subject, runs: int, **given: Any) -> Values:
    """Quantus's correlation (N,) over random sets of channel values."""
    from quantus import FaithfulnessCorrelation

    metric = FaithfulnessCorrelation(
        nr_runs=runs,
        subset_size=_PIXELS,
        abs=False,
        normalise=False,
        return_aggregate=False,
        disable_warnings=True,
        **given,
    )
    found: Values = np.asarray(metric(**subject.scored))
    return found


def _sets(subject: Subject) -> Iterator[Values]:
    """Our random sets, those of all images before the next of each."""
    draws, size = generators(subject.raw.batch.seeds, "sensitivity-n"), subject.maps[0].size
    for _, draw in zip(range(_SETS * len(draws)), cycle(draws), strict=False):
        yield torch.randperm(size, generator=draw).argsort()[:_PIXELS].numpy()


def _correlation(subject: Subject) -> float:
    grey = subject.grey()
    ours = statistics(SensitivityN(sizes=str(_PIXELS), subsets=_SETS), grey.explained, "pearson")
    with patch("numpy.random.choice", side_effect=_sets(grey)):
        return furthest(ours, faithfulness(grey, _SETS, perturb_baseline=0.0))


def sensitivities(subject: Subject, step: int) -> Values:
    """Quantus's Sensitivity-N: one correlation a step, over images."""
    from quantus import SensitivityN as Theirs

    metric = Theirs(features_in_step=step, disable_warnings=True, return_aggregate=False)
    found: Values = np.asarray(metric(**subject.scored))
    return found


def _sensitivity_as_it_comes(subject: Subject) -> float:
    return float(np.nanmean(sensitivities(subject, 1792)))


def input_gradient(model: nn.Module, inputs: object, targets: object, **_: object) -> Values:
    """Pixel maps (N, 1, H, W) of input times gradient, as Quantus asks for them."""
    x, target = torch.as_tensor(inputs), torch.as_tensor(targets)
    found: Values = (x * input_gradients(model, x, target)).sum(1, keepdim=True).numpy()
    return found


def _drawn(net: nn.Module, names: Sequence[str]) -> nn.Module:
    """A copy with some layers drawn anew, as Quantus draws them."""
    other = deepcopy(net)
    for name in names:
        torch.manual_seed(_SEED)
        other.get_submodule(name).reset_parameters()  # type: ignore[operator]
    return other


def randomisable(subject: Subject) -> Subject:
    """The same with maps of input times gradient, and with Quantus's random networks."""

    def explaining(net: nn.Module) -> Explain:
        return lambda x, target, _: torch.from_numpy(input_gradient(net, x, target))

    names = tuple(name for name, part in subject.net.named_modules() if hasattr(part, "reset_parameters"))
    network = Network(
        classify=classifier(subject.net),
        explain=explaining(subject.net),
        layers=lambda: names[::-1],
        randomised=lambda layers, _: explaining(_drawn(subject.net, layers)),
        black=subject.raw.network.black,
        std=subject.raw.network.std,
    )
    explained = replace(subject.raw, network=network)
    relevance = torch.from_numpy(input_gradient(subject.net, subject.x, subject.y))
    explained = replace(explained, relevance=relevance)
    return Subject(subject.net, explained, explained)


def randomised(subject: Subject, **given: Any) -> Any:
    """Quantus's similarity to the maps of each random network; with an average, one number an image."""
    from quantus import MPRT

    return MPRT(disable_warnings=True, **given)(**subject.scored, explain_func=input_gradient)


def _plain(subject: Subject) -> Values:
    """Its rank correlations (N, L) with the maps of the random networks."""
    found = randomised(subject, abs=False, normalise=False)
    steps: Values = np.array([values for name, values in found.items() if name != "original"]).T
    return steps


def _mprt(subject: Subject) -> float:
    subject = randomisable(subject.head(2))
    return furthest(Randomisation()(subject.explained)["spearman"], _plain(subject))


def _mprt_as_it_comes(subject: Subject) -> float:
    return float(np.mean(randomised(randomisable(subject.head(2)), return_average_correlation=True)))


def _usual(variant: str, images: int) -> Callable[[Subject], float]:
    return lambda subject: mean(Randomisation(), variant)(randomisable(subject.head(images)))


def _efficient(subject: Subject, **bins: int) -> float:
    """Quantus's rise (N,) of the entropy, image by image."""
    from quantus import EfficientMPRT

    metric = EfficientMPRT(complexity_func_kwargs=bins, disable_warnings=True)
    (found,) = metric(**subject.scored, explain_func=input_gradient)
    return float(found)


def _emprt(subject: Subject) -> float:
    one = randomisable(subject.head(1))
    bins = freedman_diaconis(one.explained.pixels.flatten())
    ours = statistics(Randomisation(layers=1), one.explained, "emprt")
    return furthest(ours, [_efficient(one, n_bins=bins)])


def _pairs(subject: Subject) -> tuple[Tensor, Tensor]:
    """Maps (N, H, W) between -1 and 1 of the intact network and of a random one."""
    shown = randomisable(subject.head(2)).explained
    other = shown.network.randomised(shown.network.layers()[:1], "keep")(shown.batch.x, shown.target, shown.batch.seeds)
    intact, random = (maps / maps.abs().amax((1, 2), keepdim=True) for maps in (shown.pixels, other.double().sum(1)))
    return intact, random


def _ssim(subject: Subject) -> float:
    from skimage.metrics import structural_similarity

    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2.0}
    pairs = _pairs(subject)
    theirs = [structural_similarity(a.numpy(), b.numpy(), **window) for a, b in zip(*pairs, strict=True)]
    return furthest(ssim(*pairs), theirs)


def _ssim_as_it_comes(subject: Subject) -> float:
    from quantus.functions.similarity_func import ssim as flat

    return float(np.mean(flat(*(maps.flatten(1).numpy() for maps in _pairs(subject)), batched=True)))


COUNTERPARTS = (
    Counterpart(
        ours="infidelity, square and gaussian",
        library="captum",
        theirs="infidelity",
        settings="our perturbations",
        differs="Has no perturbation of its own: the caller draws I, and says whether R is slopes or shares.",
        apart=_captum,
    ),
    Counterpart(
        ours="infidelity(perturbation=gaussian)",
        library="quantus",
        theirs="Infidelity",
        settings="a function that ignores which patch is meant and adds our noise",
        differs="Departs from Yeh et al.: no perturbation is random. Patches of 4 × 4 are erased row by row, "
        "none being put back, and all of it is repeated ten times with the same result. R is always "
        "taken for slopes. Given here with patches of 56.",
        apart=_quantus,
        usual=mean(Infidelity(samples=SAMPLES), "infidelity"),
        theirs_usual=_infidelity_as_it_comes,
    ),
    Counterpart(
        ours=f"sensitivity_n(sizes={_PIXELS}, subsets={_SETS})",
        library="quantus",
        theirs="FaithfulnessCorrelation",
        settings="grey photographs, our random sets, baseline 0, abs and normalise off",
        differs="Sets of channel values, not of pixels; 'black' is the least value in any channel. One n, under"
        " the name of Bhatt et al.",
        apart=_correlation,
        usual=mean(SensitivityN(sizes=str(_PIXELS), subsets=_SETS), "pearson"),
        theirs_usual=lambda subject: float(np.nanmean(faithfulness(subject, _SETS))),
    ),
    Counterpart(
        ours="sensitivity_n",
        library="quantus",
        theirs="SensitivityN",
        settings="",
        differs="Departs from Ancona et al.: no random sets, but channel values in descending order, erased "
        "step after step; the relevance of each step alone is set against the drop of all steps so far;"
        " and the correlation is over images, those of the first batch, not over sets of one image.",
        apart=None,
        usual=lambda subject: mean(SensitivityN(subsets=_SETS), "pearson")(subject.head(2)),
        theirs_usual=_sensitivity_as_it_comes,
    ),
    Counterpart(
        ours="randomisation, spearman",
        library="quantus",
        theirs="MPRT",
        settings="the same random networks, abs and normalise off",
        differs="Magnitudes by default, which hides a change of sign; the intact network, at 1, is part of the "
        "mean; every layer is drawn with one seed, which is left in the global generator; what has no "
        "`reset_parameters` stays trained.",
        apart=_mprt,
        usual=_usual("spearman", 2),
        theirs_usual=_mprt_as_it_comes,
    ),
    Counterpart(
        ours="randomisation, emprt",
        library="quantus",
        theirs="EfficientMPRT",
        settings="the same random network, our number of bins",
        differs="100 bins unless a rule is named; its Freedman-Diaconis rule takes the number of an array's "
        "axes for that of its values.",
        apart=_emprt,
        usual=_usual("emprt", 1),
        theirs_usual=lambda subject: _efficient(randomisable(subject.head(1))),
    ),
    Counterpart(
        ours="randomisation, ssim",
        library="quantus",
        theirs="ssim",
        settings="scikit-image, which it calls, with the window of Wang et al. 2004 on maps of two dimensions",
        differs="Maps are flattened first: windows of 7 pixels of a row that runs on into the next.",
        apart=_ssim,
        usual=lambda subject: float(ssim(*_pairs(subject)).mean()),
        theirs_usual=_ssim_as_it_comes,
    ),
)

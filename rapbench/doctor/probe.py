"""What a run will cost, from explaining and scoring one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rapbench.core.types import Explained
from rapbench.methods.arithmetic import Arithmetic
from rapbench.results.store import Block
from rapbench.run.engine import Clock, work
from rapbench.run.explainer import Explainer
from rapbench.run.plan import Experiment, Study, Task
from rapbench.run.reading import read

_PROBED = 4
"""Images explained; one of them is scored."""
_STUDIED = 12
"""Images that a study is probed on."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one stage of a run costs.

    Attributes:
        stage: 'reading', 'classifying', 'explaining by METHOD' or 'scoring by METRIC'.
        forwards: its time for an image in forward passes of one image.
        images: how often it is still to be done.
        seconds: its whole time.
    """

    stage: str
    forwards: float
    images: int
    seconds: float


def probe(experiment: Experiment, tasks: list[Task]) -> list[Cost]:
    """The cost of every stage of the tasks, extrapolated from a few images; nothing is stored."""
    if not tasks:
        return []
    if experiment.study:
        return [_cost_of_study(experiment, experiment.study.thing, tasks)]
    explainer, clock = Explainer(experiment), Clock(experiment.device)
    counts = work(experiment, tasks)
    with torch.no_grad():
        with clock("reading"):
            loaded = next(read(experiment, [Block(0, min(_PROBED, experiment.limit))]))
        clean = explainer.classified(loaded)  # once to warm up
        if clean is None:
            return []
        with clock("classifying"):
            explainer.classified(loaded)
        for method in experiment.methods:
            with clock(f"explaining by {method.label}"):
                explained = explainer.explained(method, clean)
        noisy = _with_noise(explained.head(1))
        for metric in experiment.metrics:
            with clock(f"scoring by {metric.label}"):
                metric.thing(noisy)
    num = {stage: 1 if stage.startswith("scoring") else len(loaded.samples) for stage in clock.seconds}
    each = {stage: seconds / num[stage] for stage, seconds in clock.seconds.items()}
    return [
        Cost(stage=stage, forwards=each[stage] / each["classifying"], images=n, seconds=each[stage] * n)
        for stage, n in counts.items()
        if n
    ]


def _with_noise(explained: Explained) -> Explained:
    """A map that every metric scores, whatever the last method's is: a constant one costs perturbation nothing."""
    noise = torch.randn(explained.relevance.shape, generator=torch.Generator().manual_seed(0))
    return replace(explained, relevance=noise.to(explained.relevance))


def _cost_of_study(experiment: Experiment, study: Study, tasks: list[Task]) -> Cost:
    """From its first block on a few images, one of which is also classified by itself."""
    few = replace(experiment, order=experiment.order[:_STUDIED])
    module = experiment.classifier.module.to(experiment.device)
    sample = experiment.dataset[experiment.order[0]].image.unsqueeze(0).to(experiment.device)
    x, clock = experiment.classifier.normalised(sample), Clock(experiment.device)
    with torch.no_grad():
        module(x)
        with clock("classifying"):
            module(x)
        with clock("measuring"):
            study.rows(few, tasks[0].block, lambda _: None)
    each = clock.seconds["measuring"] / study.num_read(few)
    images = sum(experiment.num_images(task) for task in tasks)
    forwards = each / clock.seconds["classifying"]
    return Cost(stage=f"measuring {study.title}", forwards=forwards, images=images, seconds=each * images)


@torch.no_grad()
def residuals(experiment: Experiment) -> Mapping[str, float]:
    """How far a map of the first image is from that in float64, for methods that need more than the run's precision.

    Σ|a - b| / Σ|b| by method. What it leaves open is decided by rounding: by the batch size, for example.
    """
    methods = [m for m in experiment.methods if experiment.wanted(m) != "fp32"]
    if experiment.spec.precision in {"auto", "fp64"} or not methods:
        return {}
    explainer = Explainer(experiment)
    clean = explainer.classified(next(read(experiment, [Block(0, 1)])))
    if clean is None:
        return {}
    batch = (clean.batch.x, clean.target, torch.zeros(1, dtype=torch.int64))
    return {
        m.label: _distance(*(explainer.relevance(m, explainer.subject(m, clean), *batch, arithmetic=a) for a in _BOTH))
        for m in methods
    }


_BOTH: tuple[Arithmetic, Arithmetic] = ("fp32", "fp64")


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().sum() / expected.abs().sum())

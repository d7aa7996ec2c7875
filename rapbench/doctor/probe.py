"""What a run will cost, from a few images."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from rapbench.core.errors import BadConfig, last_line
from rapbench.core.named import Named
from rapbench.core.stages import stage
from rapbench.core.types import Explained, Method
from rapbench.methods.arithmetic import Arithmetic
from rapbench.methods.control import Random
from rapbench.results.store import Block
from rapbench.run.engine import Clock, work
from rapbench.run.explainer import Explainer
from rapbench.run.plan import Experiment, Study, Task
from rapbench.run.reading import read

T = TypeVar("T")
_PROBED = 4
"""Images explained where a network is quick; one of a slow one. One image is scored."""
_SLOW = 0.05
"""Seconds a forward pass of an image from which on a network is slow."""
_LONG = 0.5
"""Seconds from which on one measurement is enough: warming up is no part of it."""
_BUDGET = 10.0
"""Seconds that all measurements may take. One is stopped at a third of what is left: it takes at least that long."""
_SHORTEST = 0.2
"""Seconds that a measurement may always take."""
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
        at_least: whether it was stopped before it was over, so that it costs more.
    """

    stage: str
    forwards: float
    images: int
    seconds: float
    at_least: bool = False


@dataclass
class Measured:
    """Seconds an image by stage and network, so that runs of one network are timed once; and what was stopped."""

    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    stopped: set[tuple[str, str]] = field(default_factory=set)
    left: float = _BUDGET

    def time(self, key: tuple[str, str], images: int, call: Callable[[], T]) -> T | None:
        """Times a call on so many images, a second one where the first is short; what it gave, if it was not stopped.

        Raises:
            BadConfig: it raises; the message names the stage.
        """
        if key in self.seconds:
            return None
        limit = max(_SHORTEST, self.left / 3)
        try:
            took, found = _timed(key[0], call, limit)
            again = _timed(key[0], call, limit)[0] if took < min(_LONG, limit) else took
        except Exception as error:
            raise BadConfig(f"{key[0]}: {last_line(error)}") from error
        self.left -= took + again
        self.seconds[key] = min(took, again) / images
        if took >= limit:
            self.stopped.add(key)
        return found


class _TooLong(BaseException):
    """A stage is stopped; no method takes it for an error of its own."""


def _timed(name: str, call: Callable[[], T], limit: float) -> tuple[float, T | None]:
    """Seconds of a call and what it gave, or the seconds after which it was stopped."""

    def stop(*_: object) -> None:
        raise _TooLong

    before, start = signal.signal(signal.SIGALRM, stop), time.perf_counter()
    found = None
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        with suppress(_TooLong), stage(name):
            found = call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return time.perf_counter() - start, found


def probe(experiment: Experiment, tasks: list[Task], measured: Measured | None = None) -> list[Cost]:
    """The cost of every stage of the tasks, extrapolated from a few images; nothing is stored."""
    if not tasks:
        return []
    if experiment.study:
        return [_cost_of_study(experiment, experiment.study.thing, tasks)]
    spec, measured = experiment.spec, measured or Measured()
    ways = (spec.precision, spec.scoring_precision, spec.compile_scoring, spec.backend)
    network = " ".join(map(str, (experiment.classifier.digest, *ways)))
    with torch.no_grad():
        _measure(experiment, measured, network)
    each = {stage: seconds for (stage, of), seconds in measured.seconds.items() if of == network}
    if "classifying" not in each:  # none of the images that were looked at can be read
        return []
    return [
        Cost(
            stage=stage,
            forwards=each[stage] / each["classifying"],
            images=n,
            seconds=each[stage] * n,
            at_least=(stage, network) in measured.stopped,
        )
        for stage, n in work(experiment, tasks).items()
        if n
    ]


def _measure(experiment: Experiment, measured: Measured, network: str) -> None:
    """Times what has not been timed of a network."""
    explainer, start = Explainer(experiment), time.perf_counter()
    loaded = next(read(experiment, [Block(0, min(_PROBED, experiment.limit))]))
    measured.seconds.setdefault(("reading", network), (time.perf_counter() - start) / _PROBED)
    if not loaded.samples:
        return
    clean = explainer.classified(loaded)  # once to warm up
    measured.time(("classifying", network), len(loaded.samples), lambda: explainer.classified(loaded))
    if measured.seconds["classifying", network] > _SLOW:
        loaded = replace(loaded, samples=loaded.samples[:1])
        clean = explainer.classified(loaded)
    assert clean is not None
    explained = None
    for method in experiment.methods:
        explainer.subject(method, clean)  # traced once in a run, not for every image
        explain, key = partial(explainer.explained, method, clean), (f"explaining by {method.label}", network)
        explained = measured.time(key, len(loaded.samples), explain) or explained
    noisy = _with_noise((explained or explainer.explained(_CONTROL, clean)).head(1))
    for metric in experiment.metrics:
        measured.time((f"scoring by {metric.label}", network), 1, partial(metric.thing, noisy))


_CONTROL: Named[Method] = Named("random", Random())
"""What gives a map to score where no other was explained in time."""


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

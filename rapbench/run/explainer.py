"""A network on its device: classifies and explains blocks of images in batches that fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from rapbench.core.abilities import Complete, Identified
from rapbench.core.allocator import keep_freed_memory
from rapbench.core.errors import BadConfig
from rapbench.core.named import Named
from rapbench.core.seeds import image_seed
from rapbench.core.types import Batch, Disconnection, Explain, Explained, Method, Network, Sample, Statistics
from rapbench.methods.arithmetic import Arithmetic, explained, explains_graph, is_ours
from rapbench.relprop.graph import Graph
from rapbench.relprop.tracing.checked import verify
from rapbench.relprop.tracing.trace import trace
from rapbench.run.batches import Batches
from rapbench.run.disconnected import difull, dipart
from rapbench.run.lent import Lent, leaving_no_trace
from rapbench.run.plan import Experiment
from rapbench.run.randomised import layers, randomised
from rapbench.run.reading import Loaded
from rapbench.run.scorer import Scorer, set_products
from rapbench.run.target import LABEL, PREDICTED

_BATCH = {"cpu": (8, 8), "cuda": (32, 256)}
"""Images a batch when explaining and when only classifying: on a CPU, what stays in its caches."""


@dataclass(frozen=True)
class Classified:
    """A block after the one clean forward pass."""

    batch: Batch
    logits: Tensor
    target: Tensor
    scored: Tensor | None
    """Logits in the arithmetic of scoring, where that is another than that of explaining."""

    @property
    def predicted(self) -> Tensor:
        """The top class (N,)."""
        return self.logits.argmax(1)


class Explainer:
    """The network of an experiment, ready to explain."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        spec, device = experiment.spec, experiment.device
        if device.type == "cpu":
            keep_freed_memory()
        explaining, classifying = _BATCH[device.type]
        self.explaining, batches = Batches(spec.batch_size or explaining), Batches(spec.batch_size or classifying)
        self.module = experiment.classifier.module.to(device)
        own, compiled = experiment.scoring_precision, spec.compile_scoring
        apart = own or compiled
        self.score = Scorer(deepcopy(self.module), own or spec.held_in, batches, compiled=compiled) if apart else None
        self.classify = Scorer(self.module, spec.held_in, batches)
        self.dtype, self.wide = self.classify.dtype, self.classify.wide
        self.graph: Graph | None = None
        self._lent: Lent | None = None

    def classified(self, loaded: Loaded) -> Classified | None:
        """The block's images classified; None where none could be read.

        Raises:
            BadConfig: they are larger than the network's usual input, and it takes no others.
        """
        if not loaded.samples:
            return None
        batch = self._batch(loaded.samples)
        try:
            logits = self.classify(batch.x)
        except (RuntimeError, ValueError, AssertionError) as error:
            side, usual = batch.x.shape[2], self.experiment.classifier.size
            if side == usual or isinstance(error, torch.OutOfMemoryError):
                raise
            raise BadConfig(
                f"{self.experiment.classifier.name} takes images of {usual} pixels a side alone, and these have {side}"
            ) from error
        return Classified(batch, logits, self._target(batch, logits), self.score(batch.x) if self.score else None)

    def _target(self, batch: Batch, logits: Tensor) -> Tensor:
        """The classes (N,) to explain."""
        if self.experiment.target == LABEL:
            assert batch.label is not None, "checked when the spec was resolved"
            return batch.label
        predicted = logits.argmax(1)
        if self.experiment.target == PREDICTED:
            return predicted
        return torch.full_like(predicted, int(self.experiment.target))

    def explained(self, method: Named[Method], clean: Classified) -> Explained:
        """The block's images explained for their target.

        A logit that is not finite has no map: of such images it is not a number.
        """
        given, batch = method.thing if isinstance(method.thing, Identified) else None, clean.batch
        explain = self._explaining(method, clean)
        relevance = self._of(given, batch) if given else explain(batch.x, clean.target, batch.seeds)
        explainable = clean.logits.gather(1, clean.target.unsqueeze(1)).isfinite().view(-1, 1, 1, 1)
        return Explained(
            batch=batch,
            network=Network(
                classify=self.score or self.classify,
                explain=explain,
                layers=lambda: tuple(self._layers),
                randomised=partial(self._explaining_randomised, method, clean),
                disconnected=partial(self._explaining_disconnected, method, clean),
                black=self.experiment.classifier.black(),
                std=self.experiment.classifier.std,
            ),
            relevance=relevance.masked_fill(~explainable, torch.nan),
            logits=clean.logits,
            scored=clean.scored,
            target=clean.target,
            total=self._total(method.thing, clean),
        )

    def _explaining(self, method: Named[Method], clean: Classified) -> Explain:
        """Explains any number of inputs by a method."""
        subject = self.module if isinstance(method.thing, Identified) else self.subject(method, clean)
        arithmetic = self.experiment.arithmetic(method)

        def explain(x: Tensor, target: Tensor, seeds: Tensor) -> Tensor:
            set_products(self.experiment.spec.held_in)
            with leaving_no_trace(self.experiment.device), self._lending():
                return self.explaining.map(
                    lambda *part: self.relevance(method, subject, *part, arithmetic=arithmetic), *(x, target, seeds)
                )

        return explain

    @cached_property
    def _layers(self) -> Mapping[str, tuple[str, ...]]:
        return layers(self.module, self.experiment.classifier.example())

    def _explaining_randomised(
        self, method: Named[Method], clean: Classified, names: Sequence[str], statistics: Statistics
    ) -> Explain:
        """The same on a copy of the network in which some layers have parameters that are drawn anew."""
        spec, parts = self.experiment.spec, [part for name in names for part in self._layers[name]]
        other = copy(self)
        other.module = randomised(self.module, parts, seed=spec.seed, statistics=statistics)
        other.classify = Scorer(other.module, spec.held_in, self.classify.batches)
        other.graph = other._lent = None
        return other._explaining(method, replace(clean, logits=other.classify(clean.batch.x[:2])))

    def _explaining_disconnected(
        self, method: Named[Method], clean: Classified, disconnection: Disconnection, n: int, cell: int
    ) -> Explain:
        """The same on the network whose head classifies one cell of grids of n x n pictures."""
        x = clean.batch.x[:2].to(self.dtype)
        picture = x[:, :, : x.shape[2] // n, : x.shape[3] // n]
        alone = self._traced(self.module, picture, self.classify(picture))
        if disconnection == "difull":
            graph = difull(alone, picture, n, cell)
        else:
            graph = dipart(alone, self._traced(self.module, x, clean.logits[:2]), picture, n, cell)
        graph.add_module("network", self.module)  # code from outside asks a network for its parameters
        other = copy(self)
        other.module = other.graph = graph
        other._lent = None
        with torch.no_grad():
            return other._explaining(method, replace(clean, logits=graph(x).to(self.wide)))

    def _of(self, method: Identified, batch: Batch) -> Tensor:
        """The maps of images that a method knows by name."""
        with leaving_no_trace(self.experiment.device):
            maps = method.of(batch.ids, self.experiment.dataset.ids, batch.x.clone())
        _check_maps(maps, batch.x)
        return maps.to(self.wide)

    def _batch(self, samples: Sequence[Sample]) -> Batch:
        device, classifier = self.experiment.device, self.experiment.classifier
        images = torch.stack([sample.image for sample in samples]).to(device)

        def here(annotations: Iterable[Tensor | None]) -> tuple[Tensor | None, ...]:
            return tuple(None if one is None else one.to(device) for one in annotations)

        return Batch(
            ids=tuple(sample.id for sample in samples),
            x=classifier.normalised(images).contiguous(memory_format=self.classify.layout),
            boxes=here(sample.boxes for sample in samples),
            box_classes=here(sample.box_classes for sample in samples),
            mask=here(sample.mask for sample in samples),
            cells=here(sample.cells if self.experiment.has_labels else None for sample in samples),
            label=self._labels(samples) if self.experiment.has_labels else None,
            seeds=torch.tensor([image_seed(self.experiment.spec.seed, sample.id) for sample in samples]),
        )

    def relevance(
        self,
        method: Named[Method],
        subject: nn.Module,
        x: Tensor,
        target: Tensor,
        seeds: Tensor,
        *,
        arithmetic: Arithmetic,
    ) -> Tensor:
        """A method's maps (N, C, H, W) of its subject, float32 or float64, of a batch that fits.

        Raises:
            BadConfig: it returned something else.
        """
        x, target, seeds = x.to(self.dtype, copy=True), target.clone(), seeds.clone()
        if isinstance(subject, Graph):
            maps = explained(method.thing, subject, x, target, seeds=seeds, arithmetic=arithmetic)
        else:
            maps = method.thing(subject, x, target, seeds=seeds)
        _check_maps(maps, x)
        return maps.detach().to(self.wide)

    def subject(self, method: Named[Method], clean: Classified) -> nn.Module:
        """What a method explains: the network, or the traced one, compared with it on the first batch.

        Methods of this project share one; what comes from outside has a copy.
        """
        holder = self if is_ours(method.name, self.experiment.spec.backend) else self._lend()
        if not explains_graph(method.thing, method.name, self.experiment.spec.backend):
            return holder.module
        if holder.graph is None:
            holder.graph = self._traced(holder.module, clean.batch.x[:2].to(self.dtype), clean.logits[:2])
        return holder.graph

    def _traced(self, module: nn.Module, x: Tensor, logits: Tensor) -> Graph:
        """A network's graph for images like some, compared with what it says of these."""
        graph = trace(module, x)
        if self.experiment.spec.check == "on":
            verify(graph, module, x, logits.to(self.dtype))
        return graph

    def _lend(self) -> Lent:
        if self._lent is None:
            self._lent = Lent(self.module)
        return self._lent

    @contextmanager
    def _lending(self) -> Iterator[None]:
        """Within it the copy of the network is in use; it is kept only if it comes back as it was.

        Raises:
            BadConfig: it was changed.
        """
        lent, self._lent = self._lent, None
        yield
        if lent and (change := lent.change()):
            raise BadConfig(
                f"changes the network ({change}): a method leaves it as it is, or works on a copy of its own"
            )
        self._lent = lent

    def _labels(self, samples: Sequence[Sample]) -> Tensor:
        labels = [-1 if sample.label is None else sample.label for sample in samples]
        return torch.tensor(labels, device=self.experiment.device)

    def _total(self, method: Method, clean: Classified) -> Tensor | None:
        """What each map should sum to, where the method says."""
        x = clean.batch.x.clone()

        def logits(asked: Tensor) -> Tensor:
            return clean.logits.clone() if asked is x else self.classify(asked)

        return method.total(logits, x, clean.target.clone()) if isinstance(method, Complete) else None


def _check_maps(maps: object, x: Tensor) -> None:
    """Whether a method returned what it is to return of images (N, C, H, W)."""
    if isinstance(maps, Tensor) and maps.shape == x.shape and maps.is_floating_point() and maps.device == x.device:
        return
    found = f"{maps.dtype} {tuple(maps.shape)} on {maps.device}" if isinstance(maps, Tensor) else type(maps).__name__
    raise BadConfig(f"returns {found}: relevance is floating point of the images' shape {tuple(x.shape)} on {x.device}")

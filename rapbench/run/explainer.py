"""A network on its device: classifies and explains blocks of images in batches that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rapbench.core.allocator import keep_freed_memory
from rapbench.core.named import Named
from rapbench.core.seeds import image_seed
from rapbench.core.types import Batch, Complete, Explained, Method, Network, Sample
from rapbench.methods import METHODS
from rapbench.relprop.checked import verify
from rapbench.relprop.graph import Graph
from rapbench.relprop.trace import trace
from rapbench.run.batches import Batches
from rapbench.run.plan import Experiment
from rapbench.run.reading import Loaded

_DTYPES = {"bf16": torch.bfloat16, "fp64": torch.float64}
_BATCH = {"cpu": (8, 8), "cuda": (32, 256)}
"""Images a batch when explaining and when only classifying: on a CPU, what stays in its caches."""


@dataclass(frozen=True)
class Classified:
    """A block after the one clean forward pass."""

    batch: Batch
    logits: Tensor
    target: Tensor


class Explainer:
    """The network of an experiment, ready to explain.

    Args:
        experiment: what is run.
        check: compare the traced network with the network itself on the first image.
    """

    def __init__(self, experiment: Experiment, *, check: bool = True) -> None:
        self.experiment, self.check = experiment, check
        spec, device = experiment.spec, experiment.device
        if device.type == "cpu":
            keep_freed_memory()
        _set_precision(spec.precision)
        self.dtype = _DTYPES.get(spec.precision, torch.float32)
        self.wide = torch.promote_types(self.dtype, torch.float32)
        self.module = experiment.classifier.module.to(device, self.dtype).to(memory_format=torch.channels_last)
        self.graph: Graph | None = None
        explaining, classifying = _BATCH[device.type]
        self.explaining = Batches(spec.batch_size or explaining)
        self.classifying = Batches(spec.batch_size or classifying)

    def classify(self, x: Tensor) -> Tensor:
        """Logits (M, K), float32 or float64, of any number of inputs, without gradients."""
        return self.classifying.map(lambda part: self.module(part.to(self.dtype)).to(self.wide), x)

    def classified(self, loaded: Loaded) -> Classified | None:
        """The block's images classified; None where none could be read."""
        if not loaded.samples:
            return None
        batch = self._batch(loaded.samples)
        logits = self.classify(batch.x)
        return Classified(batch, logits, logits.argmax(1))

    def explained(self, method: Named[Method], clean: Classified) -> Explained:
        """The block's images explained for the predicted class."""
        traced = self._checked(clean)
        own = self.experiment.spec.backend == "native" and method.name in METHODS
        model = traced if own else self.module

        def explain(x: Tensor, target: Tensor, seeds: Tensor) -> Tensor:
            return self.explaining.map(
                lambda *part: method.thing(model, part[0].to(self.dtype), part[1], seeds=part[2]).to(self.wide),
                *(x, target, seeds),
            )

        return Explained(
            batch=clean.batch,
            network=Network(classify=self.classify, explain=explain, black=self.experiment.classifier.black()),
            relevance=explain(clean.batch.x, clean.target, clean.batch.seeds),
            logits=clean.logits,
            target=clean.target,
            total=self._total(method.thing, clean),
        )

    def _batch(self, samples: Sequence[Sample]) -> Batch:
        device, classifier = self.experiment.device, self.experiment.classifier
        images = torch.stack([sample.image for sample in samples]).to(device)
        return Batch(
            ids=tuple(sample.id for sample in samples),
            x=classifier.normalised(images).contiguous(memory_format=torch.channels_last),
            boxes=tuple(None if s.boxes is None else s.boxes.to(device) for s in samples),
            mask=tuple(None if s.mask is None else s.mask.to(device) for s in samples),
            label=self._labels(samples) if self.experiment.has_labels else None,
            seeds=torch.tensor([image_seed(self.experiment.spec.seed, sample.id) for sample in samples]),
        )

    def _checked(self, clean: Classified) -> Graph:
        """The traced network, which is compared with the network on the first batch."""
        if self.graph is None:
            x = clean.batch.x[:2].to(self.dtype)
            self.graph = trace(self.module, x)
            if self.check:
                verify(self.graph, self.module, x, clean.logits[:2].to(self.dtype))
        return self.graph

    def _labels(self, samples: Sequence[Sample]) -> Tensor:
        labels = [-1 if sample.label is None else sample.label for sample in samples]
        return torch.tensor(labels, device=self.experiment.device)

    def _total(self, method: Method, clean: Classified) -> Tensor | None:
        """What each map should sum to, where the method says."""

        def logits(x: Tensor) -> Tensor:
            return clean.logits if x is clean.batch.x else self.classify(x)

        return method.total(logits, clean.batch.x, clean.target) if isinstance(method, Complete) else None


def _set_precision(precision: str) -> None:
    """float32 products are exact unless tf32 is asked for: ties and signs near zero depend on it."""
    allow = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow

"""The quality of signal estimators, unit by unit: fitted on some images, read out on others, scored on yet others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rapbench import __version__
from rapbench.core.errors import BadConfig
from rapbench.core.seeds import image_seed
from rapbench.core.types import Classifier, Dataset
from rapbench.datasets.scenes import Scenes
from rapbench.relprop.layers import Convolution, Weighted
from rapbench.relprop.moments import Moments, observed
from rapbench.relprop.quality import Correlations, Directions, Samples, Spread, readouts, samples
from rapbench.relprop.signal import normalised, weighted_layers
from rapbench.relprop.trace import trace
from rapbench.run.fit import BATCH, moments
from rapbench.run.plan import Experiment, versions
from rapbench.run.spec import Cell
from rapbench.run.store import Block, Store
from rapbench.run.stream import Images, cut, example, inputs

ESTIMATORS = ("random", "S_w", "S_a", "S_a+-")
"""In the order of the paper's figure. S_x is not among them: it leaves no distractor."""
FOLDER = "signal_quality"
"""Of the store within a results folder, and the metric's name in it."""
_FEWEST = 6
Progress = Callable[[int], None]


class _Sink(Protocol):
    def add(self, found: Samples) -> None: ...


@dataclass(frozen=True)
class Quality:
    """ρ(S) of every layer's units.

    Attributes:
        fitting: images the estimators are fitted to.
        reading: images on which v is found, the best readout of the output from the distractor.
        scoring: images on which the correlation is taken.
        positions: samples an image gives a convolution when reading and scoring; fitting uses all.
        units: most units of a layer that are scored, drawn by the seed.
        seed: of units, positions and random directions.

    Source: Kindermans et al. 2018, Eq. 1 and Figure 3.
    """

    fitting: Images
    reading: Images
    scoring: Images
    positions: int = 64
    units: int = 64
    seed: int = 0

    @torch.no_grad()
    def measure(self, classifier: Classifier, *, device: torch.device, progress: Progress) -> pd.DataFrame:
        """Rows of layer, kind, inputs, unit, estimator, rho.

        Raises:
            UnsupportedLayer: the network has batch norm that cannot be folded, or additions.
        """
        sums = moments(classifier, self.fitting, device=device, progress=progress)
        units = {name: self._units(name, m) for name, m in sums.items()}
        directions = {name: self._directions(name, m, units[name]) for name, m in sums.items()}
        spreads: dict[str, Spread] = {}
        for name, m in sums.items():
            shape = directions[name]["S_a"].plus.shape
            spreads[name] = Spread(shape[0], shape[2], shape[1], m.layer.weight.device)
        self._sample(classifier, self.reading, units, spreads, device, progress)
        correlations: dict[str, Correlations] = {}
        for name in sums:
            correlations[name] = Correlations(directions[name], readouts(spreads.pop(name), directions[name]))
        self._sample(classifier, self.scoring, units, correlations, device, progress)
        frames = [_rows(m.layer, units[name], correlations[name].rho()) for name, m in sums.items()]
        return pd.concat(frames, ignore_index=True)

    def _units(self, name: str, m: Moments) -> Tensor:
        """Which units of each group are scored, (U,), the same places in every group."""
        number = len(m.layer.weight) // m.groups
        order = torch.randperm(number, generator=self._generator(f"units of {name}"))
        return order[: max(1, self.units // m.groups)].sort()[0]

    def _directions(self, name: str, m: Moments, units: Tensor) -> dict[str, Directions]:
        weight = m.layer.weight.double()
        noise = torch.randn(weight.shape, generator=self._generator(f"directions of {name}"), dtype=torch.float64)

        def direction(u: Tensor) -> Tensor:
            return normalised(u, weight).flatten(1).view(m.groups, -1, weight[0].numel())[:, units]

        random, own, a = (direction(u) for u in (noise.to(weight), weight, m.covariance("all")))
        plus, minus = direction(m.covariance("plus")), direction(m.covariance("minus"))
        pairs = ((random, random), (own, own), (a, a), (plus, minus))
        return {key: Directions(*pair) for key, pair in zip(ESTIMATORS, pairs, strict=True)}

    def _sample(
        self,
        classifier: Classifier,
        images: Images,
        units: Mapping[str, Tensor],
        sinks: Mapping[str, _Sink],
        device: torch.device,
        progress: Progress,
    ) -> None:
        """Shows every layer's sink the samples of some images."""
        generator = self._generator(f"positions of {images.name} from {images.start}")

        def see(layer: Weighted, x: Tensor, y: Tensor) -> None:
            sinks[layer.name].add(samples(layer, x, y, self.positions, generator).of(units[layer.name]))

        graph = trace(classifier.module, example(classifier)).folded()
        weighted_layers(graph, "signal quality")
        network = observed(graph, see)
        batches = cut(images.start, images.stop, BATCH[device.type])
        for positions, x in zip(batches, inputs(classifier, images.dataset, batches, device), strict=True):
            if len(x):
                network(x)
            progress(len(positions))

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(image_seed(self.seed, purpose))


def _rows(layer: Weighted, units: Tensor, rho: Tensor) -> pd.DataFrame:
    """Rows for the values (E, G, U) of one layer."""
    per_group = len(layer.weight) // rho.shape[1]
    numbers = (torch.arange(rho.shape[1]).unsqueeze(1) * per_group + units).flatten()
    found = [
        pd.DataFrame({"unit": numbers.numpy(), "estimator": name, "rho": values.flatten().cpu().numpy()})
        for name, values in zip(ESTIMATORS, rho, strict=True)
    ]
    kind = "convolution" if isinstance(layer, Convolution) else "dense"
    frame = pd.concat(found, ignore_index=True)
    return frame.assign(layer=layer.name, kind=kind, inputs=layer.weight[0].numel())


def thirds(dataset: Dataset, name: str, count: int) -> tuple[Images, Images, Images]:
    """The images that estimators are fitted to, v is read on, and the correlation is taken on; no two share any.

    Of a data set that generates its training images, `count` of these, the next `count`, and as many to evaluate;
    of any other, thirds of its first `count` images.

    Raises:
        BadConfig: fewer than six images.
    """
    if isinstance(dataset, Scenes):
        training, shown = replace(dataset, stream="train"), f"{name}(stream=train)"
        fitting = Images(dataset=training, name=shown, stop=count)
        reading = Images(dataset=training, name=shown, start=count, stop=2 * count)
        return fitting, reading, Images(dataset=replace(dataset, stream="val"), name=name, stop=count)
    if count < _FEWEST:
        raise BadConfig(f"signal quality wants {_FEWEST} images or more, not {count}: three sets are cut from them")
    ends = (0, count // 3, 2 * count // 3, count)
    first, second, third = (Images(dataset=dataset, name=name, start=a, stop=b) for a, b in pairwise(ends))
    return first, second, third


def store(experiment: Experiment, watched: Callable[[int], AbstractContextManager[Progress]]) -> Path:
    """Measures the quality for an experiment's network and images, and writes the rows, unless they are there.

    They are one shard of a cell like any other, in a store of their own: `signal_quality` in the results folder.

    Args:
        experiment: the network and the images.
        watched: number of images to be read -> what is told how many more are.

    Raises:
        UnsupportedLayer: the network has batch norm that cannot be folded, or additions.
        BadConfig: too few images.
    """
    count, seed = len(experiment.order), experiment.spec.seed
    quality = Quality(*thirds(experiment.dataset, experiment.dataset_name, count), seed=seed)
    cell, held = _cell(experiment, quality), Store(experiment.spec.out / FOLDER)
    folder = held.open(cell)
    if not held.shards(cell):
        with watched(
            sum(found.stop - found.start for found in (quality.fitting, quality.reading, quality.scoring))
        ) as step:
            frame = quality.measure(experiment.classifier, device=experiment.device, progress=step)
        columns = {str(key): frame[key].to_numpy() for key in frame}
        held.write(cell, Block(0, len(frame)), {"index": np.arange(len(frame)), **columns}, [], versions())
    return folder


def _cell(experiment: Experiment, quality: Quality) -> Cell:
    model = experiment.classifier
    sets = {key: getattr(quality, key) for key in ("fitting", "reading", "scoring")}
    images = {key: [found.dataset.fingerprint, found.start, found.stop] for key, found in sets.items()}
    identity = {
        "rapbench": __version__,
        "dataset": {"name": experiment.dataset_name, **images},
        "model": {"name": model.name, "weights": model.weights, "digest": model.digest},
        "method": {"name": "signal_estimators", "parameters": {}, "backend": "native"},
        "metric": {"name": FOLDER, "parameters": {"positions": quality.positions, "units": quality.units}},
        "seed": quality.seed,
        "device": experiment.device.type,
    }
    display = {
        "dataset": experiment.dataset_name,
        "model": model.name,
        "model_title": model.title,
        "weights": model.weights,
        "method": "signal_estimators",
        "method_title": "Signal estimators",
        "backend": "native",
        "metric": FOLDER,
        "signed": True,
    }
    return Cell(identity=identity, display=display, limit=0)

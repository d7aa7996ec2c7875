"""The quality of signal estimators, unit by unit: fitted on some images, read out on others, scored on yet others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pandas as pd
import torch
from torch import Tensor

from rapbench.core.errors import BadConfig
from rapbench.core.ranges import Count
from rapbench.core.seeds import image_seed
from rapbench.core.types import Classifier, Dataset
from rapbench.datasets.scenes import Scenes
from rapbench.methods.signals.directions import normalised, weighted_layers
from rapbench.methods.signals.moments import Moments, observed
from rapbench.methods.signals.quality import Correlations, Directions, Samples, Spread, readouts, samples
from rapbench.relprop.layers import Convolution, Weighted
from rapbench.relprop.tracing.trace import trace
from rapbench.run.fit import BATCH, moments
from rapbench.run.reading import Images, cut, inputs

if TYPE_CHECKING:
    from rapbench.results.store import Block, Columns
    from rapbench.run.plan import Experiment

ESTIMATORS = ("random", "S_w", "S_a", "S_a+-")
"""In the order of the paper's figure. S_x is not among them: it leaves no distractor."""
_FEWEST = 6
Progress = Callable[[int], None]


class _Sink(Protocol):
    def add(self, found: Samples) -> None: ...


@dataclass(frozen=True, kw_only=True)
class SignalQuality:
    """ρ(S) of every layer's units; a position is a convolution or dense layer, in order.

    Attributes:
        positions: samples an image gives a convolution when reading and scoring; fitting uses all.
        units: most units of a layer that are scored, drawn by the seed.

    Source: Kindermans et al. 2018, Eq. 1 and Figure 3.
    """

    title: ClassVar[str] = "Signal estimators"
    signed: ClassVar[bool] = True
    block_size: ClassVar[int] = 8

    positions: Count = 64
    units: Count = 64

    def size(self, experiment: Experiment) -> int:
        return len(_layers(experiment.classifier))

    def rests_on(self, experiment: Experiment) -> Mapping[str, Any]:
        sets = _sets(experiment)
        names = ("fitting", "reading", "scoring")
        ranges = {name: [found.start, found.stop] for name, found in zip(names, sets, strict=True)}
        return {**ranges, "fingerprints": [found.dataset.fingerprint for found in sets]}

    def num_read(self, experiment: Experiment) -> int:
        return sum(found.stop - found.start for found in _sets(experiment))

    def rows(self, experiment: Experiment, block: Block, progress: Progress) -> Columns:
        layers = _layers(experiment.classifier)[block.start : block.stop]
        frame = self.measure(experiment.classifier, _sets(experiment), layers, experiment.spec.seed, progress)
        places = dict(zip(layers, range(block.start, block.stop), strict=True))
        columns = {str(key): frame[key].to_numpy() for key in frame}
        return {"index": frame["layer"].map(places).to_numpy(), **columns}

    @torch.no_grad()
    def measure(
        self,
        classifier: Classifier,
        sets: tuple[Images, Images, Images],
        layers: Sequence[str],
        seed: int,
        progress: Progress,
    ) -> pd.DataFrame:
        """Rows of layer, kind, inputs, unit, estimator, rho.

        Args:
            classifier: the network, on its device.
            sets: the estimators are fitted to the first; on the second v is found, the best readout of the output from
                the distractor; on the third the correlation is taken.
            layers: names of the convolutions and dense layers.
            seed: of units, positions and random directions.
            progress: told how many more images are read.

        Raises:
            UnsupportedLayer: the network has batch norm that cannot be folded, or additions.
        """
        fitting, reading, scoring = sets
        device = next(classifier.module.parameters()).device
        sums = moments(classifier, fitting, device=device, layers=layers, progress=progress)
        drawn = _Draws(seed)
        units = {name: self._units(name, m, drawn) for name, m in sums.items()}
        directions = {name: _directions(name, m, units[name], drawn) for name, m in sums.items()}
        spreads: dict[str, Spread] = {}
        for name, m in sums.items():
            shape = directions[name]["S_a"].plus.shape
            spreads[name] = Spread(shape[0], shape[2], shape[1], m.layer.weight.device)
        self._sample(classifier, reading, units, spreads, drawn, progress)
        correlations: dict[str, Correlations] = {}
        for name in sums:
            correlations[name] = Correlations(directions[name], readouts(spreads.pop(name), directions[name]))
        self._sample(classifier, scoring, units, correlations, drawn, progress)
        frames = [_rows(m.layer, units[name], correlations[name].rho()) for name, m in sums.items()]
        return pd.concat(frames, ignore_index=True)

    def _units(self, name: str, m: Moments, drawn: _Draws) -> Tensor:
        """Which units of each group are scored, (U,), the same places in every group."""
        number = len(m.layer.weight) // m.groups
        order = torch.randperm(number, generator=drawn(f"units of {name}"))
        return order[: max(1, self.units // m.groups)].sort()[0]

    def _sample(
        self,
        classifier: Classifier,
        images: Images,
        units: Mapping[str, Tensor],
        sinks: Mapping[str, _Sink],
        drawn: _Draws,
        progress: Progress,
    ) -> None:
        """Shows every layer's sink the samples of some images."""
        generators = {name: drawn(f"positions of {images.name} from {images.start} in {name}") for name in units}

        def see(layer: Weighted, x: Tensor, y: Tensor) -> None:
            if layer.name in units:
                found = samples(layer, x, y, self.positions, generators[layer.name])
                sinks[layer.name].add(found.of(units[layer.name]))

        network = observed(trace(classifier.module, classifier.example()).folded(), see)
        device = next(classifier.module.parameters()).device
        blocks = cut(images.start, images.stop, BATCH[device.type])
        for block, x in inputs(classifier, images.dataset, blocks, device):
            if len(x):
                network(x)
            progress(block.stop - block.start)


class _Draws:
    """Generators by their purpose: what one draws does not depend on what others do."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(image_seed(self._seed, purpose))


def _layers(classifier: Classifier) -> list[str]:
    return list(weighted_layers(trace(classifier.module, classifier.example()).folded(), "signal quality"))


def _sets(experiment: Experiment) -> tuple[Images, Images, Images]:
    return thirds(experiment.dataset, experiment.dataset_name, len(experiment.order))


def _directions(name: str, m: Moments, units: Tensor, drawn: _Draws) -> dict[str, Directions]:
    weight = m.layer.weight.double()
    noise = torch.randn(weight.shape, generator=drawn(f"directions of {name}"), dtype=torch.float64)

    def direction(u: Tensor) -> Tensor:
        return normalised(u, weight).flatten(1).view(m.groups, -1, weight[0].numel())[:, units]

    random, own, a = (direction(u) for u in (noise.to(weight), weight, m.covariance("all")))
    plus, minus = direction(m.covariance("plus")), direction(m.covariance("minus"))
    pairs = ((random, random), (own, own), (a, a), (plus, minus))
    return {key: Directions(*pair) for key, pair in zip(ESTIMATORS, pairs, strict=True)}


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

"""Randomisation of parameters: does the map change where the network's parameters are drawn anew?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from rapbench.core.errors import BadConfig
from rapbench.core.ranges import Count
from rapbench.core.rows import vectors
from rapbench.core.types import Explained, Need, Statistics, Variant
from rapbench.metrics.draws import noise
from rapbench.metrics.similarity import WINDOW, entropy, freedman_diaconis, spearman_with, ssim
from rapbench.metrics.undefined import FLAWS, flawless, flaws, is_constant, num_non_finite, scattered

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor

    from rapbench.core.types import Explain

_NOISE = 0.1
"""Standard deviation of the noise on a sample, as a share of the image's range."""


_SIMILARITIES: Mapping[str, Callable[[Tensor], Callable[[Tensor], Tensor]]] = {
    "spearman": spearman_with,
    "spearman_abs": lambda intact: _of_magnitudes(spearman_with(intact.abs())),
    "ssim": lambda intact: partial(ssim, intact),
}
"""Of the intact network's maps: how alike others are."""


def _of_magnitudes(similarity: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda maps: similarity(maps.abs())


@dataclass(frozen=True, kw_only=True)
class Randomisation:
    """How alike maps are before and after the network's parameters are drawn anew, layer by layer; lower is better.

    From the logits to the input, layers lose what they learned, and the same class is explained again. `spearman` is
    the rank correlation of the pixel map with that of the intact network, `spearman_abs` that of magnitudes, `ssim`
    the structural similarity; each is the mean over steps, without the intact network. `emprt`, the higher the better,
    is (H(random) - H(intact)) / H(intact) with H the entropy of the map's histogram and 'random' the network with no
    trained parameter left. A map that knows nothing of the network scores 1, and 0 by `emprt`.

    Attributes:
        order: 'cascade' randomises a layer and all behind it, 'independent' that layer alone, without `emprt`.
        layers: so many steps, at depths an equal number of layers apart, the input's layer being the last; by default
            one for each layer. 1 is enough for `emprt`.
        samples: inputs of which a map is the mean: the image, and others with noise of 0.1 times its range added. 1 is
            MPRT; sMPRT takes 50.
        bn: whether running statistics stay, or are reset with their batch norm's parameters.
        images: only the first so many images of a run; all by default.

    Source: Adebayo et al. 2018, Section 3 (MPRT); Hedström et al. 2024 (sMPRT, eMPRT).
    Departs: all parameters are drawn, also those that published code leaves trained, as a class token; a layer's values
        are the same in each step, and a sample's noise for each network; bins suit each image's own map, and their
        number goes by that of the pixels; an image of which one map has no order counts for nothing.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("spearman", "spearman_abs", "ssim", "emprt")
    explains: ClassVar[bool] = True
    randomises: ClassVar[bool] = True
    only_when_asked: ClassVar[bool] = True
    """It explains each image once a layer."""

    order: Literal["cascade", "independent"] = "cascade"
    layers: Count | None = None
    samples: Count = 1
    bn: Statistics = "keep"
    images: Count | None = field(default=None, metadata={"selection": True})

    @torch.no_grad()
    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        """Columns: similarities (N, L) by step; entropies (N,); how many steps (N,) gave maps without an order."""
        pixels = explained.pixels
        self.check(*pixels.shape[1:])
        found = flaws(explained.relevance, pixels)
        images = flawless(found)
        intact = pixels[images] if self.samples == 1 else self._map(explained, images, explained.network.explain)
        columns, last = self._compared(explained, images, intact)
        if self.order == "cascade":
            columns |= {"entropy_intact": _entropies(intact, intact), "entropy_random": _entropies(last, intact)}
        return {name: scattered(images, values, len(pixels)) for name, values in columns.items()} | found

    def variants(self, *, signed: bool) -> Mapping[str, Variant]:
        undefined = FLAWS | {
            "non-finite relevance once randomised": lambda rows: (rows["non_finite_steps"] > 0).to_numpy(),
            "constant map once randomised": lambda rows: (rows["constant_steps"] > 0).to_numpy(),
        }
        found = {
            name: Variant(direction="lower", statistics=partial(_over_steps, name=name), undefined=undefined)
            for name in _SIMILARITIES
        }
        if self.order == "cascade":
            found["emprt"] = Variant(direction="higher", statistics=_rise, undefined=undefined)
        return found

    def check(self, height: int, width: int) -> None:
        if min(height, width) < WINDOW:
            raise BadConfig(f"randomisation: images of {WINDOW} pixels a side are needed, not {min(height, width)}")

    def _compared(self, explained: Explained, images: Tensor, intact: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Columns (M, ...) of the chosen images, and their maps (M, H, W) at the last step."""
        alike: dict[str, list[Tensor]] = {name: [] for name in _SIMILARITIES}
        likeness = {name: similarity(intact) for name, similarity in _SIMILARITIES.items()}
        non_finite, constant, last = [num_non_finite(intact) > 0], [is_constant(intact)], intact
        for names in self._steps(explained.network.layers()):
            last = self._map(explained, images, explained.network.randomised(names, self.bn))
            for name, similarity in likeness.items():
                alike[name].append(similarity(last))
            non_finite.append(num_non_finite(last) > 0)
            constant.append(is_constant(last))
        counts = {
            "non_finite_steps": torch.stack(non_finite).sum(0),
            "constant_steps": torch.stack(constant).sum(0),
        }
        return {name: torch.stack(steps, 1) for name, steps in alike.items()} | counts, last

    def _steps(self, layers: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """The layers to randomise at each step, of all from the logits to the input."""
        count = min(self.layers or len(layers), len(layers))
        for step in range(1, count + 1):
            depth = len(layers) * step // count
            yield layers[0 if self.order == "cascade" else depth - 1 : depth]

    def _map(self, explained: Explained, images: Tensor, explain: Explain) -> Tensor:
        """Pixel maps (M, H, W) float64 of the chosen images: means over their samples."""
        if not len(images):
            return explained.pixels[images]
        batch, target = explained.batch, explained.target[images]
        x, seeds = batch.x[images], batch.seeds[images.cpu()]
        sigma = _NOISE * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
        total = explain(x, target, seeds).double().sum(1)
        for n in range(1, self.samples):
            noisy = x + sigma * noise(x, seeds, f"randomisation {n}")
            total += explain(noisy, target, seeds).double().sum(1)
        return total / self.samples


def _entropies(maps: Tensor, intact: Tensor) -> Tensor:
    """Entropies (M,) of maps (M, H, W), in as many bins as suit those of the intact network."""
    pairs = zip(maps.flatten(1), intact.flatten(1), strict=True)
    found = [entropy(values, freedman_diaconis(own)) for values, own in pairs]
    return torch.stack(found) if found else maps.new_empty(0)


def _over_steps(rows: DataFrame, name: str) -> NDArray[np.float64]:
    means: NDArray[np.float64] = vectors(rows, name).mean(axis=1, keepdims=True)
    return means


def _rise(rows: DataFrame) -> NDArray[np.float64]:
    """Relative rise (N, 1) of the entropy."""
    intact, random = rows[["entropy_intact"]].to_numpy(), rows[["entropy_random"]].to_numpy()
    rise: NDArray[np.float64] = (random - intact) / intact
    return rise

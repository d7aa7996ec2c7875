"""Class activation maps without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from rapbench.methods.cam import bilinear, enlarged
from rapbench.methods.feature_maps import feature_maps
from rapbench.relprop.graph import Graph
from rapbench.relprop.idle import prepared

_AT_ONCE = 32
"""Masked copies of an image in one forward pass."""


@dataclass(frozen=True, kw_only=True)
class ScoreCam:
    """Score-CAM, ReLU(Σ_k α_k A_k): α_k from what the network says of x · H_k alone, H_k the map enlarged to [0, 1].

    H_k is A_k enlarged bilinearly, minus its minimum, over its range; 0 where A_k is the same everywhere. It multiplies
    the normalised input, as in the published code: what it hides has the mean colour. Each image takes as many forward
    passes as there are maps. The result is enlarged bilinearly and shared evenly by the input's channels.

    Attributes:
        layer: whose maps to take, see `GradCam`.
        softmax: over what the softmax is whose results are the weights: over the maps, of the target's logits, as in
            the paper, where subtracting the logit of a reference image, as it does first, changes nothing; or over
            'classes', so that α_k is the target's probability, as in the published code.

    Source: Wang et al. 2020, Algorithm 1.
    """

    title: ClassVar[str] = "Score-CAM"
    signed: ClassVar[bool] = False

    layer: str = ""
    softmax: Literal["maps", "classes"] = "maps"

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        graph = prepared(model, x)
        values = graph.values(x)
        found = feature_maps(graph, values, self.layer)
        maps = found.maps(values[found.position])
        del values
        weights = torch.stack([self._weights(graph, *image) for image in zip(maps, x, target, strict=True)])
        cam = torch.einsum("nc,nchw->nhw", weights, maps).unsqueeze(1).relu()
        return enlarged(cam, x) / x.shape[1]

    def _weights(self, graph: Graph, maps: Tensor, x: Tensor, target: Tensor) -> Tensor:
        """Weight (C,) of each map (C, h, w) of one image (C, H, W)."""
        logits = torch.cat([graph(mask * x) for mask in _masks(maps, x)])
        return logits[:, target].softmax(0) if self.softmax == "maps" else logits.softmax(1)[:, target]


def _masks(maps: Tensor, x: Tensor) -> Iterator[Tensor]:
    """Maps (C, h, w) at the size of `x`, each from 0 to 1, some at a time: (n, 1, H, W)."""
    for some in torch.split(maps.unsqueeze(1), _AT_ONCE):
        large = bilinear(some, x.unsqueeze(0))
        low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
        yield torch.where(high > low, (large - low) / (high - low), 0)

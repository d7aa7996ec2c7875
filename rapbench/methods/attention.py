"""Maps of vision transformers from what their tokens attend to.

A_l is the attention (N, heads, T, T) of block l over T tokens: one a patch, the class token, and others that have no
place in the image if there are any. A map is the class token's row of some (T, T), its patches enlarged bilinearly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rapbench.core.errors import BadConfig, UnsupportedLayer
from rapbench.core.ranges import Count
from rapbench.methods.cam import enlarged
from rapbench.relprop.composites import Composite
from rapbench.relprop.graph import Graph
from rapbench.relprop.idle import prepared
from rapbench.relprop.layers import (
    Activation,
    Add,
    Affine,
    Attended,
    AveragePool,
    BatchNorm,
    Concatenate,
    Contraction,
    Convolution,
    Dense,
    Identity,
    MatrixProduct,
    MaxPool,
    Norm,
    Product,
    Rearrange,
    Rectifier,
    Softmax,
)
from rapbench.relprop.propagation import relevance_at
from rapbench.relprop.rules import AlphaBeta, Balanced, Halve, Pass, Proportional, Route, Uniform
from rapbench.relprop.tokens import Tokens, marks, tokens
from rapbench.relprop.tracing.closeness import is_close


class Attention:
    """A forward pass of a vision transformer: the attention of its blocks, and where its patches are.

    Attributes:
        graph: the network.
        values: of all its layers.
        positions: of the blocks' attention in the graph, in order.
        patches: which tokens are patches, and of which place.
        title: of the method, for messages.
    """

    def __init__(self, graph: Graph, values: list[Any], x: Tensor, title: str) -> None:
        self.graph, self.values, self.title, self.x = graph, values, title, x
        self.positions = [layer.inputs[1] for layer in self._products()]
        if not self.positions:
            raise UnsupportedLayer(f"{title} looks at attention, and the network has none")
        for layer in self._products():
            self._check(layer)
        self.patches = self._patches()

    def __getitem__(self, block: int) -> Tensor:
        """A_l, (N, heads, T, T)."""
        return self.values[self.positions[block]]  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[block] for block in range(len(self.positions)))

    def _products(self) -> list[Attended]:
        found = (self.graph.layers[n] for n in self.graph.carrying())
        return [layer for layer in found if isinstance(layer, Attended)]

    def _check(self, layer: Attended) -> None:
        """Whether all tokens attend to all tokens, those of the image and of all other blocks."""
        a, last = self.values[layer.inputs[1]], self[-1]
        tokens = last.shape[-1]
        whole = a.dim() == 4 and (a.shape[0], *a.shape[2:]) == (len(self.x), tokens, tokens)
        if not whole or not is_close(a.sum(-1), torch.ones_like(a[..., 0])) or not self._waists(tokens):
            raise UnsupportedLayer(
                f"{self.title} needs every token to attend to every token (N, heads, T, T): the attention of "
                f"{layer.where} is {tuple(a.shape)}"
            )

    def _waists(self, tokens: int) -> list[int]:
        """Positions of the tokens (N, T, D) that all paths pass."""
        values = ((n, self.values[n]) for n in self.graph.waists())
        return [n for n, value in values if isinstance(value, Tensor) and value.dim() == 3 and value.shape[1] == tokens]

    @torch.no_grad()
    def _patches(self) -> Tokens:
        found = tokens(marks(self.graph, self.values)[self._waists(self[-1].shape[-1])[-1]])
        if found is None:
            raise UnsupportedLayer(f"{self.title} needs a token a patch, and nothing tells which token has which place")
        return found

    def outputs(self) -> list[int]:
        """Position of every block's output (N, T, D): the last sum before the next block's attention."""
        sums = [n for n in self._waists(self[-1].shape[-1]) if isinstance(self.graph.layers[n], Add)]
        ends = [*self.positions[1:], len(self.graph.layers)]
        found = [[n for n in sums if start < n < end] for start, end in zip(self.positions, ends, strict=True)]
        if not all(found):
            raise UnsupportedLayer(f"{self.title} needs a sum behind the attention of every block, where it ends")
        return [some[-1] for some in found]

    @torch.no_grad()
    def class_row(self, tokens: Tensor) -> Tensor:
        """The row (..., T) of the class token, the first that is no patch, of (..., T, T).

        Raises:
            UnsupportedLayer: there is none: the logits are read off the patches.
        """
        position, patches = self._waists(tokens.shape[-1])[-1], set(self.patches.order.tolist())
        without = self.values[position].index_fill(1, self.patches.order, 0)
        logits = self.graph.continued(self.values, position, without)
        others = [n for n in range(tokens.shape[-1]) if n not in patches]
        if not others or not is_close(logits, self.values[self.graph.output]):
            raise UnsupportedLayer(f"{self.title} needs a class token, and the logits are read off the patches")
        return tokens[..., others[0], :]

    def map(self, row: Tensor) -> Tensor:
        """What tokens (N, T) have, as relevance (N, C, H, W): enlarged bilinearly, shared evenly by channels."""
        cam = self.patches.maps(row.detach().unsqueeze(2))
        return enlarged(cam, self.x) / self.x.shape[1]

    def since(self, block: int) -> list[int]:
        """Positions of the attention of a block, counted from 1, and of those behind it.

        Raises:
            BadConfig: there are fewer blocks.
        """
        if block > len(self.positions):
            raise BadConfig(f"{self.title}: first_block={block}, and the network has {len(self.positions)}")
        return self.positions[block - 1 :]

    @torch.enable_grad()
    def gradients(self, target: Tensor, positions: list[int]) -> tuple[Tensor, ...]:
        """∂f_target/∂A_l at these positions."""
        return torch.autograd.grad(_score(self.values[self.graph.output], target), [self.values[n] for n in positions])


def _score(logits: Tensor, target: Tensor) -> Tensor:
    """The sum of the logits of the target (N,)."""
    return logits.gather(1, target.unsqueeze(1)).sum()


def attention(model: nn.Module, x: Tensor, title: str) -> Attention:
    """The attention of a forward pass, without gradients."""
    graph = prepared(model, x)
    with torch.no_grad():
        return Attention(graph, graph.values(x), x, title)


def differentiable(model: nn.Module, x: Tensor, title: str) -> Attention:
    """The attention of a forward pass that gradients can be taken of."""
    graph = prepared(model, x)
    with torch.enable_grad():
        return Attention(graph, graph.values(x.detach().requires_grad_()), x, title)


def rollout(matrices: list[Tensor]) -> Tensor:
    """B_L ... B_1 of matrices (N, T, T) in order of the blocks."""
    joint, *rest = matrices
    for matrix in rest:
        joint = matrix @ joint
    return joint


def _identity_like(matrix: Tensor) -> Tensor:
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


@dataclass(frozen=True, kw_only=True)
class RawAttention:
    """What the class token attends to in the last block, the mean over heads."""

    title: ClassVar[str] = "Raw attention"
    signed: ClassVar[bool] = False

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        found = attention(model, x, self.title)
        return found.map(found.class_row(found[-1].mean(1)))


@dataclass(frozen=True, kw_only=True)
class AttentionRollout:
    """B_L ... B_1 with B_l = (mean_h A_l + I) / 2: attention through all blocks, the same for every class.

    Attributes:
        first_block: where the product begins; evaluations that follow Chefer et al. 2021 begin with block 2.

    Source: Abnar and Zuidema 2020, Eq. 1 and 2.
    """

    title: ClassVar[str] = "Attention rollout"
    signed: ClassVar[bool] = False

    first_block: Count = 1

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        found = attention(model, x, self.title)
        blocks = (found.values[n] for n in found.since(self.first_block))
        matrices = [(a.mean(1) + _identity_like(a)) / 2 for a in blocks]
        return found.map(found.class_row(rollout(matrices)))


@dataclass(frozen=True, kw_only=True)
class AttentionGradCam:
    """(mean_h g_h A_h)^+ in the last block, g_h the mean over patches of ∂f_c/∂A_h, in the class token's row.

    Source: Chefer et al. 2021 (CVPR), Section 4, where it is called GradCAM.
    """

    title: ClassVar[str] = "Attention Grad-CAM"
    signed: ClassVar[bool] = False

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        found = attention(model, x, self.title)
        with torch.enable_grad():
            last = found[-1].requires_grad_()
            logits = found.graph.continued(found.values, found.positions[-1], last)
            (gradient,) = torch.autograd.grad(_score(logits, target), [last])
        weights = found.class_row(gradient).index_select(2, found.patches.order).mean(2, keepdim=True)
        return found.map((weights * found.class_row(last.detach())).mean(1).relu())


@dataclass(frozen=True, kw_only=True)
class CheferAttention:
    """R = I, then R += mean_h (∂f_c/∂A_l ⊙ A_l)^+ R for every block l.

    Source: Chefer et al. 2021 (ICCV), Eq. 5 and 6.
    """

    title: ClassVar[str] = "Chefer attention"
    signed: ClassVar[bool] = False

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        found = differentiable(model, x, self.title)
        pairs = zip(found, found.gradients(target, found.positions), strict=True)
        matrices = [(a.detach() * gradient).relu().mean(1) + _identity_like(a) for a, gradient in pairs]
        return found.map(found.class_row(rollout(matrices)))


CHEFER = Composite(
    table=(
        *((kind, AlphaBeta(1, 0)) for kind in (Convolution, Dense, Contraction)),
        *((kind, Pass()) for kind in (BatchNorm, Affine, Norm, Rectifier, Activation, Softmax, Identity)),
        *((kind, Route()) for kind in (MaxPool, Rearrange, Concatenate)),
        (AveragePool, Proportional()),
        (Add, Balanced()),
        (Product, Halve()),
        (MatrixProduct, Uniform()),
    )
)
"""The rules of Chefer et al. 2021 (CVPR)."""


@dataclass(frozen=True, kw_only=True)
class CheferLRP:
    """C_L ... C_1 with C_l = I + mean_h (∂f_c/∂A_l ⊙ R(A_l))^+, R(A_l) the relevance of attention by LRP α1β0.

    Attributes:
        first_block: where the product begins; that of the paper's evaluation is block 2.

    Source: Chefer et al. 2021 (CVPR), Eq. 13 and 14.
    """

    title: ClassVar[str] = "Chefer LRP"
    signed: ClassVar[bool] = False

    first_block: Count = 2

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        found = differentiable(model, x, self.title)
        positions = found.since(self.first_block)
        gradients = found.gradients(target, positions)
        relevance = relevance_at(found.graph, CHEFER.rules(found.graph, self.title), found.values, target, positions)
        pairs = zip(gradients, relevance, strict=True)
        matrices = [(gradient * r).relu().mean(1) + _identity_like(r) for gradient, r in pairs]
        return found.map(found.class_row(rollout(matrices)))


@dataclass(frozen=True, kw_only=True)
class PartialLRP:
    """Mean over heads of R(A_L)^+ in the last block, R(A_L) the relevance of attention by LRP α1β0.

    Source: Voita et al. 2019, as in Chefer et al. 2021 (CVPR), Section 4.
    """

    title: ClassVar[str] = "Partial LRP"
    signed: ClassVar[bool] = False

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        found = attention(model, x, self.title)
        rules = CHEFER.rules(found.graph, self.title)
        (relevance,) = relevance_at(found.graph, rules, found.values, target, found.positions[-1:])
        return found.map(found.class_row(relevance.relu().mean(1)))


@dataclass(frozen=True, kw_only=True)
class LeGrad:
    """Σ_l mean over heads and queries of (∂s_l/∂A_l)^+, s_l the logit that the head reads off block l's output.

    Source: Bousselham et al. 2025, Eq. 5 to 8.
    Departs: not scaled to [0, 1]. The published code reads the mean of all tokens off each block; here the head reads
        what it reads off the last block.
    """

    title: ClassVar[str] = "LeGrad"
    signed: ClassVar[bool] = False

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        found = differentiable(model, x, self.title)
        outputs, total = found.outputs(), torch.zeros_like(found[-1][:, 0, 0])
        for a, output in zip(found, outputs, strict=True):
            with torch.enable_grad():
                logits = found.graph.continued(found.values, outputs[-1], found.values[output])
                score = _score(logits, target)
            (gradient,) = torch.autograd.grad(score, [a], retain_graph=True)
            total = total + gradient.relu().mean((1, 2))
        return found.map(total)

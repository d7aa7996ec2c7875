"""Methods and a metric that touch what is not theirs, fail or return something else, named as code from outside."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from rapbench.core.types import Explained, Variant
from rapbench.metrics import masked

Deed = Callable[[nn.Module, Tensor], Any]


def scale_pixels(model: nn.Module, x: Tensor) -> None:
    x.mul_(0)


def scale_weights(model: nn.Module, x: Tensor) -> None:
    next(model.parameters()).data.mul_(0)


def replace_weights(model: nn.Module, x: Tensor) -> None:
    model[0].weight = nn.Parameter(torch.zeros(4, 3, 16, 16))  # type: ignore[index, union-attr, assignment]


def train(model: nn.Module, x: Tensor) -> None:
    model.train()


def thaw(model: nn.Module, x: Tensor) -> None:
    model.requires_grad_(requires_grad=True)


def hook(model: nn.Module, x: Tensor) -> None:
    model.register_forward_hook(lambda *_: torch.zeros(1))


def scale_weights_and_fail(model: nn.Module, x: Tensor) -> None:
    scale_weights(model, x)
    raise ArithmeticError("lamp\nout")


def record_gradients(model: nn.Module, x: Tensor) -> None:
    torch.set_grad_enabled(mode=True)


DEEDS: dict[str, Deed] = {
    deed.__name__: deed
    for deed in (
        *(scale_pixels, scale_weights, replace_weights, train, thaw, hook, scale_weights_and_fail, record_gradients),
    )
} | {
    "torch": lambda model, x: torch.rand(1),
    "numpy": lambda model, x: np.random.random(),  # noqa: NPY002
    "random": lambda model, x: random.random(),
}
RETURNED: dict[str, Callable[[Tensor], object]] = {
    "a list": list,
    "one channel": lambda x: x[:, :1],
    "one map": lambda x: x[0],
    "whole numbers": lambda x: x.long(),
}


@dataclass(frozen=True, kw_only=True)
class Rude:
    """The input as its relevance, after a deed; or something else."""

    title: ClassVar[str] = "Rude"
    signed: ClassVar[bool] = True

    deed: str = ""
    returns: str = ""

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Any:
        DEEDS.get(self.deed, lambda *_: None)(model, x)
        return RETURNED.get(self.returns, lambda x: x)(x)


@dataclass(frozen=True, kw_only=True)
class Pure:
    """The input times its gradient, asked of the network that the method is given."""

    title: ClassVar[str] = "Pure"
    signed: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        with torch.enable_grad():
            x.requires_grad_()
            model(x).gather(1, target.unsqueeze(1)).sum().backward()
        assert x.grad is not None
        return x * x.grad + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True, kw_only=True)
class Careless:
    """Sets everything that it is given to zero, and may fail or return something else."""

    needs: ClassVar[frozenset[str]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("sum",)

    does: str = ""

    def __call__(self, explained: Explained) -> dict[str, Any]:
        batch = explained.batch
        for tensor in (explained.relevance, explained.logits, batch.x, *batch.boxes, *batch.mask):
            if tensor is not None:
                tensor.zero_()
        if self.does == "fail":
            raise ArithmeticError("lamp\nout")
        if self.does == "fill the memory" and masked.NUM_INPUTS["cpu"] > 8:
            raise torch.OutOfMemoryError("no room")
        return {"sum": explained.pixels.sum() if self.does == "sum" else explained.pixels.sum((1, 2))}

    def variants(self, *, signed: bool) -> dict[str, Variant]:
        return {"sum": Variant(direction="lower", statistics=lambda rows: rows[["sum"]].to_numpy(), undefined={})}


@dataclass(frozen=True, kw_only=True)
class Picky:
    """Asks a method for maps, and fails where they are the image: by one method, not by others."""

    needs: ClassVar[frozenset[str]] = frozenset()
    headline: ClassVar[tuple[str, ...]] = ("sum",)
    explains: ClassVar[bool] = True

    def __call__(self, explained: Explained) -> dict[str, Tensor]:
        batch = explained.batch
        maps = explained.network.explain(batch.x, explained.target, batch.seeds)
        if torch.equal(maps, batch.x):
            raise ArithmeticError("no map")
        return {"sum": maps.sum((1, 2, 3))}

    def variants(self, *, signed: bool) -> dict[str, Variant]:
        return {"sum": Variant(direction="lower", statistics=lambda rows: rows[["sum"]].to_numpy(), undefined={})}

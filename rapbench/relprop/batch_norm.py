"""Batch normalisation in evaluation mode as scale and shift, wherever a network calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.nn import functional
from torch.overrides import TorchFunctionMode

from rapbench.relprop.layers import BatchNorm

_ARGUMENTS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_DEFAULTS = {"weight": None, "bias": None, "training": False, "eps": 1e-5}


class ScaleAndShift(TorchFunctionMode):
    """Within it, batch norms with running statistics are x · scale + shift, in the backward pass too.

    PyTorch's own gradient is wrong for a single image whose strides do not tell in which order its values lie, as
    behind a permutation of tokens.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is functional.batch_norm:
            named = _DEFAULTS | dict(zip(_ARGUMENTS, args, strict=False)) | given
            if not named["training"] and named["running_mean"] is not None:
                return _layer(named).applied(named["input"])
        return func(*args, **given)


def _layer(named: Mapping[str, Any]) -> BatchNorm:
    tensors = {key: named[key] for key in ("running_mean", "running_var", "weight", "bias")}
    common: dict[str, Any] = {"name": "", "operation": "batch_norm", "inputs": (0,)}
    return BatchNorm(**common, **tensors, eps=named["eps"], function=functional.batch_norm)

"""Layer, group, instance and root-mean-square normalisation as a deviation and what is divided by it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rapbench.relprop.layers import Layer, Norm, Unsupported
from rapbench.relprop.tracing.kinds import Operation
from rapbench.relprop.tracing.replay import Replay
from rapbench.relprop.tracing.templates import Ref

_NAMES = {
    "layer_norm": ("input", "shape", "weight", "bias", "eps"),
    "rms_norm": ("input", "shape", "weight", "eps"),
    "group_norm": ("input", "groups", "weight", "bias", "eps"),
    "instance_norm": ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps"),
}
_OTHER = {"normalized_shape": "shape", "num_groups": "groups"}


def norm_and_deviation(operation: Operation, norm: Norm, x: Tensor, position: int) -> tuple[Layer, Norm] | None:
    """The deviation, a layer of its own for the graph's `position`, and the normalisation that reads it.

    Args:
        operation: of PyTorch; None is returned where its parameters depend on the images, or it has stored statistics.
        norm: the normalisation as one layer.
        x: what it normalises.
        position: where the deviation will stand in the graph.
    """
    given = dict(zip(_NAMES[operation.bare], operation.args, strict=False))
    given |= {_OTHER.get(key, key): value for key, value in operation.kwargs.items()}
    varying = any(isinstance(value, Ref) for key, value in given.items() if key != "input")
    if varying or norm.sizes or not given.get("use_input_stats", True):
        return None
    centred, last = operation.bare != "rms_norm", len(given["shape"]) if "shape" in given else 0
    groups = given.get("groups", x.shape[1])
    scale, shift = (_aligned(given.get(key), x, last) for key in ("weight", "bias"))
    eps = given.get("eps", 1e-5 if centred else None)
    layout = {"last": last, "groups": groups, "centred": centred}
    deviation = Replay(function=_deviation, args=(Ref(0), eps), kwargs=layout)
    function = Replay(function=_normalised, args=(Ref(0), Ref(1), scale, shift), kwargs=layout)
    source = Unsupported(name=f"{norm.name}.deviation", operation="deviation", inputs=norm.inputs, function=deviation)
    return source, replace(norm, sizes=(position,), function=function)


def _aligned(parameter: Tensor | None, x: Tensor, last: int) -> Tensor | None:
    """Parameters of channels shaped like those of the channels of `x`; those of the last dimensions as they are."""
    if parameter is None or last:
        return parameter
    return parameter.detach().view(-1, *[1] * (x.dim() - 2))


def _grouped(x: Tensor, last: int, groups: int) -> Tensor:
    """What is normalised together as the last dimension."""
    return x.flatten(-last) if last else x.reshape(len(x), groups, -1)


def _deviation(x: Tensor, eps: float | None, *, last: int, groups: int, centred: bool) -> Tensor:
    x = _grouped(x, last, groups)
    square = x.var(-1, unbiased=False, keepdim=True) if centred else x.square().mean(-1, keepdim=True)
    return (square + (torch.finfo(x.dtype).eps if eps is None else eps)).sqrt()


def _normalised(
    x: Tensor, deviation: Tensor, scale: Tensor | None, shift: Tensor | None, *, last: int, groups: int, centred: bool
) -> Tensor:
    values = _grouped(x, last, groups)
    if centred:
        values = values - values.mean(-1, keepdim=True)
    result = (values / deviation).view(x.shape)
    result = result if scale is None else result * scale
    return result if shift is None else result + shift

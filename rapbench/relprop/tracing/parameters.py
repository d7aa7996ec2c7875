"""Convolutions, dense layers and batch norms, with the arguments of PyTorch's functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional

from rapbench.relprop.layers import BatchNorm, Contraction, Convolution, Dense, Layer, Unsupported
from rapbench.relprop.tracing.kinds import Operation
from rapbench.relprop.tracing.templates import Ref, leaves

PARAMETRISED = (Convolution, Dense, BatchNorm, Contraction)
_NAMES = {
    Convolution: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    Dense: ("input", "weight", "bias"),
    BatchNorm: ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
}
_OTHER_BATCH_NORM = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
"""The order of every batch norm but that of `torch.nn.functional`."""
_STATISTICS = {"running_mean": None, "running_var": None, "weight": None, "bias": None, "eps": 1e-5}
_GEOMETRY = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}


def parametrised(
    found: type[Layer],
    called: Callable[..., Any],
    common: dict[str, Any],
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Layer:
    """A layer with parameters, which must be constants: a network that computes them from its images has no such layer.

    Args:
        found: which of the kinds with parameters.
        called: PyTorch's function.
        common: the fields that all layers have, without the function.
        function: what the layer computes.
        args: the arguments of PyTorch's function by position.
        kwargs: the others.
    """
    if found is Contraction:
        return _contraction(common, function, list(leaves((args, kwargs))))
    other = found is BatchNorm and called is not functional.batch_norm
    given = dict(zip(_OTHER_BATCH_NORM if other else _NAMES[found], args, strict=False)) | kwargs
    if any(isinstance(value, Ref) for key, value in given.items() if key != "input"):
        return Unsupported(**common, function=function)
    if found is BatchNorm:
        return _batch_norm(common, {key: given.get(key, default) for key, default in _STATISTICS.items()})
    if found is Dense:
        return Dense(**common, function=function, weight=given["weight"], bias=given.get("bias"))
    geometry = {key: given.get(key, default) for key, default in _GEOMETRY.items()}
    return _convolution(common, function, given["weight"], given.get("bias"), **geometry)


def _contraction(common: dict[str, Any], function: Callable[..., Any], given: list[Any]) -> Layer:
    """A product with a constant: from the right with a matrix it is a dense layer."""
    written = given.pop(0).replace(" ", "") if isinstance(given[0], str) else None
    constants = [n for n, a in enumerate(given) if isinstance(a, Tensor)]
    if len(given) != 2 or len(constants) != 1 or not (written or given[constants[0]].dim() == 2):
        return Unsupported(**common, function=function)
    (n,) = constants
    weight: Tensor = given[n]
    if written is None and n == 1:
        return Dense(**common, function=function, weight=weight.t(), bias=None)
    indices, _, output = (written or "oi,...it->...ot").partition("->")
    x, w = indices.split(",")[1 - n], indices.split(",")[n]
    if not output or not set(x) <= {*w, *output}:
        return Unsupported(**common, function=function)
    forth, back = f"{x},{w}->{output}", f"{output},{w}->{x}"
    return Contraction(**common, function=function, weight=weight, bias=None, equation=forth, transposed=back)


def _batch_norm(common: dict[str, Any], statistics: dict[str, Any]) -> BatchNorm:
    norm = BatchNorm(**common, function=BatchNorm.applied, **statistics)
    return replace(norm, function=norm.applied)


def _convolution(
    common: dict[str, Any],
    function: Callable[..., Any],
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Layer:
    dims = weight.dim() - 2
    stride, dilation = _tuple(stride, dims), _tuple(dilation, dims)
    geometry = {"stride": stride, "padding": (0,) * dims, "dilation": dilation, "groups": groups}
    layer = Convolution(**common, function=function, weight=weight, bias=bias, **geometry)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        return surrounded(layer, [(t // 2, t - t // 2) for t in total])
    return replace(layer, padding=_tuple(0 if padding == "valid" else padding, dims))


def surrounded(layer: Convolution, sides: Sequence[tuple[int, int]]) -> Convolution:
    """The convolution with more zeros before and after each dimension, outermost first."""
    padding = tuple(p + min(both) for p, both in zip(layer.padding, sides, strict=True))
    more = tuple(n - min(both) for both in reversed(sides) for n in both)
    return replace(layer, padding=padding, more=more if any(more) else ())


def _tuple(value: Any, dims: int) -> tuple[int, ...]:
    found = (value,) if isinstance(value, int) else tuple(value)
    return found * dims if len(found) == 1 else found


def zeros_around(pad: Operation) -> list[tuple[int, int]]:
    """Zeros before and after each padded dimension, outermost first; none where something is cut off or copied."""
    given = pad.argument(1, "pad") if pad.argument(2, "mode", "constant") == "constant" else [-1, -1]
    sides = list(zip(given[::2], given[1::2], strict=True))
    return sides[::-1] if all(type(n) is int and n >= 0 for n in given) else []

"""Which kind of layer an operation is, by its name and arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rapbench.relprop.layers import (
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    Concatenate,
    Contraction,
    Convolution,
    Dense,
    Difference,
    Identity,
    Layer,
    MatrixProduct,
    MaxPool,
    Norm,
    Product,
    Quotient,
    Rearrange,
    Sigmoid,
    Softmax,
    Unsupported,
    WithConstants,
)
from rapbench.relprop.tracing.templates import Ref, leaves

CASTS = ("to", "type", "type_as", "float", "double", "half", "bfloat16", "to_copy")
_IDENTITIES = (
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout"),
    *("contiguous", "clone", "detach", "data", "alias", "requires_grad", "positive"),
    *CASTS,
)
_REARRANGEMENTS = (
    *("flatten", "unflatten", "view", "reshape", "view_as", "reshape_as", "ravel", "squeeze", "unsqueeze"),
    *("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT", "adjoint"),
    *("getitem", "select", "narrow", "slice", "index_select", "diagonal", "flip", "fliplr", "flipud", "roll", "rot90"),
    *("chunk", "split", "split_with_sizes", "tensor_split", "hsplit", "vsplit", "dsplit", "unbind"),
    *("expand", "expand_as", "broadcast_to", "repeat", "tile", "repeat_interleave"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "unfold"),
)
_MAX_POOLS = (
    *("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("adaptive_max_pool1d_with_indices", "adaptive_max_pool2d_with_indices", "adaptive_max_pool3d_with_indices"),
)
_AVERAGE_POOLS = (
    *("avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
)
_ACTIVATIONS = (
    *("silu", "gelu", "mish", "hardswish", "tanh", "tanhshrink", "hardshrink", "softshrink", "softplus", "softsign"),
    *("leaky_relu", "rrelu", "prelu", "elu", "selu", "celu", "logsigmoid", "log_sigmoid", "erf"),
    *("abs", "exp", "square", "clamp", "clip", "clamp_min", "clamp_max", "hardtanh"),
)
_MATRIX_PRODUCTS = ("matmul", "mm", "bmm", "addmm", "addbmm", "baddbmm", "einsum", "tensordot")
_JOINS = ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack")
_KINDS: dict[str, type[Layer]] = {
    **dict.fromkeys(_IDENTITIES, Identity),
    **dict.fromkeys(_REARRANGEMENTS, Rearrange),
    **dict.fromkeys(_MAX_POOLS, MaxPool),
    **dict.fromkeys(_AVERAGE_POOLS, AveragePool),
    **dict.fromkeys(["conv1d", "conv2d", "conv3d"], Convolution),
    **dict.fromkeys(_ACTIVATIONS, Activation),
    **dict.fromkeys(["sigmoid", "hardsigmoid"], Sigmoid),
    **dict.fromkeys(["layer_norm", "group_norm", "instance_norm", "rms_norm"], Norm),
    "softmax": Softmax,
    "neg": Affine,
    "negative": Affine,
    "linear": Dense,
    "batch_norm": BatchNorm,
}
"""Operations whose kind does not depend on their arguments, where one tensor alone depends on the images."""


@dataclass(frozen=True)
class Operation:
    """An operation's n-th result.

    Attributes:
        name: the function's, as the network's code says it.
        args: the arguments by position, a `Ref` for each tensor that depends on the images.
        kwargs: the others.
        pick: which result; a `Ref` where it is what was written into that tensor.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    pick: int | Ref

    @property
    def bare(self) -> str:
        """The name of the operation out of place."""
        return self.name.removesuffix("_")

    @property
    def tensors(self) -> int:
        """How many of its tensors depend on the images."""
        return len({a for a in leaves((self.args, self.kwargs)) if isinstance(a, Ref)})

    def argument(self, position: int, key: str, default: Any = None) -> Any:
        """An argument given either way."""
        return self.kwargs.get(key, self.args[position] if len(self.args) > position else default)


def kind(operation: Operation) -> type[Layer]:
    """The kind of layer that an operation is, rectifiers apart."""
    if operation.bare in _CHOSEN:
        return _CHOSEN[operation.bare](operation)
    found = _KINDS.get(operation.bare, Unsupported)
    if found is MaxPool and operation.pick != 0:
        return Unsupported  # the indices of the winners
    return found if operation.tensors == 1 else Unsupported


def rectifier(operation: Operation) -> Callable[[Tensor], Tensor] | None:
    """The rectifier that an operation is, out of place; None where it is something else."""
    name = operation.bare
    if operation.tensors != 1 or name not in _BOUNDS:
        return None
    low, high = (operation.argument(n + 1, key, default) for n, (key, default) in enumerate(_BOUNDS[name]))
    if not _is_number(low, 0) or isinstance(high, Tensor):
        return None
    if name == "threshold":
        return torch.relu if high == 0 else None
    if high is None:
        return torch.relu
    return functional.relu6 if high == 6 else partial(functional.hardtanh, min_val=0.0, max_val=float(high))


_BOUNDS: dict[str, tuple[tuple[str, Any], tuple[str, Any]]] = {
    "relu": (("", 0), ("", None)),
    "relu6": (("", 0), ("", 6)),
    "clamp": (("min", None), ("max", None)),
    "clip": (("min", None), ("max", None)),
    "clamp_min": (("min", None), ("", None)),
    "hardtanh": (("min_val", -1.0), ("max_val", 1.0)),
    "threshold": (("threshold", None), ("value", None)),
}
"""Names and defaults of the arguments that say where a rectifier starts and ends."""


def _is_number(value: Any, number: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, Ref) and value == number


def _sum_kind(operation: Operation) -> type[Layer]:
    """Sums of tensors, and of one with a constant."""
    terms = _operands(operation)
    if "out" in operation.kwargs:
        return Unsupported
    plain = operation.argument(2, "alpha", 1) == 1
    if all(isinstance(term, Ref) for term in terms):
        return Add if plain else Difference
    return Identity if plain and any(_is_number(term, 0) for term in terms) else Affine


def _difference_kind(operation: Operation) -> type[Layer]:
    """Differences of tensors, and of one and a constant."""
    if all(isinstance(term, Ref) for term in _operands(operation)):
        return Difference if operation.tensors > 1 else Unsupported
    return Affine


def _scaled_sum_kind(operation: Operation) -> type[Layer]:
    """A tensor plus a product of which one factor at least is a constant."""
    one, other = operation.argument(1, "tensor1"), operation.argument(2, "tensor2")
    if isinstance(one, Ref) and isinstance(other, Ref):
        return Unsupported
    return Affine if operation.tensors == 1 else Difference


def _product_kind(operation: Operation) -> type[Layer]:
    """Products of tensors, and of one with a constant."""
    factors = _operands(operation)
    if all(isinstance(factor, Ref) for factor in factors):
        return Product if operation.tensors > 1 else Activation
    return Identity if any(_is_number(factor, 1) for factor in factors) else Affine


def _quotient_kind(operation: Operation) -> type[Layer]:
    """Quotients of tensors, and of one by a constant."""
    dividend, divisor = _operands(operation)
    if operation.kwargs.get("rounding_mode") or not isinstance(dividend, Ref):
        return Unsupported
    if isinstance(divisor, Ref):
        return Quotient if operation.tensors > 1 else Unsupported
    return Identity if _is_number(divisor, 1) else Affine


def _operands(operation: Operation) -> tuple[Any, Any]:
    return operation.argument(0, "input"), operation.argument(1, "other")


def _masked_kind(operation: Operation) -> type[Layer]:
    """A constant in the place of values that a constant mask names."""
    depending = operation.tensors == 1 and isinstance(operation.argument(0, "input"), Ref)
    return WithConstants if depending else Unsupported


def _power_kind(operation: Operation) -> type[Layer]:
    """A constant power."""
    return Activation if isinstance(operation.argument(0, "input"), Ref) and operation.tensors == 1 else Unsupported


def _matrix_product_kind(operation: Operation) -> type[Layer]:
    """Matrix products of two tensors, and of one with a constant."""
    if operation.tensors == 1:
        return Contraction if operation.bare in {"matmul", "mm", "einsum"} else Unsupported
    return MatrixProduct if operation.tensors == 2 else Unsupported


def _reduced_kind(kind: type[Layer]) -> Callable[[Operation], type[Layer]]:
    """A sum, mean or maximum over some dimensions; over all of them it would mix images."""

    def found(operation: Operation) -> type[Layer]:
        dims = operation.argument(1, "dim", operation.kwargs.get("axis"))
        return kind if dims not in (None, ()) and operation.tensors == 1 and operation.pick == 0 else Unsupported

    return found


def _joined_kind(operation: Operation) -> type[Layer]:
    constants = (a for a in leaves((operation.args, operation.kwargs)) if isinstance(a, Tensor))
    return WithConstants if any(not a.numel() or a.any() for a in constants) else Concatenate


def _pad_kind(operation: Operation) -> type[Layer]:
    """Copies of a tensor's own values around it, zeros, or another finite constant."""
    value = operation.argument(3, "value") or 0
    if value == 0 or operation.argument(2, "mode", "constant") != "constant":
        return Rearrange
    return WithConstants if math.isfinite(value) else Unsupported


def _setitem_kind(operation: Operation) -> type[Layer]:
    """Values of two tensors side by side, or zeros; an index must not depend on the images."""
    _, index, value = operation.args
    if any(isinstance(i, Ref) for i in leaves(index)):
        return Unsupported
    return Concatenate if isinstance(value, Ref | Tensor) else Rearrange if _is_number(value, 0) else Unsupported


def _interpolated_kind(operation: Operation) -> type[Layer]:
    """Copies of values, or averages of neighbours."""
    mode = operation.argument(3, "mode", "nearest")
    if mode in {"nearest", "nearest-exact"}:
        return Rearrange
    return AveragePool if mode in {"linear", "bilinear", "trilinear", "area"} else Unsupported


def _overlaid_kind(operation: Operation) -> type[Layer]:
    return Rearrange if operation.args[3] is None else Concatenate


_CHOSEN: dict[str, Callable[[Operation], type[Layer]]] = {
    "add": _sum_kind,
    **dict.fromkeys(["sub", "subtract", "rsub"], _difference_kind),
    "addcmul": _scaled_sum_kind,
    **dict.fromkeys(["mul", "multiply"], _product_kind),
    **dict.fromkeys(["div", "divide", "true_divide"], _quotient_kind),
    "pow": _power_kind,
    "masked_fill": _masked_kind,
    **dict.fromkeys(_MATRIX_PRODUCTS, _matrix_product_kind),
    "mean": _reduced_kind(AveragePool),
    "sum": _reduced_kind(Add),
    "max": _reduced_kind(MaxPool),
    "amax": _reduced_kind(MaxPool),
    "pad": _pad_kind,
    "setitem": _setitem_kind,
    "copy": lambda _: Concatenate,
    "interpolate": _interpolated_kind,
    "upsample": _interpolated_kind,
    "overlaid": _overlaid_kind,
    **dict.fromkeys(_JOINS, _joined_kind),
}
"""Operations whose kind depends on their arguments."""

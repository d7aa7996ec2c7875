"""The kinds of layer that rules distinguish, as pure functions: none writes into its input or keeps state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One operation of a traced network.

    Attributes:
        name: the module's path, or the traced node's name where the operation is a function.
        operation: what it does, as the network's code says it, for example 'Conv2d' or 'add'.
        inputs: positions in the graph of the tensors it maps.
        sizes: positions of what it needs besides and hands no relevance to: shapes, and values held constant.
        function: (*inputs, *sizes) -> output.
        place: class of the module, file and line of the code, where the name does not tell.
    """

    name: str
    operation: str
    inputs: tuple[int, ...]
    sizes: tuple[int, ...] = ()
    function: Callable[..., Any]
    place: str = ""

    @property
    def where(self) -> str:
        """The layer as messages name it."""
        return f"{self.operation} at node {self.name!r}" + (f" ({self.place})" if self.place else "")


@dataclass(frozen=True, kw_only=True, eq=False)
class Input(Layer):
    """The network's input: images (N, C, H, W).

    Attributes:
        shape: (C, H, W), the only one the graph is for.
        images: N where the network takes no other number of images.
    """

    shape: tuple[int, ...]
    images: int | None = None


class Size(Layer):
    """A shape, or a number computed from shapes: no relevance flows through it."""


class Unsupported(Layer):
    """An operation that runs, but for which no kind is known."""


class Rectifier(Layer):
    """ReLU."""


class Activation(Layer):
    """Any other function of each value alone: SiLU, GELU, tanh, a square."""


class Sigmoid(Activation):
    """An activation with values from 0 to 1: sigmoid, hard sigmoid."""


class Softmax(Layer):
    """Shares that sum to 1."""


class Identity(Layer):
    """Dropout in evaluation mode and whatever else leaves values as they are."""


class Rearrange(Layer):
    """Moves or selects values without changing them: flatten, view, transpose, chunk."""


class MaxPool(Layer):
    """Any max-pooling."""


class AveragePool(Layer):
    """Any average over positions: windows, adaptive, global."""


class Affine(Layer):
    """A constant multiple of each value plus a constant, for example a layer scale."""


class Add(Layer):
    """Sum of tensors, for example a residual connection."""


class Difference(Add):
    """Sum of tensors with constant weights."""


class Product(Layer):
    """Product of two tensors that depend on the images, value by value."""


class Gated(Product):
    """Product of a signal, its first input, and a gate, its second; see `tracing.products`."""


class Quotient(Layer):
    """Quotient of two tensors that depend on the images."""


class Norm(Layer):
    """Normalisation of an image by its own values: their deviation is among the sizes, and so held constant."""


class MatrixProduct(Layer):
    """Matrix product of two tensors that depend on the images, for example of queries and keys."""


class Attended(MatrixProduct):
    """Matrix product of values, its first input, and the attention that weighs them, its second."""


class Concatenate(Layer):
    """Concatenation, for example of the two halves of a fire module."""


class WithConstants(Concatenate):
    """Concatenation with constants, which may be negative and change with no image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchNorm(Layer):
    """Batch normalisation with running statistics: y = x · scale + shift per channel."""

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def affine(self) -> tuple[Tensor, Tensor]:
        """Per-channel scale γ/√(var + ε) and shift β − mean · scale, each (C,)."""
        scale = (self.running_var + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -self.running_mean * scale
        return scale, shift if self.bias is None else shift + self.bias

    def applied(self, x: Tensor) -> Tensor:
        """X · scale + shift."""
        normalised: Tensor = _Normalised.apply(x, self)
        return normalised


class _Normalised(torch.autograd.Function):
    """Batch norm whose gradient is its scale.

    PyTorch's own gradient is wrong for a single image whose strides do not tell in which order its values lie.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: BatchNorm) -> Tensor:
        ctx.scale = layer.affine()[0].to(x.dtype)
        return functional.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient * ctx.scale.view(-1, *[1] * (gradient.dim() - 2)), None


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighted(Layer):
    """A layer y = W x + b. `product` is W x for any W of the same shape, `adjoint` is Wᵀ r."""

    weight: Tensor
    bias: Tensor | None

    def applied(self, x: Tensor) -> Tensor:
        """W x + b."""
        return self.product(x, self.weight, self.bias)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """W x + b; without b unless it is given."""
        raise AssertionError

    def adjoint(self, r: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """Wᵀ r, of the shape of `x`."""
        raise AssertionError

    def bias_like(self, y: Tensor) -> Tensor | float:
        """The bias, shaped to be added to `y`; 0 where there is none."""
        return 0.0 if self.bias is None else self.bias.view(self.bias_shape(y))

    def bias_shape(self, y: Tensor) -> list[int]:
        """Shape in which a vector of biases lines up with `y`."""
        raise AssertionError


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense(Weighted):
    """Fully connected layer; features are the last dimension."""

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """W x + b; without b unless it is given."""
        return functional.linear(x, weight, bias)

    def adjoint(self, r: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """Wᵀ r, of the shape of `x`."""
        return functional.linear(r, weight.t())

    def bias_shape(self, y: Tensor) -> list[int]:
        """Biases line up with the last dimension."""
        return [-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Contraction(Weighted):
    """Sum over indices of products with a constant tensor, for example with a matrix from the left.

    Attributes:
        equation: of the output from input and weight, as `torch.einsum` takes it.
        transposed: of the input from output and weight.
    """

    equation: str
    transposed: str

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """W x; there is no bias."""
        assert bias is None
        return torch.einsum(self.equation, x, weight)

    def adjoint(self, r: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """Wᵀ r, of the shape of `x`."""
        return torch.einsum(self.transposed, r, weight)


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution(Weighted):
    """Convolution with zero padding, in any number of dimensions, with strides, dilation and groups.

    Attributes:
        padding: zeros on either side of each dimension.
        more: zeros besides where the two sides differ, as `torch.nn.functional.pad` takes them.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    more: tuple[int, ...] = ()

    def padded(self, x: Tensor) -> Tensor:
        """The input with the zeros that one side has more than the other."""
        return functional.pad(x, self.more) if self.more else x

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """W * x + b; without b unless it is given."""
        zeros, x = [0] * len(self.stride), self.padded(x)
        return torch.convolution(x, weight, bias, self.stride, self.padding, self.dilation, False, zeros, self.groups)

    def adjoint(self, r: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """Wᵀ * r, of the shape of `x`."""
        zeros, wanted, x = [0] * len(self.stride), [True, False, False], self.padded(x)
        gradient: Tensor = torch.ops.aten.convolution_backward(
            r, x, weight, None, self.stride, self.padding, self.dilation, False, zeros, self.groups, wanted
        )[0]
        return functional.pad(gradient, [-n for n in self.more]) if self.more else gradient

    def bias_shape(self, y: Tensor) -> list[int]:
        """Biases line up with the channels."""
        return [-1] + [1] * (y.dim() - 2)

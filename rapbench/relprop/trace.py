"""A network's forward pass as a graph of layers, by torch.fx, without touching the network."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from rapbench.core.errors import UnsupportedLayer, first_line
from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import (
    Add,
    AveragePool,
    BatchNorm,
    Concatenate,
    Convolution,
    Dense,
    Identity,
    Input,
    Layer,
    MaxPool,
    Rearrange,
    Rectifier,
    Size,
    Unsupported,
)

_MODULES: dict[type[nn.Module], type[Layer]] = {
    nn.ReLU: Rectifier,
    nn.ReLU6: Rectifier,
    nn.Identity: Identity,
    nn.modules.dropout._DropoutNd: Identity,
    nn.Flatten: Rearrange,
    nn.modules.pooling._MaxPoolNd: MaxPool,
    nn.modules.pooling._AdaptiveMaxPoolNd: MaxPool,
    nn.modules.pooling._AvgPoolNd: AveragePool,
    nn.modules.pooling._AdaptiveAvgPoolNd: AveragePool,
}
_FUNCTIONS: dict[str, type[Layer]] = {
    **dict.fromkeys(["relu", "relu_", "relu6"], Rectifier),
    **dict.fromkeys(["dropout", "dropout1d", "dropout2d", "contiguous", "clone", "detach"], Identity),
    **dict.fromkeys(
        ["flatten", "view", "reshape", "squeeze", "unsqueeze", "permute", "transpose", "getitem"], Rearrange
    ),
    **dict.fromkeys(["max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool2d"], MaxPool),
    **dict.fromkeys(["avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool2d", "mean"], AveragePool),
    **dict.fromkeys(["add", "add_"], Add),
    **dict.fromkeys(["cat", "concat"], Concatenate),
    **dict.fromkeys(["size", "dim"], Size),
    **dict.fromkeys(["batch_norm"], BatchNorm),
    **dict.fromkeys(["conv1d", "conv2d", "conv3d"], Convolution),
    **dict.fromkeys(["linear"], Dense),
}
_PURE: dict[str, Callable[..., Any]] = {
    "relu": torch.relu,
    "relu_": torch.relu,
    "relu6": functional.relu6,
    "add_": torch.add,
}
"""What runs instead of operations that may write into their input."""
_BUNDLES = {"chunk", "split", "unbind"}
_CONVOLUTION: dict[str, Any] = {"weight": None, "bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
"""Arguments of a convolution after its input, in order, with their defaults."""
_STATISTICS = ("running_mean", "running_var", "weight", "bias", "eps")


def trace(model: nn.Module) -> Graph:
    """The graph of a classifier in evaluation mode; a graph is its own trace.

    The model is left as it was: nothing is copied, moved or switched for good, and in-place operations of the model
    are run out of place by the graph.

    Raises:
        UnsupportedLayer: the forward pass cannot be traced (for example it branches on values).
    """
    if isinstance(model, Graph):
        return model
    with evaluating(model):
        try:
            nodes = _Tracer().trace(model).nodes
        except Exception as error:
            raise UnsupportedLayer(f"cannot trace {type(model).__name__}: {first_line(error)}") from error
    return _Lowering(model).graph(nodes)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards every module is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


class _Tracer(fx.Tracer):
    """Keeps every layer whose kind is known as one node, also when a user has subclassed it."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = (*_MODULES, nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase)
        return isinstance(m, known) or super().is_leaf_module(m, module_qualified_name)


class _Lowering:
    """Turns traced nodes into layers, one by one, in order."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.layers: list[Layer] = []
        self.position: dict[fx.Node, int] = {}
        self.constant: dict[fx.Node, object] = {}
        self.bundles: set[fx.Node] = set()

    def graph(self, nodes: fx.graph._node_list) -> Graph:
        for node in nodes:
            if node.op == "output":
                return Graph(self.layers, self._output(node))
            layer = getattr(self, f"_{node.op}")(node)
            if layer is not None:
                self.position[node] = len(self.layers)
                if self._writes(node):  # whoever reads the input from here on reads the result
                    self.position[node.all_input_nodes[0]] = len(self.layers)
                self.layers.append(layer)
        raise AssertionError("a traced graph has an output")

    def _writes(self, node: fx.Node) -> bool:
        """Whether an operation writes its result into its first input."""
        if node.op == "call_module":
            return bool(getattr(self.model.get_submodule(str(node.target)), "inplace", False))
        method = node.op == "call_method" and str(node.target).endswith("_")
        return method or bool(node.kwargs.get("inplace"))

    def _output(self, node: fx.Node) -> int:
        result = node.args[0]
        if not (isinstance(result, fx.Node) and result in self.position):
            raise UnsupportedLayer(f"{type(self.model).__name__} must return one tensor of logits (N, K), not {result}")
        return self.position[result]

    def _placeholder(self, node: fx.Node) -> Layer | None:
        if not self.layers:
            return Input(name=node.name, operation="input", inputs=(), function=lambda x: x)
        self.constant[node] = node.args[0] if node.args else None
        return None

    def _get_attr(self, node: fx.Node) -> None:
        self.constant[node] = operator.attrgetter(str(node.target))(self.model)

    def _call_module(self, node: fx.Node) -> Layer:
        module = self.model.get_submodule(str(node.target))
        common: dict[str, Any] = {
            "name": str(node.target),
            "operation": type(module).__name__,
            "inputs": self._positions(node)[0],
        }
        if isinstance(module, nn.modules.conv._ConvNd) and not module.transposed:
            if module.padding_mode != "zeros":
                return Unsupported(**common, function=module)
            return _convolution(common, module, **{key: getattr(module, key) for key in _CONVOLUTION})
        if isinstance(module, nn.Linear):
            return Dense(**common, function=module, weight=module.weight, bias=module.bias)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            return _batch_norm(common, {key: getattr(module, key) for key in _STATISTICS})
        kind = next((kind for base, kind in _MODULES.items() if isinstance(module, base)), Unsupported)
        return kind(**common, function=_PURE.get(type(module).__name__.lower(), module))

    def _call_function(self, node: fx.Node) -> Layer | None:
        assert callable(node.target)
        return self._call(node, getattr(node.target, "__name__", str(node.target)), node.target)

    def _call_method(self, node: fx.Node) -> Layer | None:
        name = str(node.target)
        return self._call(node, name, lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs))

    def _call(self, node: fx.Node, name: str, target: Callable[..., Any]) -> Layer | None:
        if name in _BUNDLES:
            self.bundles.add(node)
            return None
        source = node.args[0] if node.args else None
        if name == "getitem" and isinstance(source, fx.Node) and source in self.bundles:
            return self._member(node, source)
        inputs, sizes = self._positions(node)
        kind = self._kind(node, name, inputs)
        common: dict[str, Any] = {"name": node.name, "operation": name, "inputs": inputs, "sizes": sizes}
        target = _PURE.get(name, target)
        function = target if kind is Rectifier else partial(_apply, target, *self._templates(node))
        if kind in (Convolution, Dense, BatchNorm):
            return self._functional(node, kind, common, function)
        return kind(**common, function=function)

    def _kind(self, node: fx.Node, name: str, inputs: tuple[int, ...]) -> type[Layer]:
        if not inputs or (name == "getattr" and node.args[1] == "shape"):
            return Size
        kind = _FUNCTIONS.get(name, Unsupported)
        if kind is Add and not (len(node.args) == 2 and all(a in self.position for a in node.args) and not node.kwargs):
            return Unsupported
        return kind

    def _member(self, node: fx.Node, bundle: fx.Node) -> Layer:
        """One tensor of a chunk or split: the two operations become one."""
        name = getattr(bundle.target, "__name__", str(bundle.target))
        args, kwargs, index = bundle.args[1:], bundle.kwargs, node.args[1]
        inputs = self._positions(bundle)[0]

        def function(x: Tensor) -> Tensor:
            part: Tensor = getattr(x, name)(*args, **kwargs)[index]
            return part

        return Rearrange(name=node.name, operation=name, inputs=inputs, function=function)

    def _functional(
        self, node: fx.Node, kind: type[Layer], common: dict[str, Any], function: Callable[..., Any]
    ) -> Layer:
        """A convolution, dense layer or batch norm written as a function call."""
        names = {
            Convolution: ["input", *_CONVOLUTION],
            Dense: ["input", "weight", "bias"],
            BatchNorm: ["input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"],
        }[kind]
        given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        given = {key: self.constant.get(v, v) if isinstance(v, fx.Node) else v for key, v in given.items()}
        if any(isinstance(value, fx.Node) for key, value in given.items() if key != "input"):
            return Unsupported(**common, function=function)
        if kind is BatchNorm:
            return _batch_norm(common, {key: given.get(key, 1e-5 if key == "eps" else None) for key in _STATISTICS})
        if kind is Dense:
            return Dense(**common, function=function, weight=given["weight"], bias=given.get("bias"))
        return _convolution(common, function, **{key: given.get(key, default) for key, default in _CONVOLUTION.items()})

    def _templates(self, node: fx.Node) -> tuple[Any, Any]:
        """A node's arguments with a slot where a layer's value goes and every constant in its place."""
        inputs, sizes = self._positions(node)
        order = (*inputs, *sizes)

        def slot(n: fx.Node) -> Any:
            if n in self.bundles:
                raise UnsupportedLayer(f"{n.target} at node {n.name!r} is used whole; only its parts one by one can be")
            return _Slot(order.index(self.position[n])) if n in self.position else self.constant[n]

        return fx.node.map_arg(node.args, slot), fx.node.map_arg(node.kwargs, slot)

    def _positions(self, node: fx.Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Positions of the tensors and of the sizes among a node's arguments, each once, in order."""
        found = dict.fromkeys(self.position[n] for n in node.all_input_nodes if n in self.position)
        sizes = tuple(i for i in found if isinstance(self.layers[i], Size))
        return tuple(i for i in found if i not in sizes), sizes


def _tuple(value: Any, dims: int) -> tuple[int, ...]:
    return (value,) * dims if isinstance(value, int) else tuple(value)


def _batch_norm(common: dict[str, Any], given: dict[str, Any]) -> BatchNorm:
    mean, var, weight, bias, eps = (given[key] for key in _STATISTICS)

    def function(x: Tensor) -> Tensor:
        return functional.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    return BatchNorm(**common, function=function, **given)


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
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(t % 2 for t in total):
            return Unsupported(**common, function=function)
        padding = tuple(t // 2 for t in total)
    padding = _tuple(0 if padding == "valid" else padding, dims)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return Convolution(**common, function=function, weight=weight, bias=bias, **geometry)


class _Slot(int):
    """Stands for the n-th of a layer's values in the template of its arguments."""


def _apply(target: Callable[..., Any], args: Any, kwargs: Any, *values: Any) -> Any:
    def fill(item: Any) -> Any:
        if isinstance(item, _Slot):
            return values[item]
        if isinstance(item, (list, tuple)):
            return type(item)(fill(i) for i in item)
        if isinstance(item, slice):
            return slice(fill(item.start), fill(item.stop), fill(item.step))
        return item

    return target(*(fill(a) for a in args), **{key: fill(v) for key, v in kwargs.items()})

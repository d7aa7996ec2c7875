"""What a network does with images, recorded while it runs.

A network's code is not read but run, once on two images and once on one, and every operation on tensors is written
down: what calls it, hooks, wrappers and subclasses do not matter then. What does not depend on the images is a
constant; a number that doubles with them is their number. Operations in place are recorded as what they leave in every
tensor that shares the memory they write into.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from rapbench.core.errors import UnsupportedLayer, first_line
from rapbench.relprop.tracing.attention import taken_apart
from rapbench.relprop.tracing.places import Place, Places
from rapbench.relprop.tracing.templates import Ref, leaves, mapped

_READS = {
    *("item", "tolist", "numpy", "equal", "allclose", "is_nonzero"),
    *("__bool__", "__int__", "__float__", "__index__", "__complex__", "__array__", "__contains__"),
}
"""Functions that hand a tensor's values to Python."""
_FILLED = {
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "zeros_like", "ones_like", "full_like"),
    "empty_like",
}
"""Functions that take from a tensor only how it looks."""
_LIKE: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("view_as", "reshape_as"), torch.Tensor.reshape),
    **dict.fromkeys(("to", "type_as"), torch.Tensor.to),
    "expand_as": torch.Tensor.expand,
}
"""Functions that make a tensor look like another, and what does so given the shape or type alone."""
_UNTRACKED = {"set_", "resize_", "resize_as_", "apply_", "map_"}
"""Functions that change a tensor without leaving a value."""


class Unseen(UnsupportedLayer):
    """What a network does cannot be followed, though its own gradient may be right."""


@dataclass(frozen=True, eq=False)
class Call:
    """One operation: its function and its arguments, a `Ref` for each tensor among them."""

    name: str
    function: Callable[..., Any]
    args: Any
    kwargs: Any
    place: Place
    writes: frozenset[Ref] = frozenset()


@dataclass(frozen=True, eq=False)
class Value:
    """What a tensor holds from some moment on.

    Attributes:
        tensor: that tensor, kept.
        depends: whether it may depend on the images.
        call: the operation it comes from; None for the images and for tensors from outside.
        pick: the n-th tensor that the operation returns, or the argument that it has written into.
    """

    tensor: Tensor
    depends: bool = False
    call: Call | None = None
    pick: int | Ref = 0


@dataclass
class Recording:
    """Every value of one forward pass in order, the images first.

    Attributes:
        values: the values.
        lost: those whose tensors have been written into since.
        output: the one that was returned.
    """

    values: list[Value] = field(default_factory=list)
    lost: set[Ref] = field(default_factory=set)
    output: Ref = field(default_factory=Ref)


def recorded(model: nn.Module, x: Tensor) -> Recording:
    """What a network does with `x`, which is left as it is.

    Raises:
        UnsupportedLayer: its code fails, or does what no record can tell; the message names the place.
    """
    places = Places(model)
    recorder = _Recorder(places)
    with _undisturbed(x):
        images = x.clone()
        recorder.begin(images)
        try:
            with recorder:
                result = model(images)
        except UnsupportedLayer:
            raise
        except Exception as error:
            place = places.of(error)
            raise Unseen(
                f"{type(model).__name__} fails on {tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}: "
                f"{first_line(error)}, at {place}"
            ) from error
    if not isinstance(result, Tensor) or id(result) not in recorder.current:
        kind = type(result).__name__
        raise Unseen(f"{type(model).__name__} must return one tensor of logits (N, K), not {kind}")
    recorder.recording.output = recorder.current[id(result)]
    return recorder.recording


@contextmanager
def _undisturbed(x: Tensor) -> Iterator[None]:
    """No gradients, no autocast, no compilation, and the random generators as they were afterwards."""
    devices = [x.device] if x.is_cuda else []
    with (
        torch.inference_mode(mode=False),
        torch.no_grad(),
        torch.autocast(x.device.type, enabled=False),
        torch.random.fork_rng(devices),
        torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext(),
    ):
        yield


class _Recorder(TorchFunctionMode):
    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places
        self.recording = Recording()
        self.current: dict[int, Ref] = {}
        self.sharing: dict[int, list[Tensor]] = defaultdict(list)

    def begin(self, images: Tensor) -> None:
        self.images = images
        self._hold(images, depends=True)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        tensors = [t for t in leaves((args, given)) if isinstance(t, Tensor)]
        name = name_of(func)
        if steps := taken_apart(name, args, given):
            with self:
                return steps(*args, **given)
        self._check(name, func, args, given, tensors)
        references = {id(t): self._reference(t) for t in tensors}
        versions, drawn = [_version(t) for t in tensors], _draws(self.images)
        result = func(*args, **given)
        if drawn != _draws(self.images):
            self.refuse(name, "it draws random numbers")
        written = _written(name, tensors, versions)
        made = [t for t in leaves(result) if isinstance(t, Tensor)]
        if made or written:
            func, args = (_LIKE[name], _looks(func, args)) if name in _LIKE else (func, args)
            args, given = mapped(lambda a: references[id(a)] if isinstance(a, Tensor) else a, (args, given))
            writes = frozenset(references[id(t)] for t in written)
            call = Call(name, func, args, given, self.places.here(), writes)
            self._follow(call, references, written, made)
        return result

    def refuse(self, name: str, reason: str, kind: type[UnsupportedLayer] = UnsupportedLayer) -> None:
        """Says where the operation is and why it cannot be followed."""
        raise kind(f"cannot follow {name} at {self.places.here()}: {reason}")

    def _check(self, name: str, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
        """What must not even run, because it would leave something behind, or tell nobody what it did."""
        depending = any(id(t) in self.current and self._value(t).depends for t in tensors)
        if name in _READS and depending:
            self.refuse(name, "the network's code depends on the values of its images", Unseen)
        if name in _UNTRACKED or (name == "data" and func.__name__ == "__set__"):
            self.refuse(name, "it replaces a tensor's memory")
        if depending and name in {"batch_norm", "native_batch_norm"} and _normalises_by_batch(func, args, kwargs):
            self.refuse(name, "it normalises by the batch, so that an image's logits depend on the others")
        if depending and torch.is_autocast_enabled(self.images.device.type):
            self.refuse(name, "it runs under autocast")

    def _value(self, t: Tensor) -> Value:
        return self.recording.values[self.current[id(t)]]

    def _reference(self, t: Tensor) -> Ref:
        """The value a tensor holds now; a tensor from outside is met here for the first time."""
        return self.current[id(t)] if id(t) in self.current else self._hold(t)

    def _hold(self, t: Tensor, *, depends: bool = False, call: Call | None = None, pick: int | Ref = 0) -> Ref:
        """A new value of a tensor."""
        if id(t) not in self.current:
            self.sharing[_memory(t)].append(t)
        self.current[id(t)] = Ref(len(self.recording.values))
        self.recording.values.append(Value(t, depends, call, pick))
        return self.current[id(t)]

    def _depends(self, call: Call) -> bool:
        """Whether the result may depend on the images, not only on their number or type."""
        if call.name in _FILLED:
            return False
        return any(self.recording.values[r].depends for r in leaves((call.args, call.kwargs)) if isinstance(r, Ref))

    def _follow(self, call: Call, before: Mapping[int, Ref], written: list[Tensor], made: list[Tensor]) -> None:
        """New values for what an operation has written into, for whatever shares its memory, and for its results."""
        depends = self._depends(call)
        if depends and call.place.custom:
            self.refuse(call.name, "it belongs to a function with a gradient of its own", Unseen)
        for t in written:
            self._lose(t, call)
            self._hold(t, depends=depends, call=call, pick=before[id(t)])
            self._spread(t, call)
        for n, t in enumerate(made):
            if not any(t is w for w in written):
                self._hold(t, depends=depends, call=call, pick=n)

    def _lose(self, t: Tensor, call: Call) -> None:
        """A tensor no longer holds what it held."""
        if self._value(t).call is None and t is not self.images:
            self.refuse(call.name, "it writes into a tensor that the network keeps")
        self.recording.lost.add(self.current[id(t)])

    def _spread(self, source: Tensor, call: Call) -> None:
        """What a write leaves in the other tensors that share the memory."""
        for t in self.sharing[_memory(source)]:
            if t is source:
                continue
            if _is_same(t, source):
                self._lose(t, call)
                self.current[id(t)] = self.current[id(source)]
            elif covered := _covered(t, source):
                self._lose(t, call)
                where = self.places.here()
                new, old = self.current[id(source)], self.current[id(t)]
                depends = self._value(source).depends or self._value(t).depends
                args = (new, _layout(source), _layout(t), None if covered == "whole" else old)
                self._hold(t, depends=depends, call=Call("overlaid", overlaid, args, {}, where))


def overlaid(new: Tensor, written: Any, read: Any, old: Tensor | None) -> Tensor:
    """What a tensor holds after another one that shares its memory was written into.

    Args:
        new: what was written.
        written: size, stride and offset of the tensor it was written to.
        read: those of the tensor that is read.
        old: what that one held before; None where nothing of it is left.
    """
    buffer = new.new_zeros(max(_extent(written), _extent(read)))
    if old is not None:
        buffer.as_strided(*read).copy_(old)
    buffer.as_strided(*written).copy_(new)
    return buffer.as_strided(*read).clone()


def _looks(func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with the type or shape of every tensor but the first in its place."""
    typed = _LIKE[name_of(func)] is torch.Tensor.to
    return args[0], *((a.dtype if typed else tuple(a.shape)) if isinstance(a, Tensor) else a for a in args[1:])


def _extent(layout: Any) -> int:
    size, stride, offset = layout
    return int(offset + 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)))


def _layout(t: Tensor) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Size, stride and offset."""
    return tuple(t.shape), t.stride(), int(t.storage_offset())


def _is_same(t: Tensor, other: Tensor) -> bool:
    """Whether two tensors that share their memory have the same values at the same places."""
    steps = ([s for n, s in zip(v.shape, v.stride(), strict=True) if n > 1] for v in (t, other))
    return _layout(t)[::2] == _layout(other)[::2] and next(steps) == next(steps)


def _covered(t: Tensor, source: Tensor) -> str:
    """How much of a tensor's memory belongs to another one too: '', 'part' or 'whole'."""
    layouts = _layout(source), _layout(t)
    mark = torch.zeros(max(map(_extent, layouts)), dtype=torch.bool)
    mark.as_strided(*layouts[0]).fill_(1)
    shared = mark.as_strided(*layouts[1])
    return "whole" if shared.all() else "part" if shared.any() else ""


def _memory(t: Tensor) -> int:
    return t.untyped_storage()._cdata if t.layout == torch.strided and not t.is_quantized else id(t)


def _version(t: Tensor) -> int:
    return -1 if t.is_inference() else t._version


def _written(name: str, tensors: list[Tensor], versions: list[int]) -> list[Tensor]:
    """The arguments an operation has written into, each once."""
    found = {id(t): t for t, v in zip(tensors, versions, strict=True) if _version(t) != v}
    if tensors and tensors[0].is_inference() and (name.endswith("_") or name == "setitem"):
        found[id(tensors[0])] = tensors[0]
    return list(found.values())


def _draws(x: Tensor) -> object:
    """What changes when random numbers are drawn."""
    state = torch.default_generator.get_state().numpy().tobytes()
    return (state, torch.cuda.default_generators[x.device.index or 0].get_offset()) if x.is_cuda else state


def name_of(func: Any) -> str:
    """What a function is called, without what tells its variants apart."""
    name = str(getattr(func, "__name__", func))
    if name in {"__get__", "__set__", "__delete__"}:
        return str(getattr(func.__self__, "__name__", name))
    if name in _READS:
        return name
    name = name.split(".", maxsplit=1)[0]
    return name.strip("_") if name.startswith("__") else name.lstrip("_")


def _normalises_by_batch(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a batch norm takes the mean and variance of its input."""
    training = kwargs.get("training", args[5] if len(args) > 5 else False)
    mean = kwargs.get("running_mean", args[1 if func is functional.batch_norm else 3])
    return bool(training) or mean is None

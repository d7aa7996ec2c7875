"""Where in a network's code something happens: the module's path and class, the file and line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, TracebackType

import torch
from torch import nn

_TORCH, _OWN = (str(Path(file).parent) for file in (torch.__file__, __file__))


@dataclass(frozen=True)
class Place:
    """Where an operation is called.

    Attributes:
        path: of the innermost module that the network holds under a name; '' is the network itself.
        kind: class of the innermost module, also of one that has no name.
        leaf: whether that module has a name, belongs to PyTorch, holds no others, and calls the operation itself.
        line: file and line of the code outside PyTorch, where there is any inside the network.
        custom: whether the code is that of a function with a gradient of its own.
    """

    path: str
    kind: str
    leaf: bool = False
    line: str = ""
    custom: bool = False

    def __str__(self) -> str:
        return ", ".join(filter(None, (f"{self.path} ({self.kind})" if self.path else self.kind, self.line)))

    @property
    def code(self) -> str:
        """Class, file and line of what a module's path does not tell."""
        return "" if self.leaf else ", ".join(filter(None, (self.kind, self.line)))


class Places:
    """The places of one network."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {id(module): path for path, module in model.named_modules()}
        self.root = type(model).__name__
        self.custom = set(_forwards(torch.autograd.Function))

    def here(self) -> Place:
        """The place of the code that calls this."""
        return self._place(_outwards(sys._getframe(1)))

    def of(self, error: BaseException) -> Place:
        """The place an error came from."""
        return self._place(reversed(list(_inwards(error.__traceback__))))

    def _place(self, frames: Iterable[tuple[FrameType, int]]) -> Place:
        """From the innermost frame outwards to the first that belongs to a module with a name."""
        kind, line, leaf, custom = "", "", False, False
        for frame, number in frames:
            file = frame.f_code.co_filename
            if file.startswith(_OWN):
                continue
            custom = custom or frame.f_code in self.custom
            if not line and not file.startswith(_TORCH):
                line = f"{Path(file).name} line {number}"
            module = frame.f_locals.get("self")
            if not isinstance(module, nn.Module):
                continue
            if not kind:
                kind, leaf = type(module).__name__, not line and _is_leaf(module)
            if id(module) in self.names:
                path = self.names[id(module)]
                return Place(path, kind, leaf and bool(path) and type(module).__name__ == kind, line, custom)
        return Place("", self.root, custom=custom)


def _outwards(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    while frame is not None:
        yield frame, frame.f_lineno
        frame = frame.f_back


def _inwards(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _is_leaf(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.modules") and not list(module.children())


def _forwards(kind: type) -> Iterator[CodeType]:
    """The code of every function with a gradient of its own."""
    inner: type
    for inner in kind.__subclasses__():
        code = getattr(getattr(inner, "forward", None), "__code__", None)
        if code is not None:
            yield code
        yield from _forwards(inner)

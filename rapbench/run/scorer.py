"""A network as metrics ask it: for the logits of any number of inputs, in an arithmetic of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.errors import BadConfig, last_line
from rapbench.run.batches import Batches

DTYPES = {"bf16": torch.bfloat16, "fp64": torch.float64}
"""What networks and inputs are cast to, by precision; float32 by any other."""


def layout(device: torch.device, precision: str) -> torch.memory_format:
    """How images lie in memory where convolutions are fastest on them.

    Channels last, but for exact float32 products on CUDA devices: there channels first is 1.1 to 1.2 times as fast
    (results/benchmark_gpu.md).
    """
    first = device.type == "cuda" and precision not in {"tf32", "bf16"}
    return torch.contiguous_format if first else torch.channels_last


class Scorer:
    """Logits (M, K), float32 or float64, of inputs (M, C, H, W), without gradients, in batches that fit."""

    def __init__(self, module: nn.Module, precision: str, batches: Batches, *, compiled: bool = False) -> None:
        self.precision = precision
        self.layout = layout(next(module.parameters()).device, precision)
        self.dtype = DTYPES.get(precision, torch.float32)
        self.wide = torch.promote_types(self.dtype, torch.float32)
        self.batches = batches
        module = module.to(self.dtype).to(memory_format=self.layout)
        self.forward = compiled_for(module, batches) if compiled else module

    def __call__(self, x: Tensor) -> Tensor:
        set_products(self.precision)
        return self.batches.map(
            lambda part: self.forward(part.to(self.dtype, memory_format=self.layout)).to(self.wide), x
        )


def compiled_for(module: nn.Module, batches: Batches) -> Callable[[Tensor], Tensor]:
    """The network compiled for batches of one size; fewer inputs are filled up with zeros, not compiled for anew.

    Raises, when first called:
        BadConfig: it does not compile.
    """
    from torch._dynamo.exc import TorchDynamoException

    forward = torch.compile(module, dynamic=False)

    def filled(x: Tensor) -> Tensor:
        full = functional.pad(x, (0, 0) * (x.dim() - 1) + (0, batches.size - len(x)))
        try:
            logits: Tensor = forward(full)
        except TorchDynamoException as error:
            raise BadConfig(f"compile_scoring: torch.compile fails: {last_line(error)}") from error
        return logits[: len(x)]

    return filled


def set_products(precision: str) -> None:
    """float32 products are exact unless tf32 is asked for: ties and signs near zero depend on it."""
    allow = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow

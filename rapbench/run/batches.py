"""Work cut into batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rapbench.core.errors import BadConfig
from rapbench.core.stages import advance


class Batches:
    """A batch size that halves itself when memory runs out, and stays halved."""

    def __init__(self, size: int) -> None:
        self.size = size

    def map(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """`function` of the tensors, batch by batch along the first dimension, concatenated.

        Raises:
            BadConfig: memory runs out with a single image.
        """
        results: list[Tensor] = []
        start = 0
        while start < len(tensors[0]):
            stop = start + self.size
            try:
                results.append(function(*(tensor[start:stop] for tensor in tensors)))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                self._halve(error)
                continue
            advance(len(tensors[0][start:stop]))
            start = stop
        return torch.cat(results)

    def _halve(self, error: Exception) -> None:
        if self.size == 1:
            raise BadConfig(
                "out of memory with one image at a time; use a smaller model or another --device"
            ) from error
        self.size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

"""What a data set, a method or a metric may have besides what all of them have; told by whether it has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from rapbench.core.types import Need


@runtime_checkable
class Varied(Protocol):
    """What a data set's class has besides whose parameters decide what it provides."""

    @classmethod
    def provided(cls, parameters: Mapping[str, str]) -> frozenset[Need]:
        """What samples can hold by the parameters as typed, before any file is looked for."""
        ...


@runtime_checkable
class Complete(Protocol):
    """What a method has besides whose relevance sums to a known number: conservation or completeness."""

    def total(self, logits: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor | None:
        """What the relevance of each image should sum to, (N,); None where the parameters promise nothing.

        Args:
            logits: (M, C, H, W) -> (M, K), of any number of inputs, without gradients.
            x: (N, C, H, W) normalised input.
            target: (N,) int64.
        """
        ...


@runtime_checkable
class Identified(Protocol):
    """What a method has besides that knows images by name: it explains these and refuses, when called, all others."""

    def check(self, ids: Sequence[str], among: Sequence[str]) -> None:
        """Refuses images that it does not know; takes no time.

        Raises:
            BadConfig: there is one.
        """
        ...

    def of(self, ids: Sequence[str], among: Sequence[str], x: Tensor) -> Tensor:
        """Relevance (N, C, H, W) of images, float64.

        Args:
            ids: the images' ids.
            among: the ids of all images of their data set, in its order.
            x: (N, C, H, W) normalised input.
        """
        ...


@runtime_checkable
class Suited(Protocol):
    """What a metric's class has besides that does not take its defaults in a run that names no metrics."""

    @classmethod
    def suited(cls, *, size: int, usual_limit: int | None) -> dict[str, str]:
        """Parameters for images of a side in pixels.

        Args:
            size: of the network's input.
            usual_limit: images that the data set gives a run, None where the user chose a limit or there is no usual
                one.
        """
        ...


@runtime_checkable
class Bounded(Protocol):
    """What a metric has besides that does not take images of every size."""

    def check(self, height: int, width: int) -> None:
        """Refuses images of so many pixels, before any is read and whenever it is called.

        Raises:
            BadConfig: they are too few.
        """
        ...


def asks_for_maps(metric: object) -> bool:
    """Whether a metric has the method explain more inputs, classes or weights than the run does."""
    return getattr(metric, "explains", False)

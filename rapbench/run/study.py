"""What is measured of a network itself, not of single explanations. This file names the studies and imports none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from rapbench.core.catalogue import Catalogue, Entry

if TYPE_CHECKING:
    from rapbench.results.store import Block, Columns
    from rapbench.run.plan import Experiment

STUDIES = Catalogue(
    "study",
    {
        "signal_quality": Entry(
            "rapbench.papers.pattern2017.signal_quality:SignalQuality",
            "how much of each unit's output signal estimators leave in the distractor (Kindermans et al. 2018)",
        ),
    },
)


class Study(Protocol):
    """A study; a frozen dataclass whose fields are its parameters.

    Its work is divided as that of a metric: into blocks, each a task with a file of rows, so that shards, resumption,
    status and previews hold for it. Positions are places of what is measured, for example layers, not of images.
    """

    title: ClassVar[str]
    signed: ClassVar[bool]
    block_size: ClassVar[int]
    """Positions a block."""

    def size(self, experiment: Experiment) -> int:
        """How many positions there are."""
        ...

    def rests_on(self, experiment: Experiment) -> Mapping[str, Any]:
        """Which images its numbers rest on: enters the key."""
        ...

    def num_read(self, experiment: Experiment) -> int:
        """How many images one block reads."""
        ...

    def rows(self, experiment: Experiment, block: Block, progress: Callable[[int], None]) -> Columns:
        """The rows of a block's positions, which `index` names; `progress` is told how many more images are read."""
        ...

"""What a run would do and cost, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rapbench.cli.finished import summary

if TYPE_CHECKING:
    from rapbench.doctor.probe import Cost, Measured
    from rapbench.run.plan import Experiment
    from rapbench.run.rehearsal import Rehearsal
    from rapbench.run.selection import Scan


@dataclass(frozen=True, kw_only=True)
class Preview:
    """An experiment of which nothing has been computed.

    Attributes:
        experiment: the run.
        scan: of the images that are classified correctly, where only these are taken; None elsewhere.
        images: to explain, one count for each method.
        costs: of every stage, extrapolated from a few images.
        remarks: what a run does first, which is not among the costs.
    """

    experiment: Experiment
    scan: Scan | None
    images: int
    costs: Sequence[Cost]
    remarks: Sequence[str]

    def document(self) -> dict[str, Any]:
        """It as `--json` prints it."""
        return {
            "run": self.experiment.spec.model_dump(mode="json"),
            "model_title": self.experiment.classifier.title,
            "images": self.images,
            "first": list(self.remarks),
            "costs": [asdict(cost) for cost in self.costs],
            "seconds": sum(cost.seconds for cost in self.costs),
        }

    def text(self) -> str:
        """It as a terminal shows it."""
        what = "to read" if self.experiment.study else "to explain"
        lines = [summary(self.experiment), *self._selection(), f"{what}: {self.images} images"]
        if not self.experiment.study:
            lines[-1] += " (one count for each method)"
        return "\n".join([*lines, *self.remarks, *self._table()])

    def _selection(self) -> list[str]:
        if self.scan is None:
            return []
        found = self.scan if self.scan.ids else "not made yet; counted as if every image were correct"
        return [f"selection: {found}"]

    def _table(self) -> list[str]:
        if not self.costs:
            return []
        width = max(len(cost.stage) for cost in self.costs)
        lines = [f"{'stage':<{width}}  forward passes  images  minutes, from a few images"]
        lines += [
            f"{c.stage:<{width}}  {c.forwards:<14.1f}  {c.images:<6}  {'at least ' * c.at_least}{c.seconds / 60:.1f}"
            for c in self.costs
        ]
        forwards = sum(cost.forwards * cost.images for cost in self.costs)
        minutes = sum(cost.seconds for cost in self.costs) / 60
        least = "at least " * any(cost.at_least for cost in self.costs)
        return [*lines, f"in all: {least}{forwards:.0f} forward passes of an image, {minutes:.1f} minutes"]


def preview(rehearsal: Rehearsal, measured: Measured) -> Preview:
    """What is missing of a run in its results folder, and what it would cost."""
    from rapbench.cli.progress import ProgressBar
    from rapbench.doctor.probe import probe
    from rapbench.results.store import Store
    from rapbench.run.selection import selection_file, stored

    experiment = rehearsal.experiment
    scan = stored(selection_file(experiment)) if experiment.spec.select == "correct" else None
    tasks = experiment.pending(Store(experiment.spec.out))
    images = sum(experiment.num_images(task) for task in tasks)
    with ProgressBar():
        costs = probe(experiment, tasks, measured)
    return Preview(experiment=experiment, scan=scan, images=images, costs=costs, remarks=rehearsal.remarks)

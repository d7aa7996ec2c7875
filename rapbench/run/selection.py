"""Which images a run takes: those that the network classifies correctly, in order, until there are enough."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from rapbench.core.errors import BadConfig
from rapbench.core.paths import stem_of
from rapbench.core.types import Sample
from rapbench.core.writing import write_whole
from rapbench.results.claims import Claims
from rapbench.results.seal import sealed, unsealed
from rapbench.run.engine import Progress
from rapbench.run.explainer import Explainer
from rapbench.run.plan import Experiment, blocks, candidates
from rapbench.run.reading import read
from rapbench.run.target import PREDICTED

_POLL_SECONDS = 2.0
_SAVED_EVERY = 16
"""Blocks between two savings of a scan that goes on."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """How far a scan of the data set has come.

    Attributes:
        ids: the images chosen, in order.
        scanned: images looked at.
        dropped: reason -> images passed over for it.
        unreadable: positions of those that could not be read.
    """

    ids: tuple[str, ...] = ()
    scanned: int = 0
    dropped: Mapping[str, int]
    unreadable: tuple[int, ...] = ()

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        return f"{len(self.ids)} of the first {self.scanned} images ({reasons or 'none'} dropped)"


def settled(experiment: Experiment) -> Experiment:
    """The experiment on the images it is to take: selected where that is asked for, as they are otherwise."""
    return selected(experiment, _unheard)[0] if experiment.spec.select == "correct" else experiment


def _unheard(_: int) -> None:
    pass


def selected(experiment: Experiment, progress: Progress) -> tuple[Experiment, Scan]:
    """The experiment on the images that its network classifies correctly and, where boxes are known, that have some.

    The list is kept in the results folder under `selections`; a scan that was stopped goes on, one that passed over an
    image that can be read now begins anew, and of several workers one scans while the others wait.

    Raises:
        BadConfig: no image is left.
    """
    wanted, everything = experiment.spec.limit or len(experiment.dataset), candidates(experiment)
    file = selection_file(experiment)
    whole = replace(experiment, order=everything, target=PREDICTED)  # whichever class is explained afterwards
    if any(map(whole.is_readable, stored(file).unreadable)):
        file.unlink(missing_ok=True)
    with Claims(experiment.spec.out / "claims") as claims:
        while len((found := stored(file)).ids) < wanted and found.scanned < len(everything):
            if not claims.take(file.name):
                time.sleep(_POLL_SECONDS)
                continue
            found = _scan(whole, stored(file), wanted, file, progress)
            claims.release(file.name)
    if not found.ids:
        raise BadConfig(f"no image to explain is left: {found}")
    places = {image_id: index for index, image_id in enumerate(experiment.dataset.ids)}
    return replace(experiment, order=tuple(places[image_id] for image_id in found.ids[:wanted])), found


def selection_file(experiment: Experiment) -> Path:
    """Where the results folder keeps the list; its name depends on what the list depends on."""
    document = next(iter(experiment.cells.values())).identity.document()
    basis = {key: document[key] for key in ("dataset", "model", "precision", "device")}
    if experiment.spec.shuffle:
        basis["seed"] = experiment.spec.seed
    digest = hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:16]
    name = f"{experiment.dataset_name}.{experiment.classifier.name}"
    return experiment.spec.out / "selections" / f"{stem_of(name)}.{digest}.json"


def stored(file: Path) -> Scan:
    """The selection in a file; an empty one where there is none, or not as it was written."""
    held = unsealed(file)
    if held is None:
        return Scan(dropped={})
    return Scan(**{**held, "ids": tuple(held["ids"]), "unreadable": tuple(held["unreadable"])})


def _scan(experiment: Experiment, done: Scan, wanted: int, file: Path, progress: Progress) -> Scan:
    assert experiment.has_labels, "checked when the spec was resolved"
    explainer = Explainer(experiment)
    ids, dropped, unreadable = list(done.ids), Counter(done.dropped), list(done.unreadable)
    rest = [block for block in blocks(experiment.limit) if block.start >= done.scanned]
    with torch.no_grad():
        for n, loaded in enumerate(read(experiment, rest), start=1):
            skipped = [incident for incident in loaded.incidents if incident.skipped]
            dropped.update(incident.reason for incident in skipped)
            unreadable += [incident.position for incident in skipped]
            clean = explainer.classified(loaded)
            for sample, predicted in zip(loaded.samples, clean.predicted.cpu() if clean else (), strict=True):
                if reason := _fault(sample, predicted, needs_boxes="boxes" in experiment.dataset.provides):
                    dropped[reason] += 1
                else:
                    ids.append(sample.id)
            progress(loaded.block.stop - loaded.block.start)
            scanned = loaded.block.stop
            done = Scan(ids=tuple(ids), scanned=scanned, dropped=dict(dropped), unreadable=tuple(unreadable))
            enough = len(ids) >= wanted
            if enough or n % _SAVED_EVERY == 0 or n == len(rest):
                write_whole(file, sealed(asdict(done)))
            if enough:
                break
    return done


def _fault(sample: Sample, predicted: Tensor, *, needs_boxes: bool) -> str:
    """Why an image is passed over, '' where it is taken."""
    if sample.label is None:
        return "unlabelled"
    if int(predicted) != sample.label:
        return "misclassified"
    return "without boxes" if needs_boxes and sample.boxes is None else ""

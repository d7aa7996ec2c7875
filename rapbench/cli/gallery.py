"""The images of a report's gallery with their maps: read from a folder of maps, or computed again for these alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rapbench.cli.again import prepared
from rapbench.cli.failures import said
from rapbench.core.errors import DataMissing, SpecMismatch, last_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rapbench.core.named import Named
    from rapbench.core.types import Method
    from rapbench.report.html.gallery import Gallery, Shown
    from rapbench.report.picks import Ranking
    from rapbench.report.result import Result
    from rapbench.report.runs import Run
    from rapbench.run.explainer import Classified, Explainer
    from rapbench.run.plan import Experiment
    from rapbench.run.reading import Loaded

_AT_ONCE = 8
"""Images that are explained together."""
Maps = dict[str, dict[str, "NDArray[Any]"]]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a gallery is asked for.

    Attributes:
        by: metric, or metric and variant joined by a slash, that ranks images; the first of the run by default.
        most: different images at most, of each run.
        maps: folder of maps that `--save-maps` wrote.
        data_root: folder of the data sets.
        given: settings of `rapbench run` that a store does not hold whole: where own networks and weight files lie.
    """

    by: str = ""
    most: int
    maps: Path | None = None
    data_root: Path | None = None
    given: Mapping[str, str]


def gallery(run: Run, found: Sequence[Result], wish: Wish) -> Gallery:
    """The gallery of a run.

    Args:
        run: whose images are shown.
        found: all numbers of the run.
        wish: what is asked for.

    Raises:
        DataMissing: no metric gives images scores of their own, or data or weights are not there.
        SpecMismatch: data, weights or code are others than those of the rows.
        RapbenchError: whatever else a run of the same settings would say.
    """
    from rapbench.report.html.gallery import Gallery
    from rapbench.report.picks import by_metric, picks, ranking

    ranked = ranking(found, wish.by)
    if ranked is None:
        raise DataMissing("no metric gives single images a score that ranks them")
    experiment = _prepared(run, ranked, wish)
    methods = _methods(experiment, ranked)
    chosen = picks(ranked, wish.most)
    shown, notes = _shown(experiment, methods, list(dict.fromkeys(pick.image for pick in chosen)))
    lacking = [name for name in ranked.numbers if name not in methods]
    told = [f"Without maps of {', '.join(lacking)}: what is here is not what computed their rows."] if lacking else []
    return Gallery(
        title=run.title,
        ranked=ranked,
        picks=chosen,
        shown=shown,
        beside=by_metric(found),
        notes=(*told, *notes, *_origins(experiment, run)),
    )


def _prepared(run: Run, ranked: Ranking, wish: Wish) -> Experiment:
    """The run with the metric that ranks alone."""
    metric = next(iter(ranked.numbers.values())).cell.metric
    return prepared(run, {"data_root": wish.data_root, "save_maps": wish.maps, "metric": [metric], **wish.given})


def _methods(experiment: Experiment, ranked: Ranking) -> dict[str, Named[Method]]:
    """The methods by their names in tables, as far as their rows are of what is here.

    Raises:
        SpecMismatch: none is.
    """
    keys = {result.cell.key: name for name, result in ranked.numbers.items()}
    (metric,) = [m for m in experiment.metrics if m.label == next(iter(ranked.numbers.values())).cell.metric]
    here = {experiment.cells[method.label, metric.label].key: method for method in experiment.methods}
    found = {name: here[key] for key, name in keys.items() if key in here}
    if not found:
        raise SpecMismatch("the data set, the weights or the code that are here are not those that computed the rows")
    return found


def _shown(
    experiment: Experiment, methods: Mapping[str, Named[Method]], ids: Sequence[str]
) -> tuple[dict[str, Shown], list[str]]:
    """The images with their maps, and what is to be known of them."""
    import torch

    from rapbench.cli.progress import ProgressBar
    from rapbench.run.explainer import Explainer
    from rapbench.run.plan import blocks
    from rapbench.run.reading import read

    places = {image: index for index, image in enumerate(experiment.dataset.ids)}
    chosen = replace(experiment, order=tuple(places[image] for image in ids if image in places))
    explainer = Explainer(chosen)
    shown: dict[str, Shown] = {}
    failed: dict[str, str] = {}
    with torch.no_grad(), ProgressBar(chosen.limit * len(methods), "maps") as progress:
        for loaded in read(chosen, blocks(chosen.limit, _AT_ONCE)):
            if clean := explainer.classified(loaded):
                maps = _maps(explainer, methods, loaded, clean, failed, progress)
                shown |= {one.id: one for one in _pictures(chosen, loaded, clean, maps)}
    for line in failed.values():
        said(f"rapbench: gallery: {line}")
    lost = len(ids) - len(shown)
    return shown, [*failed.values(), *([f"{lost} of {len(ids)} images could not be read again."] if lost else [])]


def _maps(
    explainer: Explainer,
    methods: Mapping[str, Named[Method]],
    loaded: Loaded,
    clean: Classified,
    failed: dict[str, str],
    progress: Callable[[int], None],
) -> Maps:
    """Maps by the method's name and the image's id; what a method raises is noted, and it is left out."""
    found: Maps = {}
    for name, method in methods.items():
        if name not in failed:
            try:
                found[name] = _stored(explainer.experiment, method, loaded) or _explained(explainer, method, clean)
            except Exception as error:  # noqa: BLE001 - whatever a method or a file raises
                failed[name] = f"method {name}: {last_line(error)}"
        progress(len(loaded.samples))
    return found


def _stored(experiment: Experiment, method: Named[Method], loaded: Loaded) -> dict[str, NDArray[Any]]:
    """The pixel maps of a block that `--save-maps` wrote, none where one is not there."""
    import numpy as np

    if experiment.spec.save_maps is None:
        return {}
    files = {sample.id: experiment.map_file(method, sample.id) for sample in loaded.samples}
    if not all(file.exists() for file in files.values()):
        return {}
    return {image: np.load(file)["relevance"].astype(np.float64).sum(axis=0) for image, file in files.items()}


def _explained(explainer: Explainer, method: Named[Method], clean: Classified) -> dict[str, NDArray[Any]]:
    pixels = explainer.explained(method, clean).pixels.cpu().numpy()
    return dict(zip(clean.batch.ids, pixels, strict=True))


def _pictures(experiment: Experiment, loaded: Loaded, clean: Classified, maps: Maps) -> Iterator[Shown]:
    from rapbench.cli.show import caption
    from rapbench.report.html.gallery import Shown

    for n, sample in enumerate(loaded.samples):
        told = caption(clean.logits[n].cpu(), int(clean.target[n]), experiment.classifier.classes)
        boxes = [] if sample.boxes is None else sample.boxes.tolist()
        yield Shown(
            id=sample.id,
            caption=", ".join(told),
            photo=sample.image.permute(1, 2, 0).numpy(),
            mask=None if sample.mask is None else (sample.mask == 1).numpy(),
            boxes=boxes if sample.mask is None else [],
            maps={name: of[sample.id] for name, of in maps.items()},
        )


def _origins(experiment: Experiment, run: Run) -> list[str]:
    """That the maps are of other code or libraries than the rows."""
    from rapbench.report.result import origin_text

    if experiment.origin in run.origins:
        return []
    rows = " | ".join(map(origin_text, run.origins))
    return [
        f"The rows were computed by {rows}; the maps by {origin_text(experiment.origin)}: they may differ slightly."
    ]

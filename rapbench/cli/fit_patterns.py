"""`rapbench fit-patterns`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rapbench.cli.options import DEFAULTS, DataRoot, Dataset, Device, Limit, Model, Weights, path
from rapbench.run.spec import RunSpec


def fit_patterns(
    model: Model = DEFAULTS.model,
    weights: Weights = DEFAULTS.weights,
    dataset: Dataset = "scenes(stream=train)",
    data_root: DataRoot = DEFAULTS.data_root,
    limit: Limit = None,
    to: Annotated[
        Path | None, typer.Option(parser=path, help="File to write. [default: patterns/MODEL-WEIGHTS-DATASET-N...]")
    ] = None,
    device: Device = DEFAULTS.device,
) -> None:
    """Fit the signal directions that PatternNet and PatternAttribution go back along.

    The images are to be training images; they are read once. A fit that was stopped goes on where it was when the
    same command is given again.
    """
    options = {"model": model, "weights": weights, "dataset": dataset, "data_root": data_root, "device": device}
    spec = RunSpec.read(None, options)

    from rapbench.cli.progress import ProgressBar
    from rapbench.core.catalogue import Call
    from rapbench.core.paths import stem_of
    from rapbench.core.stages import stage
    from rapbench.run.fit import fit
    from rapbench.run.reading import Images
    from rapbench.run.resolve import prepare

    with ProgressBar(), stage(f"loading {dataset} and {model}"):
        experiment = prepare(spec)
    count = min(limit or len(experiment.dataset), len(experiment.dataset))
    classifier = experiment.classifier
    names = (classifier.name.rpartition(":")[2], classifier.weights, experiment.dataset_name.rpartition(":")[2])
    file = to or Path("patterns") / f"{stem_of('-'.join(names))}-{count}.safetensors"
    images = Images(dataset=experiment.dataset, name=dataset, stop=count)
    with ProgressBar(count) as progress, stage("fitting patterns"):
        patterns = fit(classifier, images, file, device=experiment.device, progress=progress)
    units = sum(len(tensor) for tensor in patterns.tensors["a"].values())
    typer.echo(
        f"{classifier.title}: directions of {units} units in {len(patterns.tensors['a'])} layers, from {count} images, "
        f"in {file}\nuse them as {Call('pattern_attribution', {'patterns': str(file)})}, pattern_net, "
        "pattern_attribution_a"
    )

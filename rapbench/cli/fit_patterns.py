"""`rapbench fit-patterns`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fit_patterns(
    model: Annotated[str, typer.Option(help="Network.")] = "vgg16",
    weights: Annotated[str, typer.Option(help="auto, random, a torchvision weight name, or a file.")] = "auto",
    dataset: Annotated[str, typer.Option(help="Training images.")] = "scenes(stream=train)",
    data_root: Annotated[Path | None, typer.Option(envvar="RAPBENCH_DATA", help="Folder of the data sets.")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Only the first images. [default: all]")] = None,
    to: Annotated[
        Path | None, typer.Option(help="File to write. [default: patterns/MODEL-WEIGHTS-DATASET-N...]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Fit the signal directions that PatternNet and PatternAttribution go back along.

    Images are read once. A fit that was stopped goes on where it was when the same command is given again.
    """
    from rapbench.cli.progress import Progress
    from rapbench.run.fit import fit
    from rapbench.run.plan import prepare
    from rapbench.run.spec import RunSpec
    from rapbench.run.stream import Images

    options = {"model": model, "weights": weights, "dataset": dataset, "data_root": data_root, "device": device}
    experiment = prepare(RunSpec.read(None, options))
    count = min(limit or len(experiment.dataset), len(experiment.dataset))
    classifier = experiment.classifier
    names = (classifier.name.rpartition(":")[2], classifier.weights, experiment.dataset_name.rpartition(":")[2])
    file = to or Path("patterns") / f"{'-'.join(names)}-{count}.safetensors"
    images = Images(dataset=experiment.dataset, name=dataset, stop=count)
    with Progress(count) as progress:
        patterns = fit(classifier, images, file, device=experiment.device, progress=progress)
    units = sum(len(tensor) for tensor in patterns.tensors["a"].values())
    typer.echo(
        f"{classifier.title}: directions of {units} units in {len(patterns.tensors['a'])} layers, from {count} images, "
        f"in {file}\nuse them as pattern_attribution(patterns={file}), pattern_net, pattern_attribution_a"
    )

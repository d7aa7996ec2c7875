"""`rapbench show`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rapbench.cli.options import DEFAULTS, METHODS, Backend, DataRoot, MethodList, Model, Seed, Weights, path
from rapbench.run.spec import RunSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from rapbench.cli.pictures import Picture
    from rapbench.core.types import Classifier, Method
    from rapbench.report.heatmaps import Row


def show(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Picture files, or images of data sets such as scenes:12.")
    ],
    method: MethodList = METHODS,
    model: Model = DEFAULTS.model,
    weights: Weights = DEFAULTS.weights,
    target: Annotated[
        str | None, typer.Option(help="Class to explain, by name or index. [default: the predicted class]")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Draw the relevance on its way through the network, a row a method.")
    ] = False,
    backend: Backend = DEFAULTS.backend,
    data_root: DataRoot = DEFAULTS.data_root,
    seed: Seed = DEFAULTS.seed,
    scale: Annotated[
        str, typer.Option(help="Where a map's colours end: max, or a percentile of its magnitudes, for example 99.")
    ] = "max",
    to: Annotated[Path, typer.Option(parser=path, help="File to write: .png, .svg or .pdf.")] = Path("heatmaps.png"),
) -> None:
    """Draw heatmaps beside the pictures that they explain: red speaks for the class, blue against it.

    Each map is the relevance summed over channels, on a scale of its own that is symmetric about zero. Picture files
    are photographs: without --weights they are explained by a network of photographs.
    """
    from rapbench.cli.pictures import picture, refuse_unknown

    spec = RunSpec.read(None, {"method": method, "model": model, "weights": weights, "backend": backend, "seed": seed})
    percentile = _percentile(scale)
    for text in images:
        refuse_unknown(text)

    from rapbench.core.writing import write_whole
    from rapbench.report.figures import form_of, label, rendered
    from rapbench.report.heatmaps import heatmaps
    from rapbench.run import resolve

    form = form_of(to)
    chosen = resolve.settings(spec)
    methods = {label(method.thing.title, method.label, backend): method.thing for method in chosen.methods}
    pictures = [picture(text, size=chosen.size, data_root=data_root) for text in images]
    if weights == "auto":
        _refuse_several_weights(spec, pictures)
    classifier = resolve.network(spec, pictures[0].label_space)
    rows: list[Row] = []
    for shown in pictures:
        clean = _clean(classifier, shown, target, seed)
        note = f" ({shown.note})" if shown.note else ""
        typer.echo(f"{shown.name}: {', '.join(clean.caption)}{note}")
        rows += _layer_rows(clean, methods) if layers else [_row(clean, methods)]
    write_whole(to, rendered(heatmaps(rows, classifier.title, percentile), form))
    typer.echo(to)


def _percentile(scale: str) -> float:
    """Where the colours of a map end, as a percentile of its magnitudes.

    Raises:
        BadConfig: neither max nor a percentile.
    """
    from rapbench.core.errors import BadConfig

    try:
        percentile = 100.0 if scale == "max" else float(scale)
    except ValueError:
        percentile = 0.0
    if not 0 < percentile <= 100:
        raise BadConfig(f"--scale {scale}: pass max, or a percentile above 0 and up to 100")
    return percentile


def _refuse_several_weights(spec: RunSpec, pictures: Sequence[Picture]) -> None:
    """One figure is of one network: what would be explained by other weights is to be shown apart.

    Raises:
        BadConfig: pictures of several kinds, for which 'auto' stands for several weights.
    """
    from rapbench.core.errors import BadConfig
    from rapbench.models import family

    usual = {family(spec.model).default_weights(shown.label_space): shown.name for shown in pictures}
    if len(usual) > 1:
        told = ", ".join(f"{name} by {weights}" for weights, name in usual.items())
        raise BadConfig(
            f"one figure is of one network, and these are explained by several: {told}; pass one of them as --weights"
        )


@dataclass(frozen=True)
class Clean:
    """A picture after the forward pass.

    Attributes:
        shown: the picture.
        model: the network that saw it.
        photo: (H, W, C) in [0, 1].
        x: (1, C, H, W) normalised.
        target: (1,) the explained class.
        seeds: (1,) of what methods draw.
        caption: explained class, its logit and probability, and the predicted class where it is another.
    """

    shown: Picture
    model: nn.Module
    photo: NDArray[Any]
    x: Tensor
    target: Tensor
    seeds: Tensor
    caption: tuple[str, ...]

    def relevance(self, method: Method) -> Tensor:
        """Relevance (1, C, H, W)."""
        from rapbench.core.abilities import Identified

        if isinstance(method, Identified):
            return method.of((self.shown.id,), self.shown.among, self.x)
        return method(self.model, self.x, self.target, seeds=self.seeds).detach()

    def row(self, maps: Mapping[str, NDArray[Any]], name: str = "") -> Row:
        """The picture with its maps."""
        from rapbench.report.heatmaps import Row

        return Row(photo=self.photo, caption="\n".join(self.caption), maps=maps, name=name)


def _clean(classifier: Classifier, shown: Picture, target: str | None, seed: int) -> Clean:
    import torch

    from rapbench.core.seeds import image_seed
    from rapbench.run.target import class_index

    image = shown.image
    if len(image) != len(classifier.mean):  # a grey picture for a network that wants RGB, or the reverse
        image = image.mean(0, keepdim=True).expand(len(classifier.mean), -1, -1)
    x = classifier.normalised(image.unsqueeze(0))
    with torch.no_grad():
        logits: Tensor = classifier.module(x)[0]
    names = classifier.classes
    index = int(logits.argmax()) if target is None else class_index(target, names, len(logits))
    return Clean(
        shown=shown,
        model=classifier.module,
        photo=image.permute(1, 2, 0).numpy(),
        x=x,
        target=torch.tensor([index]),
        seeds=torch.tensor([image_seed(seed, shown.id)]),
        caption=caption(logits, index, names),
    )


def caption(logits: Tensor, index: int, names: Sequence[str]) -> tuple[str, ...]:
    """The explained class, its logit and probability, and the predicted class where it is another."""
    from rapbench.run.target import called

    predicted, p = int(logits.argmax()), float(logits.softmax(0)[index])
    lines = (called(index, names), f"logit {logits[index]:.2f}, p = {_probability(p)}")
    return lines if predicted == index else (*lines, f"predicted {called(predicted, names)}")


def _probability(p: float) -> str:
    """Two decimals, or a power of ten for what would print as zero."""
    return f"{p:.2f}" if p >= 0.005 else f"{p:.0e}"


def _row(clean: Clean, methods: Mapping[str, Method]) -> Row:
    return clean.row({title: _summed(clean.relevance(method)) for title, method in methods.items()})


def _layer_rows(clean: Clean, methods: Mapping[str, Method]) -> list[Row]:
    return [clean.row(_layer_maps(clean, title, method), title) for title, method in methods.items()]


def _layer_maps(clean: Clean, title: str, method: Method) -> dict[str, NDArray[Any]]:
    """The relevance in the first layer of each resolution, among the layers that all of it passes.

    Raises:
        BadConfig: the method has no relevance in layers.
    """
    from rapbench.core.errors import BadConfig
    from rapbench.relprop.tracing.trace import trace

    graph = trace(clean.model, clean.x)
    passed = _passed(clean, method, graph.waists())
    if not passed:
        raise BadConfig(
            f"--layers draws what native LRP methods and RAP propagate; {title} does not propagate relevance"
        )
    return {
        f"{graph.layers[n].name if n else 'input'}\n{' × '.join(map(str, relevance.shape[2:]))}": _summed(relevance)
        for n, relevance in reversed(passed)
    }


def _passed(clean: Clean, method: Method, positions: Collection[int]) -> list[tuple[int, Tensor]]:
    """What a method propagates through some layers, the output first; of one resolution, what is nearest the input."""
    from rapbench.relprop.propagation import observing

    seen: dict[tuple[int, ...], tuple[int, Tensor]] = {}

    def look(position: int, relevance: Tensor) -> None:
        if position in positions and relevance[0, 0].numel() > 1:
            seen[relevance.shape[2:]] = (position, relevance)

    with observing(look):
        clean.relevance(method)
    return list(seen.values())


def _summed(relevance: Tensor) -> NDArray[Any]:
    """Pixel map (h, w) of relevance (1, C, h, w). Source: Nam et al. 2020, Figure 4."""
    return relevance.double().sum(1)[0].numpy()

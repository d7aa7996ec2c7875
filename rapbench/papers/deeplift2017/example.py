"""The example row of the digit figure: one image with what each stored method erases of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from rapbench.core.types import Classifier
    from rapbench.papers.deeplift2017.figure4 import MaskedDigit
    from rapbench.report.figures import Drawing
    from rapbench.results.cell import Identity
    from rapbench.results.store import Held


def example(held: Sequence[Held], data_root: Path | None, image_id: str) -> Drawing:
    """One image of the stored runs' data set, masked by every stored method.

    Raises:
        DataMissing: the data set has no such image.
        SpecMismatch: the network or a file that would be used is not that of the rows.
    """
    import pandas as pd

    from rapbench.core.errors import DataMissing
    from rapbench.datasets import DATASETS
    from rapbench.papers.deeplift2017.figure4 import masked_digits, ordered
    from rapbench.report.figures import Drawing
    from rapbench.report.formats import printable

    identity = held[0].cell.identity
    dataset = DATASETS.load(identity.dataset.name)(data_root=data_root, **identity.dataset.parameters)
    if image_id not in dataset.ids:
        raise DataMissing(f"{identity.dataset.name} has no image {image_id}")
    x = dataset[dataset.ids.index(image_id)].image.unsqueeze(0)
    classifier = _classifier(identity, dataset)
    masked = [_masked(one, classifier, x, image_id) for one in ordered(held)]
    points = [
        {"image": image_id, "method": digit.title, "pair": f"{o}-{t}", "drop": drop}
        for digit in masked
        for (o, t), drop in digit.drops.items()
    ]
    cell = held[0].cell
    title = printable(f"{image_id} of {cell.dataset}, {cell.model_title}")
    figure = masked_digits(x[0, 0].double().numpy(), masked, title)
    return Drawing(suffix="example", figure=figure, points=pd.DataFrame(points))


def _classifier(identity: Identity, dataset: Any) -> Classifier:
    from rapbench.core.errors import SpecMismatch
    from rapbench.models import load_classifier

    model = identity.model
    found = load_classifier(
        model.name,
        model.weights,
        label_space=dataset.label_space,
        seed=identity.seed,
        training=getattr(dataset, "training", None),
    )
    if found.digest != model.digest:
        raise SpecMismatch(f"{model.name} ({model.weights}) is not the network of the stored rows: run again")
    return found


def _masked(held: Held, classifier: Classifier, image: Tensor, image_id: str) -> MaskedDigit:
    import torch

    from rapbench.backends import BACKENDS
    from rapbench.core.catalogue import parse_call
    from rapbench.core.errors import SpecMismatch
    from rapbench.core.named import Named
    from rapbench.core.seeds import image_seed
    from rapbench.metrics.digit_conversion import DigitConversion, erased
    from rapbench.papers.deeplift2017.figure4 import MaskedDigit
    from rapbench.report.figures import called

    identity = held.cell.identity
    call = parse_call(held.cell.method)
    method = BACKENDS.load(identity.method.backend).build(call)
    if Named(call.name, method).digest != identity.method.digest:
        raise SpecMismatch(f"a file of {call} holds something else than when the rows were stored: run again")
    metric = DigitConversion(**identity.metric.parameters)
    x, seeds = classifier.normalised(image), torch.tensor([image_seed(identity.seed, image_id)])
    black = torch.tensor(classifier.black()).to(x).view(-1, 1, 1)
    digits = sorted({k for pair in metric.conversions for k in pair}, reverse=True)
    scores = {k: method(classifier.module, x, torch.tensor([k]), seeds=seeds).detach().double().sum(1) for k in digits}
    gone, drops = {}, {}
    with torch.no_grad():
        clean = classifier.module(x)[0]
        for o, t in metric.conversions:
            mask = erased(scores[o] - scores[t], metric.pixels, (x != black).any(1))
            logits = classifier.module(torch.where(mask.unsqueeze(1), black, x))[0]
            gone[o, t], drops[o, t] = mask[0].numpy(), float((clean[o] - clean[t]) - (logits[o] - logits[t]))
    return MaskedDigit(
        title=called(held.cell), scores={k: s[0].numpy() for k, s in scores.items()}, erased=gone, drops=drops
    )

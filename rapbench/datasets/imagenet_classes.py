"""The 1,000 classes of ILSVRC2012 in torchvision's order, by each way to write one."""

from collections import Counter
from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files

from rapbench.core.errors import UnknownName


def class_indices(labels: Collection[str]) -> dict[str, int]:
    """The class index of each label; all are WNIDs, or all names of classes, or all indices from 0.

    Upper and lower case, and blanks and underscores, are the same.

    Raises:
        UnknownName: they are not; the message has the first that is not of the kind that most are.
    """
    kinds = {"WNID": _wnids(), "name of one class": _names(), "index below 1000": _indices()}
    held = {kind: [label for label in labels if _plain(label) in known] for kind, known in kinds.items()}
    kind = max(held, key=lambda kind: len(held[kind]))
    if others := [label for label in labels if label not in held[kind]]:
        raise UnknownName(
            f"{min(others)!r} is no {kind} of ImageNet: labels are all WNIDs, all names or all indices of its classes"
        )
    return {label: kinds[kind][_plain(label)] for label in labels}


def _plain(label: str) -> str:
    return label.strip().casefold().replace("_", " ")


@cache
def _wnids() -> Mapping[str, int]:
    listed = files("rapbench.datasets").joinpath("imagenet_wnids.txt").read_text(encoding="ascii").split()
    return {wnid: index for index, wnid in enumerate(listed)}


@cache
def _names() -> Mapping[str, int]:
    """Without the names that two classes share."""
    from torchvision.models import ResNet50_Weights

    listed = [_plain(name) for name in ResNet50_Weights.IMAGENET1K_V1.meta["categories"]]
    return {name: listed.index(name) for name, count in Counter(listed).items() if count == 1}


@cache
def _indices() -> Mapping[str, int]:
    return {str(index): index for index in range(len(_wnids()))}

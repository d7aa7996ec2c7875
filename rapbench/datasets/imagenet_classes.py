"""The 1,000 classes of ILSVRC2012 in torchvision's order, by each way to write one."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path

from rapbench.core.errors import UnknownName
from rapbench.datasets.imagenet_labels import CLASSES, MAPPING, mapped_wnids

_WNID = re.compile(r"n\d{8}")


def class_indices(labels: Collection[str], folders: Iterable[Path] = ()) -> dict[str, int]:
    """The class index of each label; all are WNIDs, or all names of classes, or all indices from 0.

    Upper and lower case, and blanks and underscores, are the same. The index of a WNID is its rank among all 1,000:
    those of the labels themselves if there are as many, of the list in one of the folders, or as timm knows them.

    Raises:
        UnknownName: they are not; the message has the first that is not of the kind that most are.
    """
    kinds = {"name of one class": _names(), "index below 1000": _indices()}
    if any(map(_WNID.fullmatch, labels)):
        kinds = {"WNID": _wnids(labels, folders), **kinds}
    held = {kind: [label for label in labels if _plain(label) in known] for kind, known in kinds.items()}
    kind = max(held, key=lambda kind: len(held[kind]))
    if others := [label for label in labels if label not in held[kind]]:
        raise UnknownName(
            f"{min(others)!r} is no {kind} of ImageNet: labels are all WNIDs, all names or all indices of its classes"
        )
    return {label: kinds[kind][_plain(label)] for label in labels}


def _plain(label: str) -> str:
    return label.strip().casefold().replace("_", " ")


def _wnids(labels: Collection[str], folders: Iterable[Path]) -> Mapping[str, int]:
    """Every WNID with its rank.

    Raises:
        UnknownName: which there are is known nowhere.
    """
    mappings = [folder / MAPPING for folder in folders]
    known = [{*labels}, *(mapped_wnids(mapping) for mapping in mappings if mapping.is_file()), _of_timm()]
    whole = next((wnids for wnids in known if len(wnids) == CLASSES), None)
    if whole is None:
        places = " or ".join(str(mapping) for mapping in mappings)
        raise UnknownName(f'the order of WNIDs is not known: put {places} there, or pip install "rapbench[timm]"')
    return {wnid: rank for rank, wnid in enumerate(sorted(whole))}


@cache
def _of_timm() -> frozenset[str]:
    try:
        from timm.data import ImageNetInfo
    except ImportError:
        return frozenset()
    return frozenset(ImageNetInfo().label_names())


@cache
def _names() -> Mapping[str, int]:
    """Without the names that two classes share."""
    from torchvision.models import ResNet50_Weights

    listed = [_plain(name) for name in ResNet50_Weights.IMAGENET1K_V1.meta["categories"]]
    return {name: listed.index(name) for name, count in Counter(listed).items() if count == 1}


@cache
def _indices() -> Mapping[str, int]:
    return {str(index): index for index in range(CLASSES)}

"""Which class of an image is explained: the one that the network predicts, the image's label, or one for all images."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import torch

from rapbench.core.errors import BadConfig, UnknownName
from rapbench.core.types import Classifier

PREDICTED, LABEL = "predicted", "label"


def target_of(text: str, classifier: Classifier) -> str:
    """'predicted', 'label', or the index in digits of the class that a name or an index means.

    Raises:
        UnknownName: the network has no class of that name; the message offers the nearest.
        BadConfig: no such index, or several classes of that name.
    """
    if text in {PREDICTED, LABEL}:
        return text
    return str(class_index(text, classifier.classes, len(classifier.classes) or num_classes(classifier)))


@torch.no_grad()
def num_classes(classifier: Classifier) -> int:
    """How many classes a network has."""
    return int(classifier.module(classifier.example()).shape[1])


def class_index(text: str, names: Sequence[str], num_classes: int) -> int:
    """The class that an index or a name means.

    Raises:
        UnknownName: there is none of that name; the message offers the nearest.
        BadConfig: no such index, or several classes of that name.
    """
    if text.isdecimal() and int(text) < num_classes:
        return int(text)
    if text.isdecimal() or not names:
        raise BadConfig(f"target {text}: pass an index from 0 to {num_classes - 1}" + (" or a name" if names else ""))
    found = [index for index, name in enumerate(names) if name.lower() == text.lower()]
    if len(found) > 1:
        raise BadConfig(f"target {text}: classes {' and '.join(map(str, found))} have this name: pass an index")
    if not found:
        near = ", ".join(get_close_matches(text, names, cutoff=0.5)) or "none of its kind"
        raise UnknownName(f"no class named {text!r} among the {num_classes}; near: {near}")
    return found[0]


def called(index: int, names: Sequence[str]) -> str:
    """A class in words: its name, where it has one, and its index."""
    return f"{names[index]} ({index})" if names else f"class {index}"

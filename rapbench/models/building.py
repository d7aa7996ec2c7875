"""Functions that build networks: called with the run's seed, and what they return looked at before it is used."""

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from rapbench.core.errors import BadConfig, last_line
from rapbench.core.seeds import seeded
from rapbench.core.types import Classifier

_CURE = "say what it takes by MEAN, STD and SIZE beside its function, or by mean, std and size in brackets"


def built(name: str, function: Callable[..., object], options: Mapping[str, object], seed: int) -> object:
    """What a function makes of its parameters, when all that it draws comes from a seed.

    Raises:
        BadConfig: it raises.
    """
    try:
        with seeded(seed), redirect_stdout(sys.stderr):  # standard output is the command's
            return function(**options)
    except (Exception, SystemExit) as error:
        raise BadConfig(f"{name} raised {last_line(error)}") from error


def network_of(name: str, thing: object) -> nn.Module:
    """What a function returned, if that is a network.

    Raises:
        BadConfig: it is none, or its weights are not there or no tensors.
    """
    if not isinstance(thing, nn.Module):
        raise BadConfig(f"{name} returned {_kind(thing)}: a network is wanted, an nn.Module or a rapbench.Classifier")
    if next(thing.parameters(), None) is None:
        raise BadConfig(f"{name} returned a network without weights")
    if any(isinstance(weight, UninitializedParameter) for weight in thing.parameters()):
        raise BadConfig(f"{name} returned a network whose lazy layers have no weights yet: call it once before")
    if other := [key for key, value in thing.state_dict().items() if not isinstance(value, Tensor)]:
        raise BadConfig(
            f"{name} returned a network that holds what is no tensor, such as {other[0]}: quantised ones do"
        )
    return thing


def refuse_no_classifier(classifier: Classifier) -> None:
    """Classifies two images of noise, to say before anything is computed what does not fit.

    Raises:
        BadConfig: the network does not take images of its size and channels, does not return logits, or the classes are
            more or fewer than these.
    """
    name, num_means, num_stds = classifier.name, len(classifier.mean), len(classifier.std)
    if num_means != num_stds:
        raise BadConfig(f"{name} has {num_means} means and {num_stds} divisors: {_CURE}")
    try:
        with torch.no_grad():
            logits = classifier.module(classifier.example())
    except Exception as error:
        size = f"{num_means} x {classifier.size} x {classifier.size}"
        raise BadConfig(f"{name} does not take images of {size} ({last_line(error)}): {_CURE}") from error
    if not (isinstance(logits, Tensor) and logits.is_floating_point() and logits.dim() == 2 and len(logits) == 2):
        raise BadConfig(f"{name} returns {_kind(logits)} for 2 images: logits of shape (2, classes) are wanted")
    if len(classifier.classes) not in {0, logits.shape[1]}:
        raise BadConfig(f"{name} has {logits.shape[1]} logits, and {len(classifier.classes)} classes have names")


def _kind(thing: object) -> str:
    return (
        f"a tensor of shape {tuple(thing.shape)}"
        if isinstance(thing, Tensor)
        else f"an object of type {type(thing).__name__}"
    )

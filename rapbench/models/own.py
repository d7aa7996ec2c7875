"""Networks of a user's own: a function that builds one, and what is said beside it or in brackets of its input."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from rapbench.core.catalogue import Call, nearest
from rapbench.core.errors import BadConfig, DataMissing, UnknownName
from rapbench.core.paths import typed_path
from rapbench.core.types import Classifier, Family, Training
from rapbench.models.building import built, network_of
from rapbench.models.checkpoint import count_classes, filled, names_file, read_state
from rapbench.models.zoo import Architecture, architecture, imagenet_classes

_OWN = "own"
"""Weights that a network was built with."""
_WORDS = {"true": True, "false": False, "none": None}
"""What else than numbers may be typed as a value of a parameter."""
_TORCHVISIONS = ("weights", "num_classes")
"""Parameters of functions of torchvision's form."""
_LARGEST = 4096


@dataclass(frozen=True, kw_only=True)
class Built:
    """A family of the one network that a function builds, with the weights that it then has or those of a file.

    Attributes:
        name: what it is called in tables.
        function: `options` -> network, or a `Classifier`.
        options: what the function is given.
    """

    name: str
    function: Callable[..., object]
    options: Mapping[str, object]
    size: int = Classifier.size

    def default_weights(self, label_space: str) -> str:
        return _OWN

    def absent(self, weights: str) -> str:
        return ""

    def load(self, weights: str, *, seed: int, training: Training | None = None) -> Classifier:
        """The network as it was built, in float32, or filled with a file.

        Raises:
            BadConfig: random weights, or a function that raises or returns no network.
            UnknownName: weights of another name.
            DataMissing: a weight file is not there.
            BadWeights: a weight file is unreadable or does not fit.
        """
        if weights != _OWN and not names_file(weights):
            raise self._no_such(weights)
        state = None if weights == _OWN else read_state(Path(weights))
        classifier = self._classifier(built(self.name, self.function, self.options, seed))
        if state is None:
            return replace(classifier, weights=classifier.weights or _OWN)
        module = filled(classifier.module, state, f"{weights} as weights of {self.name}")
        return replace(classifier, module=module, weights=Path(weights).name)

    def _classifier(self, thing: object) -> Classifier:
        """What the function returned; a thousand classes are ImageNet's, in torchvision's order."""
        if isinstance(thing, Classifier):
            return replace(thing, module=network_of(self.name, thing.module).float())
        module = network_of(self.name, thing).float()
        known = count_classes(module) == Architecture.num_classes
        return Classifier(module=module, **_imagenets() if known else {})

    def _no_such(self, weights: str) -> Exception:
        if weights == "random":
            return BadConfig(
                f"{self.name} brings its own weights: leave out --weights, pass a file, or let its function take "
                "weights and num_classes, as torchvision's do"
            )
        return UnknownName(f"no weights named {weights!r} of {self.name}, and no such file: leave out --weights")


@dataclass(frozen=True, kw_only=True)
class Own:
    """A family with what its user says of it.

    Attributes:
        network: what loads the network.
        size: side in pixels of the square input.
        said: fields of the classifier that win over those that are loaded.
    """

    network: Family
    size: int
    said: Mapping[str, Any]

    def default_weights(self, label_space: str) -> str:
        return self.network.default_weights(label_space)

    def absent(self, weights: str) -> str:
        return self.network.absent(weights)

    def load(self, weights: str, *, seed: int, training: Training | None = None) -> Classifier:
        """What the network loads, with what is said of it.

        Raises:
            BadConfig: it is for another size of input.
        """
        loaded = self.network.load(weights, seed=seed, training=training)
        if loaded.size not in {self.size, Classifier.size}:
            raise BadConfig(f"a Classifier of size {loaded.size}: write SIZE = {loaded.size} beside its function too")
        return replace(loaded, **self.said)


def own_family(name: str, call: Call, found: object, module: ModuleType) -> Own:
    """The family of a function that builds a network.

    What is said in brackets wins over MEAN, STD, SIZE and CLASSES of the module, and both over what is loaded.

    Args:
        name: what it is called in tables.
        call: as typed; a parameter that the function takes is its own, others are said of its network.
        found: the function.
        module: where it was found.

    Raises:
        BadConfig: no function, or parameters that it does not take or that are wrong.
        DataMissing: no such file of class names.
    """
    function, parameters = _function(name, found)
    formed = "weights" in parameters and _takes(parameters, "num_classes")
    _check(name, call, {key: one for key, one in parameters.items() if not (formed and key in _TORCHVISIONS)})
    given = {key: text for key, text in call.parameters.items() if _takes(parameters, key)}
    options = {key: _value(text, parameters.get(key)) for key, text in given.items()}
    network = architecture(name, function, options) if formed else Built(name=name, function=function, options=options)
    said = _said(name, module, {key: text for key, text in call.parameters.items() if key not in given})
    return Own(network=network, size=said.get("size", network.size), said=said)


def _function(name: str, found: object) -> tuple[Callable[..., Any], Mapping[str, inspect.Parameter]]:
    """It, if it is a function, with its parameters."""
    try:
        if callable(found) and not isinstance(found, nn.Module):
            return found, inspect.signature(found).parameters
    except ValueError:  # of what is not written in Python
        pass
    raise BadConfig(
        f"{name} is neither a function that returns a network nor a family of networks, with size, default_weights, "
        "absent and load"
    )


def _takes(parameters: Mapping[str, inspect.Parameter], key: str) -> bool:
    """Whether a function takes a parameter; what is said of its network goes to no `**kwargs`."""
    return key in parameters or (_is_open(parameters) and key not in _READ)


def _is_open(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _check(name: str, call: Call, parameters: Mapping[str, inspect.Parameter]) -> None:
    """Refuses parameters that a function does not take, and ones that it lacks."""
    plain = [key for key, one in parameters.items() if one.kind not in {one.VAR_KEYWORD, one.VAR_POSITIONAL}]
    for key in call.parameters:
        if key not in {*plain, *_READ} and (key in _TORCHVISIONS or not _is_open(parameters)):
            raise BadConfig(f"{call.name} has no parameter {key!r}: {nearest(key, [*plain, *_READ])}")
    for key in plain:
        if parameters[key].default is inspect.Parameter.empty and key not in call.parameters:
            raise BadConfig(f"{name} needs a value: write {call.name}({key}=...)")


def _value(text: str, parameter: inspect.Parameter | None) -> object:
    """A number or another literal of Python as such, else the text."""
    if parameter is not None and parameter.annotation in (str, "str"):
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def _said(name: str, module: ModuleType, brackets: Mapping[str, str]) -> dict[str, Any]:
    """Fields of the classifier that the module and the brackets tell; files are relative to where they are named."""
    folder = Path(module.__file__ or "").parent
    beside = {key: (getattr(module, key.upper()), folder) for key in _READ if hasattr(module, key.upper())}
    typed = {key: (text, Path()) for key, text in brackets.items()}
    fields: dict[str, Any] = {}
    for key, (value, base) in {**beside, **typed}.items():
        read, wanted = _READ[key]
        try:
            fields |= read(value, base)
        except (TypeError, ValueError) as error:
            raise BadConfig(f"{name}: {key} is {wanted}, not {value!r}") from error
    return fields


def _side(value: Any, _: Path) -> dict[str, Any]:
    if not 1 <= int(value) <= _LARGEST:
        raise ValueError
    return {"size": int(value)}


def _means(value: Any, _: Path) -> dict[str, Any]:
    return {"mean": _numbers(value)}


def _divisors(value: Any, _: Path) -> dict[str, Any]:
    numbers = _numbers(value)
    if min(numbers) <= 0:
        raise ValueError
    return {"std": numbers}


def _numbers(value: Any) -> tuple[float, ...]:
    parts = value.replace(",", " ").split() if isinstance(value, str) else value
    numbers = tuple(map(float, parts if isinstance(parts, Iterable) else [parts]))
    if not numbers or not all(map(isfinite, numbers)):
        raise ValueError
    return numbers


def _classes(value: Any, base: Path) -> dict[str, Any]:
    if isinstance(value, Mapping):
        raise TypeError
    if not isinstance(value, (str, Path)):
        return {"label_space": "", "classes": tuple(map(str, value))}
    return (
        _imagenets() if str(value) == "imagenet" else {"label_space": "", "classes": _lines(base / typed_path(value))}
    )


def _imagenets() -> dict[str, Any]:
    return {"label_space": "imagenet", "classes": imagenet_classes()}


def _lines(file: Path) -> tuple[str, ...]:
    if not file.is_file():
        raise DataMissing(f"no file {file} of class names")
    return tuple(line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip())


_READ: Mapping[str, tuple[Callable[[Any, Path], dict[str, Any]], str]] = {
    "mean": (_means, "a number a channel, such as '0.5 0.5 0.5'"),
    "std": (_divisors, "a number above 0 a channel, such as '0.5 0.5 0.5'"),
    "size": (_side, f"a side in pixels up to {_LARGEST}, such as 224"),
    "classes": (_classes, "'imagenet', a text file with a name a line, or the names"),
}
"""What is said of a network: how it is read, and what is wanted."""

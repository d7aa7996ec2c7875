"""Arguments of recorded operations: tensors are stood for by references, numbers of images by multiples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


class Ref(int):
    """Stands for the n-th value of a recording, or the n-th value a layer is given."""


class Images(int):
    """Stands for k times the number of images."""


class Differs(Exception):
    """Two recordings of one operation are not the same."""


def mapped(function: Callable[[Any], Any], item: Any) -> Any:
    """The same nesting of lists, tuples, dictionaries and slices with another content."""
    if isinstance(item, (list, tuple)):
        inside = [mapped(function, i) for i in item]
        return inside if isinstance(item, list) else tuple(inside)
    if isinstance(item, dict):
        return {key: mapped(function, value) for key, value in item.items()}
    if isinstance(item, slice):
        return slice(*(mapped(function, i) for i in (item.start, item.stop, item.step)))
    return function(item)


def leaves(item: Any) -> Iterator[Any]:
    """What lists, tuples, dictionaries and slices hold, in order."""
    if isinstance(item, (list, tuple)):
        for i in item:
            yield from leaves(i)
    elif isinstance(item, dict):
        yield from leaves(list(item.values()))
    elif isinstance(item, slice):
        yield from leaves([item.start, item.stop, item.step])
    else:
        yield item


def united(two: Any, one: Any) -> Any:
    """What is the same in a recording of two images and in one of one image; a number of images becomes `Images`.

    Raises:
        Differs: something else depends on the number of images.
    """
    if isinstance(two, (list, tuple)):
        if not isinstance(one, (list, tuple)) or len(two) != len(one):
            raise Differs
        both = [united(a, b) for a, b in zip(two, one, strict=True)]
        return both if isinstance(two, list) else tuple(both)
    if isinstance(two, dict):
        if not isinstance(one, dict) or list(two) != list(one):
            raise Differs
        return {key: united(value, one[key]) for key, value in two.items()}
    if isinstance(two, slice):
        return slice(*united([two.start, two.stop, two.step], [one.start, one.stop, one.step]))
    return _united(two, one)


def _united(two: Any, one: Any) -> Any:
    if type(two) is not type(one):
        raise Differs
    if two is one or _same(two, one):
        return two
    if type(two) is int and two == 2 * one:
        return Images(one)
    raise Differs


def _same(two: Any, one: Any) -> bool:
    if isinstance(two, Tensor):
        return two.shape == one.shape and two.dtype == one.dtype and torch.equal(two, one)
    return bool(two == one) or (isinstance(two, float) and math.isnan(two) and math.isnan(one))

"""A network: whether its weights are there and fit, and what an image costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rapbench.core.errors import BadConfig
from rapbench.core.types import Classifier
from rapbench.doctor.finding import Finding, shown
from rapbench.run import resolve
from rapbench.run.spec import RunSpec
from rapbench.run.target import PREDICTED

_PROBED = 4
"""Images of which time and memory are measured."""


def network(spec: RunSpec) -> Iterator[Finding]:
    """Whether the weights are there and fit, and what an image costs; without the weights, with random ones."""
    subject, space = f"model {spec.model}", resolve.label_space(spec)
    if absent := resolve.absent(spec):
        yield Finding(level="warn", subject=subject, message=absent)
        classifier = resolve.network(
            spec.model_copy(update={"weights": "random", "select": "all", "target": PREDICTED}), space
        )
    else:
        classifier = resolve.network(spec, space)
        yield Finding(level="ok", subject=subject, message=f"{classifier.title}: weights fit")
    yield _cost(subject, classifier, spec.device)


def _cost(subject: str, classifier: Classifier, choice: str) -> Finding:
    """Time of one forward pass and of one gradient, and what the gradient keeps in memory."""
    device = torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")
    module = classifier.module.to(device)
    x = torch.rand(_PROBED, len(classifier.mean), classifier.size, classifier.size, device=device)
    try:
        with torch.no_grad():
            forward = _seconds(lambda: module(x)) / _PROBED
        gradient = _seconds(lambda: _gradient(module, x)) / _PROBED
        memory = _kept_bytes(module, x) / _PROBED
    except torch.OutOfMemoryError as error:
        raise BadConfig(f"out of memory with {_PROBED} images: end other programs, or use another --device") from error
    message = (
        f"{1000 * forward:.1f} ms forward, {1000 * gradient:.1f} ms and {shown(memory)} a gradient, for each image on "
        f"{device.type}; 10,000 images at one gradient each take {10_000 * gradient / 3600:.1f} h"
    )
    return Finding(level="ok", subject=subject, message=message)


def _gradient(module: nn.Module, x: Tensor) -> Tensor:
    """Gradient (N, C, H, W) of each image's largest logit."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(module(leaf).amax(1).sum(), leaf)[0]


def _kept_bytes(module: nn.Module, x: Tensor) -> int:
    """Size of what a forward pass keeps for the gradient, weights aside."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _gradient(module, x)
    return sum(size for pointer, size in kept.items() if pointer not in weights)


def _seconds(work: Callable[[], Tensor]) -> float:
    """Time of the second of two calls; the first prepares."""
    for _ in range(2):
        start = time.perf_counter()
        work().sum().item()  # waits for the device
    return time.perf_counter() - start

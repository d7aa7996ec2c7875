"""What every benchmark measures on, and how: networks and inputs as a run holds them, times that include the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from rapbench.core.catalogue import Catalogue, parse_call
from rapbench.core.types import Batch, Explained, Method, Network
from rapbench.methods import METHODS, is_control
from rapbench.run.scorer import layout

STEPS = 5
"""Points or samples of the methods that take many gradients; their cost is given per step."""
PER_STEP = {
    "integrated_gradients": "steps",
    "smooth_grad": "samples",
    "smooth_grad_squared": "samples",
    "rise": "masks",
}
PATTERNED = {"pattern_net", "pattern_attribution", "pattern_attribution_a"}
FREE = {"maps", *filter(is_control, METHODS)}


def seconds(function: Callable[[], object], device: str) -> float:
    """Wall time of one call, the device's work included."""
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ratio(reference: Callable[[], object], candidate: Callable[[], object], device: str, rounds: int) -> float:
    """Median over rounds of the candidate's time over the reference's, after one of each to warm up."""
    for function in (reference, candidate):
        seconds(function, device)
    return statistics.median(1 / (seconds(reference, device) / seconds(candidate, device)) for _ in range(rounds))


def network(name: str, device: str) -> nn.Module:
    """A torchvision network with random weights, as a run holds it."""
    torch.manual_seed(0)
    net = get_model(name, weights=None).eval().requires_grad_(requires_grad=False)
    return net.to(device).to(memory_format=layout(torch.device(device), "fp32"))


def images(count: int, device: str) -> Tensor:
    """Inputs (count, 3, 224, 224), as a run holds them."""
    return torch.randn(count, 3, 224, 224, device=device).contiguous(memory_format=layout(torch.device(device), "fp32"))


def built(catalogue: Catalogue, name: str, patterns: Path | None = None) -> Method:
    """A method, with few steps where it takes steps, and with patterns where it needs some and there are any."""
    given = f"{PER_STEP[name]}={STEPS}" if name in PER_STEP else ""
    if name in PATTERNED and patterns is not None:
        given = f"patterns={patterns}"
    method: Method = catalogue.build(parse_call(f"{name}({given})" if given else name))
    return method


def row(cells: Iterable[object]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def nothing_said(x: Tensor, *_: Tensor) -> Tensor:
    """Maps of zeros."""
    return torch.zeros_like(x)


def explained(x: Tensor, relevance: Tensor, classify: Callable[[Tensor], Tensor]) -> Explained:
    """Maps of inputs without annotations, to be scored by what erases pixels."""
    count, logits = len(x), classify(x)
    nothing = (None,) * count
    ids = tuple(map(str, range(count)))
    return Explained(
        batch=Batch(
            ids=ids,
            x=x,
            boxes=nothing,
            box_classes=nothing,
            mask=nothing,
            cells=nothing,
            label=None,
            seeds=torch.arange(count),
        ),
        network=Network(
            classify=classify,
            explain=nothing_said,
            layers=lambda: (),
            randomised=lambda *_: nothing_said,
            disconnected=lambda *_: nothing_said,
            black=(-2.1, -2.0, -1.8),
            std=(0.229, 0.224, 0.225),
        ),
        relevance=relevance,
        logits=logits,
        target=logits.argmax(1),
    )

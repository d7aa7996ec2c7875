"""What the stages measure: networks, images and explanations at the size asked for, in the arithmetic asked for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from measured import explained, images, network
from torch import Tensor, nn

from rapbench.core.errors import UnsupportedLayer
from rapbench.core.types import Explained
from rapbench.datasets import DATASETS
from rapbench.methods.signals.directions import weighted_layers
from rapbench.methods.signals.moments import Moments, observed
from rapbench.methods.signals.patterns import Patterns
from rapbench.models import load_classifier
from rapbench.models.narrow import narrow_module
from rapbench.relprop.tracing.trace import trace
from rapbench.run.batches import Batches
from rapbench.run.scorer import layout

ARITHMETICS = ("fp32", "tf32", "bf16")
LAYOUTS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
DTYPES = {"bf16": torch.bfloat16, "fp64": torch.float64}


@dataclass
class Best:
    """The fastest bare forward pass found: what scoring is compared with."""

    rate: float
    batch: int
    layout: str
    searched: bool


def _layout(device: str, dtype: torch.dtype) -> torch.memory_format:
    """As a run lays out images of that type, exact products or not."""
    rounded = dtype == torch.bfloat16 or torch.backends.cudnn.allow_tf32
    return layout(torch.device(device), "bf16" if rounded else "fp32")


@dataclass
class Scene:
    """The device, how large everything is, and what earlier stages found out.

    In a small run the embedded networks stand for those of full size.
    """

    device: str
    small: bool
    networks: tuple[str, ...]
    best: dict[tuple[str, str], Best] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes to try."""
        return (2, 4) if self.small else (32, 256, 512, 1024)

    @property
    def usual(self) -> int:
        """The batch at which layouts are compared."""
        return 4 if self.small else 256

    def network(self, name: str, device: str | None = None, dtype: torch.dtype = torch.float32) -> nn.Module:
        """A network with seeded weights of full size, laid out as a run holds it."""
        where = device or self.device
        net = narrow_module(name).requires_grad_(requires_grad=False) if self.small else network(name, "cpu")
        return net.to(where, dtype).to(memory_format=_layout(where, dtype))

    def images(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Random inputs."""
        return images(count, self.device).to(dtype, memory_format=_layout(self.device, dtype))

    def explained(self, net: Callable[[Tensor], Tensor], count: int, best: Best) -> Explained:
        """Random maps of random images, to be classified by the network as it is fastest."""
        x = self.images(count).contiguous(memory_format=LAYOUTS[best.layout])
        return explained(x, torch.randn_like(x), classifier(net, best.batch))

    def synchronize(self) -> None:
        """Waits for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def classifier(
    net: Callable[[Tensor], Tensor], batch: int, dtype: torch.dtype | None = None
) -> Callable[[Tensor], Tensor]:
    """A network that takes any number of inputs, as a run calls it."""
    batches = Batches(batch)

    @torch.inference_mode()
    def classify(x: Tensor) -> Tensor:
        return batches.map(lambda part: net(part.to(dtype or part.dtype)).float(), x)

    return classify


def fitted(net: nn.Module, x: Tensor, file: Path) -> Path | None:
    """A file of patterns fitted to a few inputs; None where the network has layers that patterns do not know."""
    try:
        graph = trace(net, x).folded()
        sums = {name: Moments(layer) for name, layer in weighted_layers(graph, "patterns").items()}
    except UnsupportedLayer:
        return None
    observed(graph, lambda layer, x, y: sums[layer.name].add(x, y))(x)
    file.write_bytes(Patterns.fitted(trace(net, x), sums, {"images": "of the benchmark"}).encoded())
    return file


def embedded(name: str, count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A trained embedded network, normalised scenes (count, 3, 224, 224) for it, and their labels."""
    classifier_ = load_classifier(name, "scenes", label_space="scenes", seed=0)
    dataset = DATASETS.load("scenes")()
    samples = [dataset[n] for n in range(count)]
    x = classifier_.normalised(torch.stack([sample.image for sample in samples]))
    labels = torch.tensor([sample.label for sample in samples])
    return classifier_.module, x.contiguous(memory_format=torch.channels_last), labels


@contextmanager
def arithmetic(name: str) -> Iterator[torch.dtype]:
    """float32 products exact, or rounded to tf32; yields the type that networks and inputs are to have."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    try:
        yield DTYPES.get(name, torch.float32)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def searching(yes: bool) -> Iterator[None]:
    """CuDNN tries its algorithms for each new shape."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, yes
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def rate(function: Callable[[], object], count: int, scene: Scene, at_least: float = 0.15) -> float:
    """How many of `count` things a second: median of calls that take so many seconds together, two to warm up."""
    for _ in range(2):
        function()
    scene.synchronize()
    spent: list[float] = []
    while sum(spent) < at_least or len(spent) < 3:
        start = time.perf_counter()
        function()
        scene.synchronize()
        spent.append(time.perf_counter() - start)
    return count / statistics.median(spent)


def relative(found: Tensor, reference: Tensor) -> float:
    """Σ |found - reference| / Σ |reference|, on the CPU in float64."""
    wide, exact = found.detach().double().cpu(), reference.detach().double().cpu()
    return float((wide - exact).abs().sum() / exact.abs().sum())

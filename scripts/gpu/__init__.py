"""The stages of `scripts/benchmark.py gpu`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gpu.page import Page
from gpu.parity import baseline, maps, rounding, rows
from gpu.scene import Scene
from gpu.throughput import bare, card, compiled, double, explaining, memory, protocols, scoring
from gpu.whole import full_size, papers, reading, workers

STAGES = {
    "card": ("The card", card, 20),
    "bare": ("Bare forward passes", bare, 100),
    "scoring": ("Scoring, over the best bare forward pass in the same arithmetic", scoring, 50),
    "compiled": ("Compiled forward passes", compiled, 90),
    "protocols": ("The protocols after RAP, over the best bare forward pass", protocols, 40),
    "full_size": ("Figure 7 at 10,000 images", full_size, 5),
    "explaining": ("Explaining, in gradients", explaining, 70),
    "maps": ("Maps of the device, of the CPU and in float64", maps, 80),
    "rounding": ("What tf32 and bf16 do to maps and to outcomes", rounding, 45),
    "papers": ("From files to a table and a figure", papers, 150),
    "baseline": ("The baseline of the scenes", baseline, 60),
    "memory": ("Memory", memory, 30),
    "double": ("float64", double, 20),
    "workers": ("Two processes on one card", workers, 45),
    "rows": ("Rows of the device and of the CPU", rows, 45),
    "reading": ("Reading", reading, 40),
}
"""Title, function and most seconds, in the order of how much is lost when the time is over before them."""


def measure(
    to: Path, minutes: float, only: Sequence[str], networks: Sequence[str], device: str, *, small: bool
) -> None:
    """Runs the stages and writes the page."""
    page, scene = Page(to, minutes), Scene(device, small, tuple(networks))
    for name, (title, stage, most) in STAGES.items():
        if not only or name in only:
            page.stage(title, partial(stage, scene=scene), 10 * most if small else most)

"""Measures what methods and metrics cost, relative to the plain gradient or to bare forward passes.

    python scripts/benchmark.py methods --model vgg16 --model resnet50
    python scripts/benchmark.py perturbation --model vgg16
    python scripts/benchmark.py transformers
    python scripts/benchmark.py memory --model vgg16
    python scripts/benchmark.py shards
    python scripts/benchmark.py gpu --to DIR

Ratios are taken in one process: each round runs the reference and the candidate one after the other, and printed is the
median of the rounds' ratios, so that a machine whose speed drifts does not decide. Weights are random: no method's cost
depends on them.
"""

from __future__ import annotations

import copy
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import torch
import typer
from measured import FREE, PER_STEP, STEPS, built, explained, images, network, ratio, row
from published import chefer_lrp
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VisionTransformer

from rapbench.backends import BACKENDS
from rapbench.core.allocator import keep_freed_memory
from rapbench.core.errors import RapbenchError
from rapbench.methods import METHODS
from rapbench.metrics.perturbation import Perturbation
from rapbench.relprop.tracing.trace import trace
from rapbench.run.batches import Batches

FLOOR = {"rap": 2.0, "lrp_a2b1": 2.0, "lrp_a1b0": 1.5, "deeplift_rescale": 1.1, "guided_backprop": 1.0}
"""Convolutions a method cannot do without, over the gradient's two."""
TARGET = {
    "lrp_a2b1": 2.6,
    "lrp_a1b0": 2.0,
    "deeplift_rescale": 2.4,
    "deeplift_reveal_cancel": 3.5,
    "guided_backprop": 1.1,
    "integrated_gradients": 1.05,
    "attn_lrp": 3.0,
}
ATTENTION = (
    *("raw_attention", "attention_rollout", "attention_grad_cam", "chefer_attention", "legrad"),
    *("partial_lrp", "chefer_lrp"),
)
RAP_TARGET = {"vgg16": 2.5, "resnet50": 3.5}

app = typer.Typer(add_completion=False)
Models = Annotated[list[str], typer.Option("--model")]


@app.command()
def methods(
    model: Models = ["vgg16", "resnet50"],  # noqa: B006 - typer's way to a default
    backend: Annotated[list[str], typer.Option()] = ["native"],  # noqa: B006
    method: Annotated[list[str], typer.Option()] = [],  # noqa: B006
    batch_size: int = 8,
    rounds: int = 3,
    device: str = "cpu",
) -> None:
    """Cost of each method over the gradient's (one forward and one backward pass to the input)."""
    print(row(["model", "backend", "method", "floor", "target", "measured"]))
    print(row(["---"] * 6))
    for name in model:
        net, x = network(name, device), images(batch_size, device)
        target, seeds = net(x).argmax(1), torch.arange(batch_size)
        gradient = built(BACKENDS.load("native"), "gradient")
        for origin in backend:
            catalogue = BACKENDS.load(origin)
            subject = trace(net, x) if origin == "native" else net
            for candidate in method or [known for known in catalogue if known not in FREE]:
                if candidate in catalogue:
                    explain = partial(built(catalogue, candidate), subject, x, target, seeds=seeds)
                    measured = _cost(partial(gradient, net, x, target, seeds=seeds), explain, candidate, device, rounds)
                    goal = RAP_TARGET.get(name, "") if candidate == "rap" else TARGET.get(candidate, "")
                    print(row([name, origin, candidate, FLOOR.get(candidate, ""), goal, measured]), flush=True)


def _cost(gradient: Callable[[], object], explain: Callable[[], object], method: str, device: str, rounds: int) -> str:
    try:
        cost = ratio(gradient, explain, device, rounds)
    except RapbenchError as error:
        return f"refused: {error}"
    return f"{cost / (STEPS if method in PER_STEP else 1):.2f}"


@app.command()
def perturbation(model: Models = ["vgg16"], batch_size: int = 8, rounds: int = 3, device: str = "cpu") -> None:  # noqa: B006
    """Throughput of perturbing one image in 2 x 40 steps over that of bare forward passes of as many images."""
    print(row(["model", "batch", "target", "measured"]))
    print(row(["---"] * 4))
    for name in model:
        net, x = network(name, device), images(1, device)
        batches = Batches(batch_size)

        @torch.inference_mode()
        def classify(inputs: Tensor, net: nn.Module = net, batches: Batches = batches) -> Tensor:
            return batches.map(net, inputs)

        scene = explained(x, torch.randn_like(x), classify)
        bare = images(80, device)
        cost = ratio(partial(classify, bare), partial(Perturbation(), scene), device, rounds)
        print(row([name, batch_size, "0.95", f"{1 / cost:.3f}"]), flush=True)


@app.command()
def transformers(model: str = "vit_b_16", batch_size: int = 8, rounds: int = 3, device: str = "cpu") -> None:
    """Images a second of methods for transformers over those of the published code of Chefer et al. 2021 (CVPR)."""
    net, x = cast("VisionTransformer", network(model, device)), images(batch_size, device)
    nn.init.normal_(net.heads.head.weight, std=0.02)  # torchvision's is 0, and so would all relevance be
    learning, graph, target = copy.deepcopy(net).requires_grad_(), trace(net, x), net(x).argmax(1)
    reference = partial(chefer_lrp, learning, x[:1], target[:1])
    found = built(METHODS, "chefer_lrp")(graph, x[:1], target[:1], seeds=torch.zeros(1))
    same = functional.interpolate(reference().view(1, 1, 14, 14), (224, 224), mode="bilinear", align_corners=False)
    difference = float((found.sum(1, keepdim=True) - same).abs().sum() / same.abs().sum())
    print(f"{model}: the map of chefer_lrp differs from the published computation's by {difference:.1e}\n")
    print(row(["method", "batch", "target", "images a second over the published code's"]))
    print(row(["---"] * 4))
    for name in (*ATTENTION, "cp_lrp", "attn_lrp"):
        explain = partial(built(METHODS, name), graph, x, target, seeds=torch.zeros(batch_size))
        measured = batch_size / ratio(reference, explain, device, rounds)
        print(row([name, batch_size, "10", f"{measured:.1f}"]), flush=True)


@app.command()
def memory(model: Models = ["vgg16"], method: list[str] = ["rap"], batch_size: int = 8) -> None:  # noqa: B006
    """Peak memory of a method over the gradient's, weights not counted; each in a process of its own."""
    print(row(["model", "method", "batch", "MiB", "over the gradient"]))
    print(row(["---"] * 5))
    for name in model:
        base = _peak(name, "", batch_size)
        reference = _peak(name, "gradient", batch_size) - base
        print(row([name, "gradient", batch_size, f"{reference / 1024:.0f}", "1"]), flush=True)
        for candidate in method:
            used = _peak(name, candidate, batch_size) - base
            print(row([name, candidate, batch_size, f"{used / 1024:.0f}", f"{used / reference:.2f}"]), flush=True)


def _peak(model: str, method: str, batch_size: int) -> int:
    """Median of three processes: where the allocator puts things differs from one to the next."""
    command = [sys.executable, __file__, "peak", model, str(batch_size), *([method] if method else [])]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    return int(statistics.median(int(run.stdout) for run in runs))


@app.command()
def shards(rounds: int = 1) -> None:
    """What a worker does besides its work, and what two workers do in the time of one, on eight tasks of scenes."""
    overheads, speedups = [], []
    work = ["--method", "rap,gradient", "--limit", "128", "--metric", "outside_inside,segmentation,perturbation"]
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            alone = _run([*work, "--out", one, "--shard", "0/1"], threads=1)
            overheads.append(_run([*work, "--out", one, "--shard", "0/1"], threads=1) / alone)  # nothing is left to do
            speedups.append(alone / _run([*work, "--out", two, "--workers", "2"], threads=1))
    print(row(["measure", "target", "measured"]))
    print(row(["---"] * 3))
    print(
        row(
            [
                "start, model, plan and claims, over what `submit` gives one job",
                0.10,
                f"{statistics.median(overheads):.3f}",
            ]
        )
    )
    print(row(["speed of two workers over one, a thread each", 1.7, f"{statistics.median(speedups):.2f}"]))


def _run(options: list[str], threads: int) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "rapbench", "run", *options],
        capture_output=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    return time.perf_counter() - start


@app.command()
def gpu(
    to: Annotated[Path, typer.Option(help="Folder of benchmark_gpu.md and benchmark_gpu.json.")],
    minutes: Annotated[float, typer.Option(help="After so long what remains is left out, and the page says so.")] = 8,
    stage: Annotated[list[str], typer.Option(help="Only these stages. [default: all]")] = [],  # noqa: B006
    network: Annotated[list[str], typer.Option(help="Networks to measure.")] = ["vgg16", "resnet50"],  # noqa: B006
    device: str = "cuda",
    small: Annotated[bool, typer.Option(help="Embedded networks and few images: does it run?")] = False,
) -> None:
    """Everything that is to be known of a card, stage by stage; the page is written after each."""
    from gpu import measure

    measure(to, minutes, stage, network, device, small=small)


@app.command(hidden=True)
def peak(model: str, batch_size: int, method: Annotated[str, typer.Argument()] = "") -> None:
    """Greatest resident size in KiB of a process that explains once."""
    net, x = network(model, "cpu"), images(batch_size, "cpu")
    graph = trace(net, x)
    if method:
        built(BACKENDS.load("native"), method)(
            graph, x, torch.zeros(batch_size, dtype=torch.int64), seeds=torch.zeros(1)
        )
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    keep_freed_memory()
    app()

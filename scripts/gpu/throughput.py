"""How fast: bare forward passes, explaining in gradients, scoring over the best bare forward pass, memory."""

from __future__ import annotations

import platform
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import torch
import torchvision
from measured import FREE, PER_STEP, STEPS, built, ratio
from torch import Tensor, nn

from gpu.page import Section
from gpu.scene import ARITHMETICS, LAYOUTS, Best, Scene, arithmetic, classifier, fitted, rate, relative, searching
from rapbench.backends import BACKENDS
from rapbench.core.catalogue import parse_call
from rapbench.core.errors import RapbenchError
from rapbench.methods.arithmetic import explained as in_arithmetic
from rapbench.methods.arithmetic import wanted
from rapbench.metrics import METRICS
from rapbench.metrics.degradation import Degradation
from rapbench.metrics.perturbation import Perturbation
from rapbench.relprop.tracing.trace import trace
from rapbench.run.batches import Batches
from rapbench.run.scorer import compiled_for

PROTOCOLS = (
    *("deletion_insertion(step=3584)", "fraction_perturbation", "road", "single_deletion", "saco"),
    *("sensitivity_n", "infidelity"),
)


def card(section: Section, scene: Scene) -> None:
    """What it is, and its two ceilings."""
    section.say(f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}")
    if scene.device == "cuda":
        asked = "name,memory.total,driver_version,clocks.max.sm,clocks.max.mem"
        command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]
        section.say(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
        section.say(f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    section.table("ceiling", "measured", "unit")
    side = 512 if scene.small else 8192
    for name in ARITHMETICS:
        with arithmetic(name) as dtype:
            a, b = (torch.randn(side, side, device=scene.device, dtype=dtype) for _ in "ab")
            section.row(f"{side}³ product, {name}", 2e-12 * side**3 * rate(lambda: a @ b, 1, scene), "TFLOP/s")  # noqa: B023
    source = torch.randn(2**20 if scene.small else 2**29, device=scene.device)
    target = torch.empty_like(source)
    section.row("copy, read and written", 8e-9 * source.numel() * rate(lambda: target.copy_(source), 1, scene), "GB/s")


@torch.inference_mode()
def bare(section: Section, scene: Scene) -> None:
    """Forward passes by batch, arithmetic and layout, and as a CUDA graph."""
    section.table("network", "arithmetic", "batch", "layout", "cuDNN searches", "images/s")
    for name, kind in product(scene.networks, ARITHMETICS):
        with arithmetic(kind) as dtype:
            net = scene.network(name, dtype=dtype)
            for layout, searched in product(LAYOUTS, (True, False)):
                _one(section, scene, (name, kind), net, scene.usual, layout, searched)
            best = scene.best[name, kind]
            for batch in scene.batches:
                if batch != scene.usual:
                    _one(section, scene, (name, kind), net, batch, best.layout, best.searched)
            with searching(best.searched):
                for batch in (scene.batches[0], scene.best[name, kind].batch):
                    if scene.device == "cuda":
                        graphed = _graphed(net, scene, batch, best.layout, dtype)
                        section.row(name, kind, batch, best.layout, "graph", rate(graphed, batch, scene))
        del net
        _freed(scene)
    for (name, kind), best in scene.best.items():
        section.say(f"best of {name} in {kind}: {best.rate:.0f} images/s at batch {best.batch}, {best.layout}")


def _one(
    section: Section,
    scene: Scene,
    key: tuple[str, str],
    net: nn.Module,
    batch: int,
    layout: str,
    searched: bool,
) -> None:
    """Measures one way of running a network, and remembers the best."""
    x = scene.images(batch, next(net.parameters()).dtype).contiguous(memory_format=LAYOUTS[layout])
    net = net.to(memory_format=LAYOUTS[layout])
    with searching(searched):
        found = rate(lambda: net(x), batch, scene)
    if key not in scene.best or found > scene.best[key].rate:
        scene.best[key] = Best(found, batch, layout, searched)
    section.row(*key, batch, layout, "yes" if searched else "no", found)


def _graphed(net: nn.Module, scene: Scene, batch: int, layout: str, dtype: torch.dtype) -> Callable[[], object]:
    """Copies inputs into a captured forward pass and replays it."""
    source = scene.images(batch, dtype).contiguous(memory_format=LAYOUTS[layout])
    net = net.to(memory_format=LAYOUTS[layout])
    static = source.clone()
    for _ in range(3):
        net(static)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        net(static)

    def replay() -> None:
        static.copy_(source)
        graph.replay()

    return replay


@torch.inference_mode()
def compiled(section: Section, scene: Scene) -> None:
    """What compiling a network for one shape gives, costs and changes."""
    columns = ("network", "arithmetic", "batch", "eager, images/s", "compiled, images/s", "over eager", "s to compile")
    section.table(*columns, "logits, L1")
    for kind, name in product(("bf16", "fp32", "tf32"), scene.networks):
        with arithmetic(kind) as dtype:
            net, batch = scene.network(name, dtype=dtype), scene.usual
            x = scene.images(batch, dtype)
            eager = rate(partial(net, x), batch, scene)
            faster = compiled_for(net, Batches(batch))
            start = time.perf_counter()
            apart = relative(faster(x), net(x))
            spent = time.perf_counter() - start
            found = rate(partial(faster, x), batch, scene)
        section.row(name, kind, batch, eager, found, found / eager, spent, apart)
        torch.compiler.reset()
        _freed(scene)


def explaining(section: Section, scene: Scene) -> None:
    """Cost of every native method over the plain gradient's, float32."""
    batch, rounds = (2, 1) if scene.small else (32, 3)
    section.table("network", "method", "batch", "gradients", "images/s")
    catalogue = BACKENDS.load("native")
    for name in scene.networks:
        with arithmetic("fp32"), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            net, x = scene.network(name), scene.images(batch)
            graph, target, seeds = trace(net, x), net(x).argmax(1), torch.arange(batch)
            gradient = partial(built(catalogue, "gradient"), net, x, target, seeds=seeds)
            speed = rate(gradient, batch, scene)
            scene.rates[f"gradient {name}"] = speed
            section.row(name, "a gradient alone", batch, 1.0, speed)
            patterns = fitted(net, x, Path(folder, name))
            rap = built(catalogue, "rap")
            if (needed := wanted(rap, graph)) != "fp32":
                auto = partial(in_arithmetic, rap, graph, x, target, seeds=seeds, arithmetic=needed)
                cost = ratio(gradient, auto, scene.device, rounds)
                section.row(name, f"rap, {needed} (precision auto)", batch, cost, speed / cost)
            for method in ("rap", *(m for m in catalogue if m not in {*FREE, "rap"})):
                try:
                    explain = partial(built(catalogue, method, patterns), graph, x, target, seeds=seeds)
                    cost = ratio(gradient, explain, scene.device, rounds) / (STEPS if method in PER_STEP else 1)
                except RapbenchError as error:
                    section.row(name, method, batch, f"refused: {str(error)[:60]}", "")
                else:
                    scene.rates[f"{method} {name}"] = speed / cost
                    section.row(name, method, batch, cost, speed / cost)
        _freed(scene)


def scoring(section: Section, scene: Scene) -> None:
    """Perturbation and degradation over the best bare forward pass of the same network in the same arithmetic."""
    count = 2 if scene.small else 32
    section.table("network", "arithmetic", "metric", "batch", "images/s", "share of the best", "waits for the device")
    for name, kind in product(scene.networks, ARITHMETICS):
        best = scene.best.get((name, kind), Best(float("nan"), scene.usual, "channels last", searched=False))
        with arithmetic(kind) as dtype, searching(best.searched):
            net = scene.network(name, dtype=dtype).to(memory_format=LAYOUTS[best.layout])
            explained = scene.explained(lambda x, net=net, dtype=dtype: net(x.to(dtype)), count, best)
            steps = 4 if scene.small else 40
            for metric in (Perturbation(orders="lerf", steps=steps), Degradation(steps=steps)):
                found = rate(partial(metric, explained), count * steps, scene)
                scene.rates[f"scoring {name} {kind}"] = max(found, scene.rates.get(f"scoring {name} {kind}", 0))
                title = type(metric).__name__.lower()
                section.row(name, kind, title, best.batch, found, found / best.rate, _waits(metric, explained, scene))
        _freed(scene)


def protocols(section: Section, scene: Scene) -> None:
    """The metrics that erase pixels otherwise, over the best bare forward pass of as many inputs, in float32."""
    count = 2 if scene.small else 32
    section.table("network", "metric", "inputs", "inputs/s", "share of the best", "waits for the device")
    for name in scene.networks:
        with arithmetic("fp32"):
            best = scene.best.get((name, "fp32")) or _as_a_run(scene, name)
        with arithmetic("fp32"), searching(best.searched):
            net = scene.network(name).to(memory_format=LAYOUTS[best.layout])
            seen: list[int] = []

            def counted(x: Tensor, net: nn.Module = net, seen: list[int] = seen) -> Tensor:
                seen.append(len(x))
                return net(x)

            explained = scene.explained(counted, count, best)
            for title in PROTOCOLS:
                metric = METRICS.build(parse_call(title))
                seen.clear()
                metric(explained)
                inputs = sum(seen)
                found = rate(partial(metric, explained), inputs, scene)
                section.row(name, title, inputs, found, found / best.rate, _waits(metric, explained, scene))
        _freed(scene)


@torch.inference_mode()
def _as_a_run(scene: Scene, name: str) -> Best:
    """A bare forward pass as a run lays it out, where no better one was looked for."""
    net, x = scene.network(name), scene.images(scene.usual)
    layout = "channels last" if x.is_contiguous(memory_format=torch.channels_last) else "contiguous"
    return Best(rate(partial(net, x), scene.usual, scene), scene.usual, layout, searched=False)


def _waits(metric: Callable[[object], object], explained: object, scene: Scene) -> object:
    """How often the host waits for the device while a block of images is scored."""
    if scene.device != "cuda":
        return "-"
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            metric(explained)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def memory(section: Section, scene: Scene) -> None:
    """Peak memory of the device by batch, weights included."""
    if scene.device != "cuda":
        section.say("only on a card")
        return
    section.table("network", "what", "batch", "GiB", "MiB an image")
    catalogue = BACKENDS.load("native")
    for name in scene.networks:
        net = scene.network(name)
        graph = trace(net, scene.images(2))
        for what, batch in product(("gradient", "rap", "lrp_a2b1"), (16, 32, 64, 128)):
            x, target = scene.images(batch), torch.zeros(batch, dtype=torch.int64, device=scene.device)
            explain = partial(built(catalogue, what), graph, x, target, seeds=torch.arange(batch))
            _peak(section, scene, (name, what, batch), explain)
        for batch in (256, 512, 1024):
            x = scene.images(batch)
            _peak(section, scene, (name, "classifying", batch), partial(classifier(net, batch), x))


def _peak(section: Section, scene: Scene, key: tuple[str, str, int], function: Callable[[], Tensor]) -> None:
    _freed(scene)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        function()
    except torch.OutOfMemoryError:
        section.row(*key, "more than there is", "")
        return
    peak = torch.cuda.max_memory_allocated()
    section.row(*key, peak / 2**30, (peak - before) / 2**20 / key[2])


def double(section: Section, scene: Scene) -> None:
    """What a float64 forward pass costs beside float32."""
    batch = 2 if scene.small else 32
    section.table("network", "what", "batch", "images/s")
    for name in scene.networks:
        for title, dtype in (("float32", torch.float32), ("float64", torch.float64)):
            torch.backends.cudnn.allow_tf32 = False
            net, x = scene.network(name, dtype=dtype), scene.images(batch, dtype)
            with torch.inference_mode():
                section.row(name, f"{title} forward", batch, rate(partial(net, x), batch, scene))
            graph, target = trace(net, x), torch.zeros(batch, dtype=torch.int64, device=scene.device)
            rap = partial(built(BACKENDS.load("native"), "rap"), graph, x, target, seeds=torch.arange(batch))
            section.row(name, f"{title} rap", batch, rate(rap, batch, scene))
            _freed(scene)


def _freed(scene: Scene) -> None:
    if scene.device == "cuda":
        torch.cuda.empty_cache()

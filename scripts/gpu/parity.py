"""Is it right: maps and rows of the device against the CPU's and against float64, and what rounding does to them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from measured import FREE, built, explained
from torch import Tensor, nn

from gpu.page import Section
from gpu.scene import Scene, arithmetic, classifier, embedded, fitted, relative
from rapbench.backends import BACKENDS
from rapbench.core.errors import RapbenchError
from rapbench.core.types import Method
from rapbench.metrics.perturbation import Perturbation
from rapbench.relprop.tracing.trace import trace
from rapbench.results.store import Store

ROOT = Path(__file__).parents[2]
BASELINE = ROOT / "results/baselines/scenes.json"
METRICS_OF_ROWS = (
    *("outside_inside", "segmentation(ap=soft)", "pointing_game", "energy", "average_drop"),
    *("perturbation(pixels=100, steps=10)", "degradation(steps=20)", "deletion_insertion(step=3584)"),
    *(
        "fraction_perturbation",
        "road",
        "single_deletion",
        "saco",
        "sensitivity_n(subsets=20)",
        "infidelity(samples=50)",
    ),
)
"""Every metric that scenes have annotations for, but the one that explains a network for each of its layers."""
NO_NUMBERS = ["id", "index", "label"]


def maps(section: Section, scene: Scene) -> None:
    """Every native method: float32 on the device and on the CPU, each against the other and against float64."""
    section.table("network", "method", "device over CPU", "device over float64", "CPU over float64")
    count = 2 if scene.small else 4
    for name in scene.networks:
        net, x, _ = embedded(name, count)
        _maps(section, scene, f"{name}, embedded", net, x)
    for name in () if scene.small else scene.networks:
        draw = torch.Generator().manual_seed(0)
        _maps(section, scene, name, scene.network(name, "cpu"), torch.randn(2, 3, 224, 224, generator=draw))


def _maps(section: Section, scene: Scene, title: str, net: nn.Module, x: Tensor) -> None:
    """Relative distances Σ|a - b| / Σ|b| of all methods' maps."""
    catalogue = BACKENDS.load("native")
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        target = net(x).argmax(1)
    places = (("cpu", torch.float32), (scene.device, torch.float32), (scene.device, torch.float64))
    graphs = [(trace(_copy(net, *place), x.to(*place)), *place) for place in places]
    with tempfile.TemporaryDirectory() as folder:
        patterns = fitted(_copy(net, *places[1]), x.to(scene.device), Path(folder, "patterns.safetensors"))
        for name in (m for m in catalogue if m not in FREE):
            try:
                method = built(catalogue, name, patterns)
                cpu, device, exact = (_map(method, *graph, x, target) for graph in graphs)
            except RapbenchError as error:
                section.row(title, name, f"refused: {str(error)[:60]}", "", "")
                continue
            section.row(title, name, relative(device, cpu), relative(device, exact), relative(cpu, exact))


def _map(explain: Method, graph: nn.Module, place: str, dtype: torch.dtype, x: Tensor, target: Tensor) -> Tensor:
    with arithmetic("fp32"), torch.no_grad():
        found: Tensor = explain(graph, x.to(place, dtype), target.to(place), seeds=torch.arange(len(x)))
    return found.cpu()


def _copy(net: nn.Module, device: str, dtype: torch.dtype) -> nn.Module:
    """The network elsewhere or wider; the given one stays as it is."""
    from copy import deepcopy

    return deepcopy(net).to(device, dtype).to(memory_format=torch.channels_last)


def rounding(section: Section, scene: Scene) -> None:
    """tf32 and bf16, once when explaining and once when scoring the same maps, against float64."""
    count = 2 if scene.small else 64
    section.table("network", "arithmetic", "explaining by", "map, L1", "pixels of other sign, %")
    inputs = {name: embedded(name, count) for name in scene.networks}
    exact: dict[tuple[str, str], Tensor] = {}
    for name, kind in product(inputs, ("fp64", "fp32", "tf32", "bf16")):
        net, x, _ = inputs[name]
        with arithmetic(kind) as dtype:
            graph = trace(_copy(net, scene.device, dtype), x.to(scene.device, dtype))
            target = net(x).argmax(1).to(scene.device)
            for method in ("rap", "lrp_a2b1", "input_gradient", "guided_backprop"):
                explain = built(BACKENDS.load("native"), method)
                found = explain(graph, x.to(scene.device, dtype), target, seeds=torch.arange(count)).double().sum(1)
                reference = exact.setdefault((name, method), found)
                if kind != "fp64":
                    signs = 100 * float((found.sign() != reference.sign()).double().mean())
                    section.row(name, kind, method, relative(found, reference), signs)
    _outcomes(section, scene, {name: (net, x, exact[name, "rap"]) for name, (net, x, _) in inputs.items()})


def _outcomes(section: Section, scene: Scene, given: dict[str, tuple[nn.Module, Tensor, Tensor]]) -> None:
    """RAP's float64 maps scored in each arithmetic."""
    columns = (
        "network",
        "arithmetic",
        "LeRF AOPC",
        "its deviation",
        "other top class, % of inputs",
        "probability, mean deviation",
    )
    section.table(*columns)
    metric = Perturbation(orders="lerf")
    for name, (net, x, relevance) in given.items():
        exact: dict[str, Tensor] = {}
        for kind in ("fp64", "fp32", "tf32", "bf16"):
            with arithmetic(kind) as dtype:
                classify = classifier(_copy(net, scene.device, dtype), scene.usual, dtype)
                wide = x.to(scene.device)
                target = net(x).argmax(1).to(scene.device)
                scored = replace(explained(wide, relevance.unsqueeze(1), classify), target=target)
                found = metric(scored)
            exact = exact or found
            aopc, reference = (_aopc(curves["lerf_accuracy"]) for curves in (found, exact))
            flips = 100 * float((found["lerf_accuracy"] != exact["lerf_accuracy"]).double().mean())
            apart = float((found["lerf_probability"] - exact["lerf_probability"]).abs().mean())
            section.row(name, kind, aopc, abs(aopc - reference), flips, apart)


def _aopc(curve: Tensor) -> float:
    return float((curve[:, :1] - curve).mean())


def rows(section: Section, scene: Scene) -> None:
    """Rows of every metric on the device against the CPU's: of each, the column that is furthest apart."""
    section.table("network", "method", "metric", "columns", "furthest apart", "mean difference", "mean magnitude")
    for name in scene.networks[:1] if scene.small else scene.networks:
        common = {"dataset": "scenes", "model": name, "method": "rap,gradient"}
        common |= {"metric": ",".join(METRICS_OF_ROWS), "limit": "2" if scene.small else "4"}
        with tempfile.TemporaryDirectory() as folder:
            for device in ("cpu", scene.device):
                run({**common, "device": device, "out": f"{folder}/{device}"}, section)
            one, two = (_held(Path(folder, device)) for device in ("cpu", scene.device))
            for (method, metric), columns in one.items():
                apart = {c: _apart(values, two[method, metric][c]) for c, values in columns.items()}
                worst = max(apart, key=lambda c: apart[c][0] / (apart[c][1] or 1))
                section.row(name, method, metric, len(apart), worst, *apart[worst])


def _apart(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Means of |a - b| and |a| over numbers; the former infinite where one has a number and the other has none."""
    known = np.isfinite(a)
    if (known != np.isfinite(b)).any():
        return float("inf"), 0.0
    if not known.any():
        return 0.0, 0.0
    return float(np.abs(a - b)[known].mean()), float(np.abs(a)[known].mean())


def _held(folder: Path) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """(method, metric) -> column -> numbers, of all rows in a results folder."""
    found = {}
    for held in Store(folder).held():
        frame = held.rows.frame
        names = frame.columns.difference(NO_NUMBERS)
        numbers = {name: np.stack(frame[name].to_list()).astype(np.float64) for name in names}
        found[held.cell.method, held.cell.metric] = numbers
    return found


def baseline(section: Section, scene: Scene) -> None:
    """`rapbench check` of the committed baseline, whose numbers a CPU computed, on this device."""
    content = json.loads(BASELINE.read_text())
    content["spec"]["device"] = scene.device
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "baseline.json")
        file.write_text(json.dumps(content))
        done = rapbench(["check", "--against", str(file), "--out", f"{folder}/runs"], section)
    said = (done.stdout or done.stderr).strip().splitlines()
    section.data.append({"exit code": done.returncode, "lines": said})
    section.say(f"exit code {done.returncode}; the last of {len(said)} lines:")
    for line in said[-12:]:
        section.say(f"`{line}`")


def run(options: Mapping[str, object], section: Section) -> dict[str, object]:
    """The document of `rapbench run --json`."""
    flags = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    done = rapbench(["run", *flags, "--json"], section)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message")
    document: dict[str, object] = json.loads(done.stdout)
    return document


def rapbench(arguments: list[str], section: Section) -> subprocess.CompletedProcess[str]:
    """A command of rapbench, ended where the time is over."""
    command = [sys.executable, "-m", "rapbench", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=max(20.0, section.page.left())
    )

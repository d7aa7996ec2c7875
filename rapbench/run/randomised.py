"""Networks with parameters drawn anew, layer by layer: copies, so that the network itself stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from rapbench.core.seeds import image_seed
from rapbench.core.types import Statistics
from rapbench.relprop.tracing.trace import unwrapped


def layers(module: nn.Module, x: Tensor) -> Mapping[str, tuple[str, ...]]:
    """The layers of a network, from the logits to the input: by name, the modules whose parameters are theirs.

    A layer is a module that runs and holds parameters itself. What a module holds that never runs, as one whose weights
    another reads, is of the innermost one around it that does.

    Args:
        module: the network.
        x: images (N, C, H, W) that it takes.
    """
    network, ran = unwrapped(deepcopy(module)), list[str]()
    for name, part in network.named_modules():
        part.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        network(x)
    found: dict[str, tuple[str, ...]] = dict.fromkeys(reversed(dict.fromkeys(ran)), ())
    for name, part in network.named_modules():
        if any(True for _ in part.parameters(recurse=False)):
            layer = _around(name, found)
            found[layer] = (*found[layer], name)
    return {layer: held for layer, held in found.items() if held}


def _around(name: str, ran: Collection[str]) -> str:
    """The innermost module that ran of those around a module and itself; the network runs."""
    while name not in ran:
        name = name.rpartition(".")[0]
    return name


@torch.no_grad()
def randomised(module: nn.Module, parts: Collection[str], *, seed: int, statistics: Statistics) -> nn.Module:
    """A copy of a network in which modules have parameters drawn anew, each by a seed of its own.

    Parameters are drawn by the module's own rule, `reset_parameters`. Those without one, as class tokens, position
    embeddings and layer scales, are normal with the mean and standard deviation that they had: a parameter of one value
    keeps it. All are drawn on the CPU in float32, and no generator is left changed.

    Args:
        module: the network.
        parts: names of modules, whose own parameters alone are meant.
        seed: of the run.
        statistics: whether running statistics stay or become what their module starts with.
    """
    network = unwrapped(deepcopy(module))
    for name in parts:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(image_seed(seed, name))
            _draw(network.get_submodule(name), statistics)
    return network


def _draw(part: nn.Module, statistics: Statistics) -> None:
    drawn = _by_own_rule(part)
    for name, parameter in part.named_parameters(recurse=False):
        if not parameter.is_floating_point():
            continue
        value = parameter.detach().cpu().float()
        if name not in drawn or torch.equal(drawn[name], value):
            drawn[name] = value.mean() + value.std(correction=0) * torch.randn(value.shape)
        parameter.copy_(drawn[name])
    if statistics == "reset":
        for name, buffer in part.named_buffers(recurse=False):
            buffer.copy_(drawn.get(name, buffer))


def _by_own_rule(part: nn.Module) -> dict[str, Tensor]:
    """What a module's rule makes of what it holds itself; nothing where it has none."""
    rule = next((name for name in ("reset_parameters", "_reset_parameters") if hasattr(part, name)), "")
    if not rule:
        return {}
    fresh = deepcopy(part).cpu().float()
    getattr(fresh, rule)()
    return {**dict(fresh.named_parameters(recurse=False)), **dict(fresh.named_buffers(recurse=False))}

"""What captum gets wrong, measured on small networks; every case is refused by name before anything is computed.

All of these were silent: captum returned maps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rapbench.backends.modules import Hookable
from rapbench.relprop.layers import Add, AveragePool, BatchNorm, MaxPool, Rectifier, Weighted

POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_REUSED = "the module runs more than once, and captum remembers one run of each"


def check_rectifiers(model: nn.Module, x: Tensor, method: str) -> None:
    """Every ReLU must be a module; one that runs several times is handled right."""
    network = Hookable(model, x, method)
    for layer in network.graph.layers:
        if isinstance(layer, Rectifier) and not isinstance(network.module(layer), nn.ReLU):
            network.refuse(layer, "captum changes the gradient of nn.ReLU modules only")


def check_differences(model: nn.Module, x: Tensor, method: str) -> None:
    """DeepLIFT: every ReLU and max-pool must be a module that runs once, and no windows of a pool may overlap."""
    network = Hookable(model, x, method)
    for n in network.graph.carrying():
        layer = network.graph.layers[n]
        module = network.module(layer)
        network.check_known(layer)
        if not isinstance(layer, Rectifier | MaxPool):
            continue
        if type(module) not in (nn.ReLU, *POOLS):
            network.refuse(layer, "captum has rules for nn.ReLU and nn.MaxPool modules, and takes the gradient of this")
        if network.reused(layer):
            network.refuse(layer, _REUSED)
        if isinstance(module, POOLS) and _overlap(module):
            network.refuse(layer, "captum loses what a unit wins in more than one of overlapping windows")


def _overlap(pool: nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d) -> bool:
    kernel, stride, dilation = (torch.as_tensor(value) for value in (pool.kernel_size, pool.stride, pool.dilation))
    return bool((kernel > stride).any() or (dilation > 1).any())


def check_relevance(model: nn.Module, x: Tensor, method: str) -> None:
    """LRP: no additions, and every other layer that divides relevance must be a module that runs once."""
    network = Hookable(model, x, method)
    for n in network.graph.carrying():
        layer = network.graph.layers[n]
        network.check_known(layer)
        if isinstance(layer, Add):
            network.refuse(layer, "captum gives each summand the whole relevance")
        if isinstance(layer, Rectifier) and "6" in layer.operation:
            network.refuse(layer, "captum stops relevance at units above 6")
        if isinstance(layer, Weighted | AveragePool | BatchNorm):
            if network.module(layer) is None:
                network.refuse(layer, "captum has rules for modules, and takes the gradient of this function")
            if network.reused(layer):
                network.refuse(layer, _REUSED)

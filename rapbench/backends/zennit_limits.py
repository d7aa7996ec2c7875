"""What zennit cannot see or remember; every case is refused by name before anything is computed."""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from rapbench.backends.modules import Hookable
from rapbench.relprop.layers import Add, BatchNorm, Layer, Rectifier, Weighted


def hooked(network: Hookable, layer: Layer) -> nn.Module:
    """The module of a layer that a rule is for; it may run several times only if the rule needs no memory."""
    module = network.module(layer)
    if module is None:
        network.refuse(layer, "zennit hooks modules, and this is a function")
    if network.reused(layer) and not isinstance(layer, Rectifier):
        network.refuse(layer, "the module runs more than once, and zennit remembers one run of each")
    return module


def mergeable(network: Hookable) -> list[tuple[nn.Module, nn.Module]]:
    """Weighted modules and the batch norms that they alone feed."""
    graph, pairs = network.graph, []
    for n, norm in enumerate(graph.layers):
        if isinstance(norm, BatchNorm) and graph.consumers(norm.inputs[0]) == [n]:
            weighted = graph.layers[norm.inputs[0]]
            if isinstance(weighted, Weighted):
                if norm.weight is None:
                    network.refuse(norm, "zennit merges batch norms that have weights")
                pairs.append((hooked(network, weighted), hooked(network, norm)))
    return pairs


def additions_are_residual(network: Hookable, model: nn.Module) -> bool:
    """Whether there are additions; zennit knows those of torchvision's residual blocks."""
    added = [layer for layer in network.graph.layers if isinstance(layer, Add)]
    blocks = [type(module).forward for module in model.modules() if isinstance(module, BasicBlock | Bottleneck)]
    known = all(forward in (BasicBlock.forward, Bottleneck.forward) for forward in blocks)
    if added and not (known and len(added) == len(blocks)):
        network.refuse(added[0], "zennit sees additions in torchvision's residual blocks only")
    return bool(added)

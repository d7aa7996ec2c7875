"""VGG-16 and ResNet-50 with every layer of the originals but few channels, and weights small enough to ship.

Module names and state dict keys are torchvision's, so that code written for the originals runs on these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources

from safetensors.torch import load
from torch import nn
from torchvision.models.resnet import Bottleneck
from torchvision.models.vgg import VGG, make_layers

_NUM_CLASSES = 12
"""Classes of the data set `scenes`, on which the embedded weights were trained."""


def vgg16_narrow(num_classes: int) -> nn.Module:
    """VGG-16 with an eighth of the channels: 13 convolutions of 8 to 64 channels, 3 dense layers, no batch norm.

    Source: Simonyan and Zisserman 2015, Table 1, column D.
    """
    stages = [8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M"]
    net: nn.Module = VGG(make_layers(stages), num_classes, init_weights=False)
    hidden = partial(nn.Dropout, p=0.2)
    net.classifier = nn.Sequential(
        nn.Linear(64 * 7 * 7, 256), nn.ReLU(inplace=True), hidden(),
        nn.Linear(256, 256), nn.ReLU(inplace=True), hidden(),
        nn.Linear(256, num_classes),
    )  # fmt: skip
    return net


def resnet50_narrow(num_classes: int) -> nn.Module:
    """ResNet-50 with a quarter of the channels: 16 bottleneck blocks of 16 to 128 inner channels.

    Source: He et al. 2016, Table 1.
    """
    widths = (16, 32, 64, 128)
    outputs = (16, *(Bottleneck.expansion * width for width in widths))
    net = nn.Sequential()
    net.add_module("conv1", nn.Conv2d(3, 16, kernel_size=7, stride=2, padding=3, bias=False))
    net.add_module("bn1", nn.BatchNorm2d(16))
    net.add_module("relu", nn.ReLU(inplace=True))
    net.add_module("maxpool", nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
    for stage, (inputs, width, blocks) in enumerate(zip(outputs, widths, (3, 4, 6, 3), strict=False), start=1):
        net.add_module(f"layer{stage}", _stage(inputs, width, blocks, stride=1 if stage == 1 else 2))
    net.add_module("avgpool", nn.AdaptiveAvgPool2d((1, 1)))
    net.add_module("flatten", nn.Flatten())
    net.add_module("fc", nn.Linear(outputs[-1], num_classes))
    return net


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    outputs = Bottleneck.expansion * width
    shortcut = nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
    )
    rest = (Bottleneck(outputs, width) for _ in range(blocks - 1))
    return nn.Sequential(Bottleneck(inputs, width, stride, shortcut), *rest)


@dataclass(frozen=True, kw_only=True)
class Narrow:
    """A narrow network: how it is built and what tables print for it."""

    builder: Callable[[int], nn.Module]
    title: str


NARROW = {
    "vgg16": Narrow(builder=vgg16_narrow, title="vgg16 (width 1/8, scenes weights)"),
    "resnet50": Narrow(builder=resnet50_narrow, title="resnet50 (width 1/4, scenes weights)"),
}
"""Networks with embedded weights, by catalogue name."""


def narrow_module(name: str) -> nn.Module:
    """The network of that name with its embedded weights, stored as float16 and widened to float32, to evaluate."""
    net = NARROW[name].builder(_NUM_CLASSES)
    file = resources.files("rapbench.models") / "weights" / f"{name}_scenes.safetensors"
    net.load_state_dict(load(file.read_bytes()))
    return net.eval()

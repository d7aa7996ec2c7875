"""VGG-16, ResNet-50 and ViT-B/16, with torchvision's weights or, for scenes, as narrow networks with embedded ones.

The narrow networks have the layers of the originals but few channels, so that their weights are small enough to ship.
The ViT has half the blocks besides, and convolutions that make its patches. Module names and state dict keys are
torchvision's, so that code written for the originals runs on these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources

import torch
from safetensors.torch import load
from torch import nn
from torchvision import models
from torchvision.models.resnet import Bottleneck
from torchvision.models.vgg import VGG, make_layers
from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

from rapbench.core.types import Classifier, Training
from rapbench.models.zoo import Architecture

CLASSES = (
    *("checked square", "striped disc", "dotted triangle", "ringed star", "barred cross", "zigzag heart"),
    *("spoked wheel", "brick crescent", "spiral hexagon", "halved arrow", "eyed flower", "quartered drop"),
)
"""What the outputs of the embedded weights mean: the classes of the data set `scenes`."""


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


def vit_b_16_narrow(num_classes: int) -> nn.Module:
    """ViT-B/16 with a sixth of the width and half the blocks: 6 of 4 heads, over a class token and 14 x 14 patches.

    The hidden layers of the blocks are twice as wide as the tokens, not four times. Four strided convolutions and a
    1 x 1 make the patches in place of one convolution: with these a ViT learns from few images.

    Source: Dosovitskiy et al. 2021, Sec. 3.1; Xiao et al. 2021 (the convolutions).
    """
    stem = [ConvStemConfig(channels, kernel_size=3, stride=2) for channels in (24, 48, 96, 128)]
    net: nn.Module = VisionTransformer(
        image_size=224, patch_size=16, num_layers=6, num_heads=4, hidden_dim=128, mlp_dim=256,
        num_classes=num_classes, conv_stem_configs=stem,
    )  # fmt: skip
    return net


@dataclass(frozen=True, kw_only=True)
class Narrow:
    """A family whose embedded weights are those of a narrow network, and whose others are torchvision's.

    Attributes:
        network: the architecture at its full width.
        builder: number of classes -> narrow network.
        title: what tables print for the narrow network.
    """

    network: Architecture
    builder: Callable[[int], nn.Module]
    title: str

    @property
    def size(self) -> int:
        return self.network.size

    def default_weights(self, label_space: str) -> str:
        return self.network.default_weights(label_space)

    def absent(self, weights: str) -> str:
        return self.network.absent(weights)

    def load(self, weights: str, *, seed: int, training: Training | None = None) -> Classifier:
        """The narrow network for 'scenes', else the architecture with weights as torchvision's others."""
        if weights != "scenes":
            return self.network.load(weights, seed=seed, training=training)
        return Classifier(
            module=narrow_module(self.network.name),
            weights=weights,
            label_space="scenes",
            classes=CLASSES,
            title=self.title,
        )


def _with_scenes(function: Callable[..., nn.Module], builder: Callable[[int], nn.Module], change: str) -> Narrow:
    name = function.__name__
    network = Architecture(name=name, function=function, known=("auto", "random", "scenes"))
    return Narrow(network=network, builder=builder, title=f"{name} ({change}, scenes weights)")


VGG16 = _with_scenes(models.vgg16, vgg16_narrow, "width 1/8")
RESNET50 = _with_scenes(models.resnet50, resnet50_narrow, "width 1/4")
VIT_B_16 = _with_scenes(models.vit_b_16, vit_b_16_narrow, "width 1/6, depth 1/2, convolutional stem")
NARROW = {family.network.name: family for family in (VGG16, RESNET50, VIT_B_16)}
"""Networks with embedded weights, by catalogue name."""


def narrow_module(name: str) -> nn.Module:
    """The network of that name with its embedded weights, stored as float16 and widened to float32, to evaluate."""
    with torch.device("meta"):  # torchvision would draw weights of the full width first, which takes longer than a map
        net = NARROW[name].builder(len(CLASSES))
    file = resources.files("rapbench.models") / "weights" / f"{name}_scenes.safetensors"
    stored = {
        key: value.float() if value.is_floating_point() else value for key, value in load(file.read_bytes()).items()
    }
    net.load_state_dict(stored, assign=True)
    return net.eval()

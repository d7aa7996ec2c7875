"""Small networks, one for each way of building a classifier that propagation must get right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.squeezenet import Fire
from torchvision.models.vision_transformer import VisionTransformer


def vgg() -> nn.Module:
    """Convolutions with bias, in-place ReLUs, max-pools, an adaptive pool, three dense layers, dropout."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(True), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(3), nn.Flatten()),
        *(nn.Linear(72, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 12), nn.ReLU(True), nn.Linear(12, 5)),
    )


def _resnet(block: type[BasicBlock | Bottleneck]) -> nn.Module:
    return _lively(ResNet(block, [1, 1, 1, 1], num_classes=5))


def _lively(net: nn.Module) -> nn.Module:
    """The network with batch norms that are no identity."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return net


def bottleneck() -> nn.Module:
    """Residual blocks with batch norm, a reused in-place ReLU, `out += identity`, strided 1x1 convolutions."""
    return _resnet(Bottleneck)


def basic_block() -> nn.Module:
    """The residual blocks of the smaller ResNets."""
    return _resnet(BasicBlock)


def fire() -> nn.Module:
    """Concatenated branches, an overlapping ceil-mode pool; the last weighted layer is a convolution before pooling."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(True), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(8, 4, 6, 6)),
        *(nn.Dropout(), nn.Conv2d(12, 5, 1), nn.ReLU(True), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


class Functional(nn.Module):
    """Everything written as functions: reused ReLU, `view` with a size, pooling, addition, concatenation, mean."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.c = nn.Conv2d(12, 6, 3, dilation=2, padding=2)
        self.relu, self.d = nn.ReLU(inplace=True), nn.Linear(6 * 16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.a(x))
        y = functional.relu(self.b(x), inplace=True)
        y = y + x
        x = torch.cat([x, y], 1)
        x = functional.max_pool2d(self.relu(self.c(x)), 2)
        x = functional.dropout(x, training=self.training)
        return self.d(x.view(x.size(0), -1))


class Dense(nn.Module):
    """Batch norm and ReLU before each convolution, features concatenated, an average pool between, a global mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm1, self.conv1 = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(10), nn.Conv2d(10, 6, 1, bias=False)
        self.norm3, self.classifier = nn.BatchNorm2d(6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.conv1(torch.relu(self.norm1(x)))], dim=1)
        x = functional.avg_pool2d(self.conv2(torch.relu(self.norm2(x))), 2)
        return self.classifier(torch.relu(self.norm3(x)).mean([2, 3]))


def depthwise() -> nn.Module:
    """Inverted bottlenecks: depthwise convolutions, batch norm, ReLU6, a linear projection, additions."""
    net = MobileNetV2(
        num_classes=5, width_mult=0.25, inverted_residual_setting=[[1, 16, 1, 1], [3, 16, 2, 2]], round_nearest=4
    )
    return _lively(net)


def transformer() -> nn.Module:
    """A vision transformer: a class token, two blocks of two heads, GELU, layer norms; 4 x 4 patches of 32 pixels."""
    net = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24, num_classes=5)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


ATTENTION = (
    *("raw_attention", "attention_rollout", "attention_grad_cam", "chefer_lrp", "partial_lrp", "chefer_attention"),
    "legrad",
)
"""Methods that look at attention, and refuse networks that have none."""

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg": vgg,
    "bottleneck": bottleneck,
    "basic_block": basic_block,
    "fire": fire,
    "functional": Functional,
    "dense": Dense,
    "depthwise": depthwise,
}


def network(name: str) -> nn.Module:
    """A network in float64 and evaluation mode, the same on every call."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return (NETWORKS | {"transformer": transformer})[name]().double().eval()


def images(count: int = 3) -> Tensor:
    """(count, 3, 32, 32) float64 standard normal."""
    return torch.randn(count, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected magnitude."""
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())

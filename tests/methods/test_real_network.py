"""Maps of a real network on real photographs, and of a residual network, against reference arrays.

The arrays hold what may not be copied: they lie beside the folder that RAPBENCH_DATA names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import relative
from torch import Tensor, nn
from torchvision.models import squeezenet1_0
from torchvision.models.resnet import Bottleneck, ResNet

from rapbench.core.types import Method
from rapbench.methods.lrp import LRPAlpha1Beta0, LRPAlpha2Beta1
from rapbench.methods.rap import RAP

pytestmark = pytest.mark.data


def arrays(data_root: Path, name: str) -> dict[str, Tensor]:
    path = data_root.parent / "golden" / name
    if not path.exists():
        pytest.skip(f"no reference arrays at {path}")
    return {key: torch.from_numpy(value) for key, value in np.load(path).items() if value.dtype.kind != "U"}


@pytest.fixture
def squeezenet(data_root: Path) -> nn.Module:
    net = squeezenet1_0().eval()
    weights = np.load(data_root.parent / "weights" / "squeezenet1_0_imagenet.npz")
    net.load_state_dict({key: torch.from_numpy(value).float() for key, value in weights.items()})
    return net


@pytest.mark.parametrize(
    ("name", "method"), [("rap", RAP()), ("lrp_a1b0", LRPAlpha1Beta0()), ("lrp_a2b1", LRPAlpha2Beta1())]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-4), (torch.float64, 1e-6)], ids=str)
def test_maps_of_real_photographs_agree(
    data_root: Path, squeezenet: nn.Module, name: str, method: Method, dtype: torch.dtype, tolerance: float
) -> None:
    expected = arrays(data_root, "squeezenet_voc_maps.npz")
    net, x = squeezenet.to(dtype), expected["x"].to(dtype)
    found = method(net, x, expected["target"], seeds=torch.zeros(4)).double()
    differences = (found - expected[name]).abs().sum((1, 2, 3)) / expected[name].double().abs().sum((1, 2, 3))
    assert float(differences.max()) < tolerance
    assert relative(found.sum((1, 2, 3)), expected[f"{name}_sum"]) < tolerance


def residual() -> nn.Module:
    """Weights from a stated recipe of one generator, so that they need no file."""
    net, random = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10), np.random.RandomState(0)
    state = net.state_dict()
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        u = random.random_sample(tuple(value.shape))
        if key.endswith("running_mean"):
            u = 0.2 * u - 0.1
        elif key.endswith("running_var") or (value.dim() == 1 and key.endswith("weight")):
            u = 0.5 + u
        elif key.endswith("bias"):
            u = 0.4 * u - 0.2
        else:
            u = np.sqrt(6 / np.prod(value.shape[1:])) * (2 * u - 1)
        state[key] = torch.from_numpy(u.astype(np.float32))
    net.load_state_dict(state)
    return net.double().eval()


@torch.no_grad()
def test_maps_of_a_residual_network_agree(data_root: Path) -> None:
    expected, net = arrays(data_root, "rap_bottleneck_outputs.npz"), residual()
    x, seeds = expected["x"].double(), torch.zeros(2)
    assert relative(net(x), expected["logits"]) < 1e-12
    # sums that cancel: another processor's order of additions moves its parts by up to 1e6 units in the last place
    assert relative(RAP()(net, x, expected["target"], seeds=seeds), expected["rap"]) < 1e-9
    assert relative(RAP()(net, x, expected["target_neg"], seeds=seeds), expected["rap_neg"]) < 1e-9
    for name, kind in (("lrp_a1b0", LRPAlpha1Beta0), ("lrp_a2b1", LRPAlpha2Beta1)):
        found = kind(pixels="z_beta", batch_norm="identity")(net, x, expected["target"], seeds=seeds)
        assert relative(found, expected[name]) < 1e-7

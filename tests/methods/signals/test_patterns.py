"""Signal directions against an explicit matrix of patches, in float64, unit by unit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import images, network
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.errors import BadConfig, BadWeights, DataMissing, UnsupportedLayer
from rapbench.methods.signals.directions import weighted_layers
from rapbench.methods.signals.moments import Moments, observed
from rapbench.methods.signals.patterns import Patterns
from rapbench.relprop.graph import Graph
from rapbench.relprop.layers import Weighted
from rapbench.relprop.tracing.trace import trace

Array = NDArray[np.float64]


def grouped() -> nn.Module:
    """Groups, strides, dilation, no bias, a layer without padding."""
    torch.manual_seed(3)
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2, dilation=2, padding=2)),
        *(nn.ReLU(), nn.Conv2d(4, 6, (1, 3), bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16 * 14, 5)),
    ).double()


def plain() -> nn.Module:
    return network("vgg")


def sums_of(net: nn.Module, batches: list[Tensor]) -> dict[str, Moments]:
    graph = trace(net, batches[0]).folded()
    found = {name: Moments(layer) for name, layer in weighted_layers(graph, "test").items()}

    def see(layer: Weighted, x: Tensor, y: Tensor) -> None:
        found[layer.name].add(x, y)

    shown = observed(graph, see)
    for x in batches:
        shown(x)
    return found


def fitted(net: nn.Module, batches: list[Tensor]) -> Patterns:
    return Patterns.fitted(trace(net, batches[0]), sums_of(net, batches), {"model": "test"})


def patches(module: nn.Module, x: Tensor) -> list[Array]:
    """The patch matrix (P, D) of each group."""
    if isinstance(module, nn.Linear):
        return [x.numpy()]
    assert isinstance(module, nn.Conv2d)
    columns = [
        functional.unfold(part, module.kernel_size, module.dilation, module.padding, module.stride)
        for part in x.chunk(module.groups, 1)
    ]
    return [c.transpose(1, 2).flatten(0, 1).numpy() for c in columns]


def slow_pattern(x: Array, y: Array, w: Array, on: NDArray[np.bool_]) -> Array:
    """E_g[x y] - E_g[x] E[y], divided by its product with w."""
    if not on.any():
        return np.zeros_like(w)
    covariance = (x[on] * y[on, None]).mean(0) - x[on].mean(0) * y.mean()
    return covariance / (w @ covariance)


def inputs_and_outputs(net: nn.Module, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        return lambda _, args, y: found.update({name: (args[0].detach(), y.detach().clone())})

    modules = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [module.register_forward_hook(keep(name)) for name, module in modules]
    net(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("build", [plain, grouped])
def test_directions_agree_with_a_matrix_of_patches(build: Callable[[], nn.Module]) -> None:
    net, x = build(), images(6)
    seen = inputs_and_outputs(net, x)
    patterns = fitted(net, [x[:2], x[2:5], x[5:]])
    assert set(patterns.tensors["a"]) == set(seen)
    for name, (inputs, outputs) in seen.items():
        module = net.get_submodule(name)
        groups = patches(module, inputs)
        y = outputs.movedim(1, -1).flatten(0, -2).numpy()
        w = module.weight.detach().flatten(1).numpy()
        for unit in range(y.shape[1]):
            bias = 0 if module.bias is None else module.bias[unit].item()
            rows, output = groups[unit * len(groups) // y.shape[1]], y[:, unit]
            regimes = {"a": np.ones(len(output), bool), "a_plus": output > 0, "a_minus": output <= 0}
            for estimator, on in regimes.items():
                expected = slow_pattern(rows, output - bias, w[unit], on)  # without the bias it is the same
                found = patterns.tensors[estimator][name][unit].flatten().numpy()
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * max(1.0, float(abs(expected).max())))


def test_every_direction_has_a_gain_of_one_and_units_that_never_fired_have_none() -> None:
    net = plain()
    with torch.no_grad():
        net[0].bias[2] = -1e3
    patterns = fitted(net, [images(4)])
    assert patterns.silent["0"] == (2,)
    assert not patterns.tensors["a_plus"]["0"][2].any()
    weights = {name: layer.weight for name, layer in weighted_layers(trace(net, images()), "test").items()}
    for estimator, layers in patterns.tensors.items():
        for name, direction in layers.items():
            gain = (weights[name] * direction).flatten(1).sum(1)
            some = direction.flatten(1).any(1)
            assert torch.allclose(gain[some], torch.ones_like(gain[some])), (estimator, name)
    patterns.check_gain(weights)
    patterns.tensors["a"]["0"][1] *= 1.01
    with pytest.raises(BadWeights, match=r"w·a is 1\.0100, not 1, at a of 0, unit 1"):
        patterns.check_gain(weights)


def test_the_linear_estimator_finds_the_signal_where_the_weights_cancel_the_distractor() -> None:
    y, noise = torch.rand(4000, 1).double() * 2 - 1, torch.randn(4000, 1).double()
    signal, distractor = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[1.0, 1.0]]).double()
    net = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        net.weight[:] = torch.tensor([[1.0, -1.0]])
    patterns = fitted(net, [y @ signal + noise @ distractor])
    (found,) = patterns.tensors["a"].values()
    assert functional.cosine_similarity(found, signal).item() > 0.99
    assert functional.cosine_similarity(net.weight, signal).item() < 0.71


def test_batch_norm_is_folded_before_fitting_where_that_is_possible() -> None:
    def build() -> nn.Module:
        torch.manual_seed(5)
        norm = nn.BatchNorm2d(4)
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.weight, 0.5, 2)
        return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(3600, 5)).double().eval()

    net = build()
    patterns = fitted(net, [images(4)])
    folded = trace(net, images()).folded()
    written = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 5)).double()
    layers = list(weighted_layers(folded, "test").values())
    with torch.no_grad():
        for module, layer in zip((written[0], written[3]), layers, strict=True):
            module.weight[:], module.bias[:] = layer.weight, layer.bias
    same = fitted(written, [images(4)])
    for estimator, tensors in patterns.tensors.items():
        for ours, theirs in zip(tensors.values(), same.tensors[estimator].values(), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-9)
    patterns.check(trace(build(), images()), "test")
    other = build()
    other[1].running_mean += 0.1
    with pytest.raises(BadWeights, match="the first is 1"):
        patterns.check(trace(other, images()), "test")


@pytest.mark.parametrize(("kind", "node"), [("bottleneck", "add"), ("functional", "add"), ("dense", "BatchNorm2d")])
def test_networks_with_additions_or_batch_norm_are_refused(kind: str, node: str) -> None:
    graph = trace(network(kind), images()).folded()
    with pytest.raises(UnsupportedLayer, match=rf"PatternNet has no rule for {node}\w* at node '\w+"):
        weighted_layers(graph, "PatternNet")


def test_a_layer_used_twice_is_refused() -> None:
    shared = nn.Linear(4, 4)
    with pytest.raises(UnsupportedLayer, match=r"Linear at node '0', used twice"):
        weighted_layers(trace(nn.Sequential(shared, nn.ReLU(), shared), torch.randn(2, 4)), "PatternNet")


def test_too_few_images_say_of_which_layer() -> None:
    with pytest.raises(BadConfig, match=r"too few images: layer 10 has 1 sample"):
        fitted(plain(), [images(1)])
    net = plain()
    with torch.no_grad():
        net[13].bias[:] = -1e3
    with pytest.raises(BadConfig, match=r"too few images: none of the 12 units of layer 13 fired in 4 samples"):
        fitted(net, [images(4)])


def test_patterns_read_back_are_the_same(tmp_path: Path) -> None:
    patterns, file = fitted(plain(), [images(4)]), tmp_path / "p.safetensors"
    file.write_bytes(patterns.encoded())
    found = Patterns.load(file)
    assert (found.digest, found.weights, found.silent, found.source) == (
        *(patterns.digest, patterns.weights, patterns.silent, patterns.source),
    )
    found.check(trace(plain(), images()), "PatternNet")
    found.check(trace(plain().float(), images().float()), "PatternNet")
    found.check(trace(plain().bfloat16(), images().bfloat16()), "PatternNet")
    assert fitted(plain(), [images(5)]).digest != patterns.digest


def test_a_file_that_holds_no_patterns_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no pattern file"):
        Patterns.load(tmp_path / "none.safetensors")
    file = tmp_path / "p.safetensors"
    content = fitted(plain(), [images(4)]).encoded()
    for broken in (b"", content[:100], content[: len(content) // 2]):
        file.write_bytes(broken)
        with pytest.raises(BadWeights, match=r"p\.safetensors holds no patterns"):
            Patterns.load(file)
    from safetensors.torch import save

    file.write_bytes(save({"weight": torch.ones(2)}))
    with pytest.raises(BadWeights, match="holds no patterns"):
        Patterns.load(file)


def test_observing_leaves_the_network_as_it_is() -> None:
    net, seen = plain(), []
    graph: Graph = observed(trace(net, images()), lambda layer, x, y: seen.append((layer.name, x.shape[0], y.shape[0])))
    x = images(2)
    assert torch.equal(graph(x), net(x))
    assert [name for name, *_ in seen] == ["0", "2", "5", "10", "13", "15"]

"""Back-projection along patterns, against a slow backward pass written layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import images, network, relative
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.catalogue import Call, parse_call
from rapbench.core.errors import BadConfig, BadWeights, DataMissing, UnsupportedLayer
from rapbench.core.files import File
from rapbench.methods import METHODS
from rapbench.methods.pattern import PatternAttribution, PatternAttributionA, PatternMethod, PatternNet, SignalW
from rapbench.methods.signals.directions import weighted_layers
from rapbench.methods.signals.moments import Moments, observed
from rapbench.methods.signals.patterns import Estimator, Patterns
from rapbench.relprop.layers import Weighted
from rapbench.relprop.tracing.trace import trace

SEEDS, TARGET = torch.tensor([1, 2, 3]), torch.tensor([1, 4, 0])


def fitted(net: nn.Module, x: Tensor) -> Patterns:
    graph = trace(net, x).folded()
    sums = {name: Moments(layer) for name, layer in weighted_layers(graph, "test").items()}

    def see(layer: Weighted, x: Tensor, y: Tensor) -> None:
        sums[layer.name].add(x, y)

    observed(graph, see)(x)
    return Patterns.fitted(trace(net, x), sums, {"model": "vgg", "images": "8 of noise"})


@pytest.fixture
def file(tmp_path: Path) -> File[Patterns]:
    found = File(Patterns, tmp_path / "vgg.safetensors")
    found.path.write_bytes(fitted(network("vgg"), images(8)).encoded())
    return found


def slow(net: nn.Module, x: Tensor, target: Tensor, directions: Callable[[str, Tensor], Tensor]) -> Tensor:
    """The backward pass of a sequence of layers in which other directions take the place of the weights."""
    steps: list[tuple[str, nn.Module, Tensor]] = []
    with torch.no_grad():
        for name, module in net.named_children():
            steps.append((name, module, x.clone()))
            x = copy.deepcopy(module)(x.clone())
    r = torch.zeros_like(x)
    for n, t in enumerate(target):
        r[n, t] = x[n, t]
    for name, module, inputs in reversed(steps):
        if isinstance(module, nn.Conv2d):
            r = functional.conv_transpose2d(r, directions(name, module.weight.detach()), padding=module.padding)
        elif isinstance(module, nn.Linear):
            r = r @ directions(name, module.weight.detach())
        elif isinstance(module, nn.ReLU):
            r = r * (inputs > 0)
        elif not isinstance(module, nn.Dropout):
            leaf = inputs.requires_grad_()
            (r,) = torch.autograd.grad(module(leaf), leaf, r)
    return r


@pytest.mark.parametrize(
    ("kind", "estimator", "times_weight"),
    [(PatternNet, "a_plus", False), (PatternAttribution, "a_plus", True), (PatternAttributionA, "a", True)],
)
def test_maps_agree_with_a_slow_backward_pass(
    kind: type[PatternMethod], estimator: Estimator, times_weight: bool, file: File[Patterns]
) -> None:
    net, x, patterns = network("vgg"), images(), file.read().tensors[estimator]
    expected = slow(net, x, TARGET, lambda name, w: patterns[name] * (w if times_weight else 1))
    assert expected.abs().max() > 0
    assert relative(kind(patterns=file)(net, x, TARGET, seeds=SEEDS), expected) < 1e-12


def test_s_w_follows_the_squared_weights_over_their_sum() -> None:
    net, x = network("vgg"), images()
    expected = slow(net, x, TARGET, lambda _, w: w**2 / w.flatten(1).square().sum(1).view(-1, *[1] * (w.dim() - 1)))
    assert relative(SignalW()(net, x, TARGET, seeds=SEEDS), expected) < 1e-12


def test_relevance_is_conserved_where_every_unit_is_active_and_nothing_is_padded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 5)).double()
    with torch.no_grad():
        net[0].bias[:] = 30.0
    path = tmp_path / "p.safetensors"
    path.write_bytes(fitted(net, images(8)).encoded())
    x = images()
    relevance = PatternAttribution(patterns=File(Patterns, path))(net, x, torch.tensor([2, 2, 2]), seeds=SEEDS)
    logits = net(x).detach()[:, 2]
    kept = Patterns.load(path).silent.get("3", ())
    assert 2 not in kept
    assert torch.allclose(relevance.sum((1, 2, 3)), logits)


def test_patterns_of_other_weights_are_refused_in_one_line(file: File[Patterns]) -> None:
    net = network("vgg")
    method = PatternAttribution(patterns=file)
    method(net, images(), TARGET, seeds=SEEDS)
    with torch.no_grad():
        net[5].weight[0, 0, 0, 0] += 0.5  # also after they were found to fit
    with pytest.raises(
        BadWeights,
        match=r"^PatternAttribution: the patterns were fitted to other weights .*1 layers differ, the first is 5",
    ) as raised:
        method(net, images(), TARGET, seeds=SEEDS)
    assert "\n" not in str(raised.value)
    with pytest.raises(BadWeights, match="other weights"):
        method(nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)).double(), images(), TARGET, seeds=SEEDS)


def test_a_file_that_was_written_again_is_read_again(file: File[Patterns]) -> None:
    net, method = network("vgg"), PatternNet(patterns=file)
    before = method(net, images(), TARGET, seeds=SEEDS)
    digest = file.digest
    file.path.write_bytes(fitted(net, images(20)).encoded())
    assert not torch.equal(method(net, images(), TARGET, seeds=SEEDS), before)
    assert file.digest == Patterns.load(file.path).digest != digest


def test_patterns_fit_in_every_precision_of_the_network(file: File[Patterns]) -> None:
    net, x = network("vgg"), images()
    double = PatternAttribution(patterns=file)(net, x, TARGET, seeds=SEEDS)
    single = PatternAttribution(patterns=file)(net.float(), x.float(), TARGET, seeds=SEEDS)
    assert single.dtype == torch.float32
    assert relative(single.double(), double) < 1e-4
    half = PatternAttribution(patterns=file)(net.bfloat16(), x.bfloat16(), TARGET, seeds=SEEDS)
    assert half.isfinite().all()


def test_without_patterns_the_error_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="PatternNet needs patterns fitted to the network: rapbench fit-patterns"):
        PatternNet()(network("vgg"), images(), TARGET, seeds=SEEDS)
    with pytest.raises(DataMissing, match=r"no pattern file .*none\.safetensors"):
        PatternNet(patterns=File(Patterns, tmp_path / "none.safetensors"))(
            network("vgg"), images(), TARGET, seeds=SEEDS
        )


@pytest.mark.parametrize("method", [SignalW(), PatternNet(patterns=File(Patterns, Path("unread")))])
@pytest.mark.parametrize("kind", ["bottleneck", "functional", "dense"])
def test_networks_with_additions_or_batch_norm_left_are_refused_before_anything_is_read(
    method: PatternMethod, kind: str
) -> None:
    with pytest.raises(UnsupportedLayer, match=f"{method.title} has no rule for"):
        method(network(kind), images(), TARGET, seeds=SEEDS)


def test_the_file_is_a_parameter_on_the_command_line(file: File[Patterns]) -> None:
    call = Call("pattern_net", {"patterns": str(file)})
    assert METHODS.build(parse_call(str(call))) == PatternNet(patterns=file)
    with pytest.raises(DataMissing, match=r"no pattern file .*none\.safetensors"):
        METHODS.build(Call("pattern_net", {"patterns": "none.safetensors"}))

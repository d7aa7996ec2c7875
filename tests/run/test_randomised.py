"""Copies of networks whose parameters are drawn anew, and what is explained on them."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import images, network
from torch import Tensor, nn

from rapbench.core.errors import BadConfig
from rapbench.run import explainer as explaining
from rapbench.run.randomised import layers, randomised
from rapbench.run.resolve import settings
from rapbench.run.spec import RunSpec

Run = Callable[..., tuple[list[dict[str, Any]], int]]
SMALL = ("vgg", "fire", "functional", "dense", "depthwise", "transformer")


def tensors(net: nn.Module) -> dict[str, Tensor]:
    """Floating parameters and buffers."""
    found = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {name: t.detach().clone() for name, t in found.items() if t.is_floating_point()}


def lively(name: str) -> nn.Module:
    """A network whose tensors hold no value twice, as after training."""
    net, generator = network(name), torch.Generator().manual_seed(3)
    for value in (*net.parameters(), *net.buffers()):
        if value.is_floating_point():
            value.data += 0.1 * torch.rand(value.shape, generator=generator, dtype=value.dtype)
    return net


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    old, new = tensors(before), tensors(after)
    assert old.keys() == new.keys()
    return {name for name in old if not torch.equal(old[name], new[name])}


def parts_of(net: nn.Module) -> list[str]:
    return [part for parts in layers(net, images(2)).values() for part in parts]


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_is_of_one_layer_and_changes_with_it_alone(name: str) -> None:
    net = lively(name)
    found, left = layers(net, images(2)), {n for n, _ in net.named_parameters()}
    for parts in found.values():
        own = {
            f"{part}.{n}".lstrip(".")
            for part in parts
            for n in dict(net.get_submodule(part).named_parameters(recurse=False))
        }
        assert own
        assert own <= left
        assert changed(net, randomised(net, parts, seed=0, statistics="keep")) == own
        left -= own
    assert not left


@pytest.mark.parametrize("name", [*SMALL, "basic_block"])
def test_statistics_are_kept_or_reset(name: str) -> None:
    net = lively(name)
    buffers = {n for n, b in net.named_buffers() if b.is_floating_point()}
    everything = {n for n, _ in net.named_parameters()}
    assert changed(net, randomised(net, parts_of(net), seed=0, statistics="keep")) == everything
    reset = randomised(net, parts_of(net), seed=0, statistics="reset")
    assert changed(net, reset) == everything | buffers
    for part in (m for m in reset.modules() if isinstance(m, nn.BatchNorm2d)):
        assert part.running_mean is not None
        assert part.running_var is not None
        assert not part.running_mean.any()
        assert (part.running_var == 1).all()


@pytest.mark.parametrize("name", SMALL)
def test_a_layer_has_the_same_values_whatever_else_is_randomised_and_others_by_another_seed(name: str) -> None:
    net = lively(name)
    parts = parts_of(net)
    whole = tensors(randomised(net, parts, seed=3, statistics="keep"))
    for part in parts[:: max(1, len(parts) // 4)]:
        alone = randomised(net, [part], seed=3, statistics="keep")
        assert all(torch.equal(tensors(alone)[n], whole[n]) for n in changed(net, alone))
    first = next(n for n in dict(net.named_parameters()) if n.endswith("weight") and whole[n].dim() > 1)
    other = tensors(randomised(net, parts, seed=4, statistics="keep"))
    assert not torch.equal(other[first], whole[first])


def test_layers_of_one_shape_have_values_of_their_own() -> None:
    net = network("transformer")
    drawn = tensors(randomised(net, parts_of(net), seed=0, statistics="keep"))
    one, other = (drawn[f"encoder.layers.encoder_layer_{n}.mlp.0.weight"] for n in range(2))
    assert one.shape == other.shape
    assert not torch.equal(one, other)


def test_neither_the_network_nor_a_generator_is_touched() -> None:
    net = lively("depthwise")
    before, state = deepcopy(net), torch.get_rng_state()
    found = layers(net, images(2))
    randomised(net, parts_of(net), seed=0, statistics="reset")
    assert not changed(before, net)
    assert not any(part._forward_pre_hooks for part in net.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert list(found) == list(layers(net, images(2)))


def test_layers_go_from_the_logits_to_the_input_as_they_run() -> None:
    assert list(layers(network("vgg"), images(2))) == ["15", "13", "10", "5", "2", "0"]

    class Backwards(nn.Module):
        """Its modules are named in another order than they run in; one never runs, and one lends its weight."""

        def __init__(self) -> None:
            super().__init__()
            self.head, self.unused, self.lending = nn.Linear(4, 2), nn.Linear(9, 9), nn.Linear(4, 4)
            self.stem = nn.Conv2d(3, 4, 32)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.head(self.stem(x).flatten(1) @ self.lending.weight)
            return found

    found = layers(Backwards().double(), images(2))
    assert found == {"head": ("head",), "stem": ("stem",), "": ("unused", "lending")}


def test_layers_of_a_transformer_hold_its_token_its_positions_and_its_projections() -> None:
    found = layers(network("transformer"), images(2))
    assert list(found)[:2] == ["heads.head", "encoder.ln"]
    assert list(found)[-3:] == ["encoder", "conv_proj", ""]
    attention = "encoder.layers.encoder_layer_1.self_attention"
    assert found[attention] == (attention, f"{attention}.out_proj")


def test_values_are_drawn_by_the_layer_s_own_rule_or_as_they_were_distributed() -> None:
    net = network("transformer")
    net.class_token.data = torch.randn(1, 1, 16).double() * 0.01 + 5
    drawn = randomised(net, parts_of(net), seed=0, statistics="keep")
    head: Any = drawn.get_submodule("heads.head")
    assert 0.8 / math.sqrt(16) < head.weight.abs().max() <= 1 / math.sqrt(16)
    norm: Any = drawn.get_submodule("encoder.ln")
    assert (norm.weight == 1).all()
    assert not norm.bias.any()
    attention: Any = drawn.get_submodule("encoder.layers.encoder_layer_0.self_attention")
    assert 0.8 * math.sqrt(6 / 64) < attention.in_proj_weight.abs().max() <= math.sqrt(6 / 64)
    token = tensors(drawn)["class_token"]
    assert token.mean().item() == pytest.approx(5, abs=0.02)
    assert 0.004 < token.std() < 0.02
    assert token.dtype == torch.float64


class Scaled(nn.Linear):
    """A layer whose rule draws its weight and bias, and leaves its scale as it is."""

    def __init__(self) -> None:
        super().__init__(3, 4)
        self.scale = nn.Parameter(torch.arange(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mean((2, 3))) * self.scale


def test_what_a_layer_s_own_rule_leaves_as_it_is_is_drawn_as_it_was_distributed() -> None:
    net = Scaled().double()
    assert changed(net, randomised(net, [""], seed=0, statistics="keep")) == {"weight", "bias", "scale"}


def of(results: list[dict[str, Any]], method: str, **wanted: object) -> dict[str, float]:
    return {r["variant"]: r["value"] for r in results if r["method"] == method and r["metric"].startswith("random")}


def test_a_run_tells_methods_that_know_the_network_from_those_that_do_not(run: Run) -> None:
    methods = "gradient,edge,doubles:OfWeights"
    results, _ = run(method=methods, metric="randomisation", limit=2)
    alike = dict.fromkeys(("spearman", "spearman_abs", "ssim"), pytest.approx(1, rel=1e-9))
    assert of(results, "edge") == {**alike, "emprt": 0}
    for name in ("gradient", "doubles:OfWeights"):
        assert of(results, name)["spearman"] < 0.999


def test_numbers_do_not_depend_on_the_batch_size_or_on_what_ran_before(run: Run, tmp_path: Path) -> None:
    given = {"metric": "randomisation", "limit": 2}
    alone, _ = run(method="gradient", batch_size=1, out=tmp_path / "a", **given)
    beside, _ = run(method="doubles:OfWeights,gradient", batch_size=2, out=tmp_path / "b", **given)
    other, _ = run(method="gradient", seed=1, out=tmp_path / "c", **given)
    assert of(alone, "gradient") == pytest.approx(of(beside, "gradient"), rel=1e-4)
    assert of(other, "gradient") != pytest.approx(of(beside, "gradient"), rel=1e-4)


def test_there_is_one_copy_at_a_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[weakref.ref[nn.Module]] = []

    def counted(*args: Any, **given: Any) -> nn.Module:
        assert not any(copy() for copy in copies)
        found = randomised(*args, **given)
        copies.append(weakref.ref(found))
        return found

    monkeypatch.setattr(explaining, "randomised", counted)
    gc.disable()
    try:
        run(method="gradient", metric="randomisation", limit=1)
    finally:
        gc.enable()
    assert len(copies) == 2


def test_maps_of_other_weights_are_refused_where_a_method_has_none(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", np.zeros((4, 7, 7)))
    given = {"model": "vgg16", "dataset": "scenes", "metric": "randomisation"}
    with pytest.raises(
        BadConfig, match=r"^metric randomisation explains other inputs, classes or weights, which .*npy"
    ):
        settings(RunSpec.read(None, {**given, "method": f"maps(path='{tmp_path}/all.npy')"}))
    with pytest.raises(
        BadConfig, match=r"^metric randomisation explains other weights, and pattern_net needs patterns"
    ):
        settings(RunSpec.read(None, {**given, "method": "gradient,pattern_net"}))
    assert settings(RunSpec.read(None, {**given, "metric": "saco", "method": "pattern_net"})).metrics

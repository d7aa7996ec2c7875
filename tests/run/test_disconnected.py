"""Networks whose head classifies one cell of a grid: restated in float64, where relevance can be, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import ATTENTION, NETWORKS, images, network
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig
from rapbench.core.files import File
from rapbench.methods import METHODS, is_control
from rapbench.methods.cam import GradCam
from rapbench.methods.pattern import PatternAttribution
from rapbench.methods.signals.directions import normalised, weighted_layers
from rapbench.methods.signals.patterns import REGIMES, Patterns, digests
from rapbench.metrics.grid_pointing import cells_of
from rapbench.relprop.graph import Graph
from rapbench.relprop.tracing.trace import trace
from rapbench.run.disconnected import cut, difull, dipart
from rapbench.run.resolve import prepare, rehearse, settings
from rapbench.run.spec import RunSpec

FEW = {"integrated_gradients": {"steps": "4"}, "smooth_grad": {"samples": "2"}, "smooth_grad_squared": {"samples": "2"}}
OTHERS = ("grad_cam", "grad_cam_plus_plus", "layer_cam", "score_cam", "rise", "maps", *ATTENTION)
"""Methods that enlarge maps, or perturb the whole grid, or explain no such network."""
PROPAGATED = [name for name in METHODS if name not in OTHERS and not is_control(name) and "pattern" not in name]
WITH_ADDITIONS = ("basic_block", "depthwise")


def grids(n: int, side: int = 32) -> Tensor:
    """Two grids (2, 3, n · side, n · side) float64 standard normal."""
    return torch.randn(2, 3, n * side, n * side, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def pictures(x: Tensor, n: int) -> Tensor:
    return cells_of(x, n * n)


def full(net: nn.Module, x: Tensor, n: int, cell: int) -> Graph:
    picture = pictures(x, n)[:, 0]
    return difull(trace(net, picture), picture, n, cell)


def part(net: nn.Module, x: Tensor, n: int, cell: int) -> Graph:
    picture = pictures(x, n)[:, 0]
    return dipart(trace(net, picture), trace(net, x), picture, n, cell)


def run_through(layers: nn.Module, x: Tensor) -> Tensor:
    """A pass that leaves its input as it is."""
    return deepcopy(layers)(x.clone())  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("n", "cell"), [(2, 0), (2, 3), (3, 8)])
def test_a_fully_disconnected_head_says_what_the_network_says_of_the_picture(name: str, n: int, cell: int) -> None:
    net, x = network(name), grids(n)
    expected = run_through(net, pictures(x, n)[:, cell])
    assert torch.allclose(full(net, x, n, cell)(x), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("name", "behind", "rows"), [("vgg", 7, 16), ("fire", 7, 7)])
@pytest.mark.parametrize(("n", "cell"), [(2, 0), (2, 3), (3, 0), (3, 8)])
def test_a_partially_disconnected_head_classifies_its_corner_of_the_maps_of_the_grid(
    name: str, behind: int, rows: int, n: int, cell: int
) -> None:
    net, x = network(name), grids(n)
    assert isinstance(net, nn.Sequential)
    maps = run_through(net[:behind], x)  # fire's have more rows than n pictures: it pads nothing
    corner = maps[:, :, :rows, :rows] if cell == 0 else maps[:, :, -rows:, -rows:]
    graph = part(net, x, n, cell)
    assert torch.allclose(graph(x), run_through(net[behind:], corner), rtol=1e-12, atol=1e-14)
    assert not torch.allclose(graph(x), run_through(net, pictures(x, n)[:, cell]), rtol=1e-6, atol=0)


def explained(graph: Graph, name: str, x: Tensor) -> Tensor:
    method = METHODS.build(Call(name, FEW.get(name, {})))
    relevance: Tensor = method(graph, x, graph(x).argmax(1), seeds=torch.tensor([1, 2]))
    return relevance


def law_holds(name: str, kind: str) -> None:
    n, cell = 2, 3
    x = grids(n)
    relevance = cells_of(explained(full(network(kind), x, n, cell), name, x), n * n)
    assert relevance[:, cell].any()
    assert not relevance[:, :cell].any()


@pytest.mark.parametrize("name", PROPAGATED)
def test_no_relevance_is_propagated_out_of_a_fully_disconnected_cell(name: str) -> None:
    law_holds(name, "vgg")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PROPAGATED if name != "signal_w"])
@pytest.mark.parametrize("kind", WITH_ADDITIONS)
def test_nor_in_a_network_with_additions(name: str, kind: str) -> None:
    law_holds(name, kind)


def test_patterns_of_the_network_are_those_of_its_disconnected_form(tmp_path: Path) -> None:
    net, x = network("vgg"), grids(2)
    plain = trace(net, images(2))
    weights = {name: layer.weight.detach() for name, layer in weighted_layers(plain, "test").items()}
    tensors = {
        regime: {name: normalised(w + torch.rand_like(w) / 10, w) for name, w in weights.items()} for regime in REGIMES
    }
    file = File(Patterns, tmp_path / "vgg.safetensors")
    file.path.write_bytes(Patterns(tensors=tensors, weights=digests(plain), silent={}, source={}).encoded())
    method, graph, seeds = PatternAttribution(patterns=file), full(net, x, 2, 3), torch.tensor([1, 2])
    alone = method(net, pictures(x, 2)[:, 3], graph(x).argmax(1), seeds=seeds)
    found = pictures(method(graph, x, graph(x).argmax(1), seeds=seeds), 2)
    assert torch.allclose(found[:, 3], alone, rtol=1e-12, atol=1e-14)
    assert not found[:, :3].any()


@pytest.mark.parametrize("name", ["gradient", "lrp_epsilon"])
def test_relevance_leaves_a_partially_disconnected_cell_as_far_as_receptive_fields_reach(name: str) -> None:
    x = grids(2)
    relevance = explained(part(network("vgg"), x, 2, 0), name, x)
    elsewhere = relevance.clone()
    elsewhere[:, :, :32, :32] = 0
    assert elsewhere.any()
    assert not elsewhere[:, :, 32 + 4 :].any()  # two convolutions of 3 x 3, a pool of 2, another of them
    assert not elsewhere[:, :, :, 32 + 4 :].any()


def test_grad_cam_pools_gradients_over_the_whole_map_and_weighs_the_maps_of_all_cells_by_them() -> None:
    net, x, target = network("vgg"), grids(2), torch.tensor([1, 4])
    assert isinstance(net, nn.Sequential)
    maps = [run_through(net[:7], picture).detach() for picture in pictures(x, 2).unbind(1)]
    grid = torch.cat([torch.cat(maps[:2], 3), torch.cat(maps[2:], 3)], 2).requires_grad_()
    logits = run_through(net[7:], grid[:, :, 16:, 16:])
    (gradient,) = torch.autograd.grad(logits[0, 1] + logits[1, 4], grid)
    cam = (gradient.mean((2, 3), keepdim=True) * grid).sum(1, keepdim=True).relu().detach()
    expected = functional.interpolate(cam, (64, 64), mode="bilinear", align_corners=False)
    found = GradCam()(full(net, x, 2, 3), x, target, seeds=target)
    assert torch.allclose(found.sum(1, keepdim=True), expected, rtol=1e-10, atol=1e-14)
    assert pictures(found, 2)[:, :3].any()


class ChannelsLast(nn.Module):
    """Its feature maps have their channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 6, 4, stride=4), nn.LayerNorm(6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.gelu(self.norm(self.stem(x).permute(0, 2, 3, 1))).mean((1, 2)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("form", [full, part])
def test_maps_may_have_their_channels_last(form: Callable[..., Graph]) -> None:
    torch.manual_seed(0)
    net, x = ChannelsLast().double().eval(), grids(3)
    for cell in (0, 8):  # one position sees one patch: both forms say the same
        assert torch.allclose(form(net, x, 3, cell)(x), net(pictures(x, 3)[:, cell]), rtol=1e-12, atol=1e-14)


class Fixed(nn.Module):
    """Pools to a fixed size before its last convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(4), nn.Conv2d(4, 5, 3), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3))  # type: ignore[no-any-return]


def test_maps_that_do_not_grow_with_the_grid_have_no_part_for_a_cell() -> None:
    net, x = Fixed().double().eval(), grids(2)
    assert torch.allclose(full(net, x, 2, 3)(x), net(pictures(x, 2)[:, 3]))
    with pytest.raises(BadConfig, match="maps of a grid have 2 rows or columns, and those of one picture 2"):
        part(net, x, 2, 3)(x)


@pytest.mark.parametrize(
    "net", [network("transformer"), nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)).double()], ids=["tokens", "dense"]
)
def test_a_network_without_maps_is_refused(net: nn.Module) -> None:
    with pytest.raises(BadConfig, match="has no feature maps that it pools and classifies"):
        cut(trace(net, images(2)), images(2))


def test_a_head_that_reads_what_lies_before_the_maps_is_refused() -> None:
    plain = trace(network("vgg"), images(2))
    last = plain.layers[-1]
    reading = replace(last, sizes=(1,), function=lambda x, _: last.function(x))
    with pytest.raises(BadConfig, match=r"classifies more than the feature maps of ReLU at node '6': Linear .* Conv2d"):
        cut(Graph([*plain.layers[:-1], reading], plain.output), images(2))


@pytest.fixture
def grid_folder(tmp_path: Path) -> Path:
    """A picture for each of four classes."""
    for label in range(4):
        (tmp_path / f"pictures/{label}").mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / f"pictures/{label}/0.png")
    return tmp_path / "pictures"


TRANSFORMER = """
from torchvision.models import VisionTransformer


def build():
    return VisionTransformer(224, 56, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)
"""


@pytest.mark.parametrize("setting", ["difull", "dipart"])
@pytest.mark.parametrize(("model", "reason"), [("net.py:build", "has no feature maps"), ("doubles:Opaque", "cannot")])
def test_a_run_refuses_such_a_network_by_name_before_anything_is_computed(
    grid_folder: Path, setting: str, model: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(grid_folder)
    Path("net.py").write_text(TRANSFORMER)
    given: dict[str, Any] = {
        "model": model,
        "weights": "random" if model.startswith("doubles") else "auto",
        "dataset": f"grid(path={grid_folder}, n=2)",
        "method": "gradient",
        "metric": f"grid_pointing(setting={setting})",
        "device": "cpu",
    }
    for resolve in (prepare, rehearse):
        with pytest.raises(BadConfig, match=rf"^metric grid_pointing\(setting={setting}\): {model} {reason}"):
            resolve(RunSpec.read(None, given))


def test_maps_of_a_layer_by_name_are_refused_where_they_are_not_put_together(grid_folder: Path) -> None:
    given = {"model": "doubles:tiny", "dataset": f"grid(path={grid_folder}, n=2)", "method": "grad_cam(layer=0)"}
    with pytest.raises(BadConfig, match=r"puts together the last .* all cells, and grad_cam\(layer=0\) takes others"):
        settings(RunSpec.read(None, {**given, "metric": "grid_pointing(setting=difull)"}))
    assert settings(RunSpec.read(None, {**given, "metric": "grid_pointing(setting=dipart)"})).metrics

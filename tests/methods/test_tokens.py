"""Class activation maps of networks that hold tokens, against maps computed by hand with hooks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from networks import images, relative
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VisionTransformer

from rapbench.backends import CAPTUM
from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig, UnsupportedLayer
from rapbench.methods.cam import GradCam, GuidedGradCam, LayerCam
from rapbench.methods.score_cam import ScoreCam

CLASSES = torch.tensor([1, 1])


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """The network in float64 and evaluation mode, no weight of it zero."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = build().double().eval()
        for parameter in net.parameters():
            if not parameter.any():
                nn.init.normal_(parameter)
    return net


def transformer() -> nn.Module:
    size = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    return seeded(lambda: VisionTransformer(**size, num_classes=5))


def by_hand(model: nn.Module, layer: str, x: Tensor, rows: int, prefix: int = 1) -> Tensor:
    """Mean of the gradient over patch tokens, weighted sum, ReLU, enlarged: as pytorch-grad-cam defines it for ViT."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda *of: kept.append(of[2]))
    score = model(x)[:, 1].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept)
    weights = gradient[:, prefix:].mean(1, keepdim=True)
    cam = (weights * kept[0][:, prefix:]).sum(2).relu().view(len(x), 1, rows, -1)
    enlarged = functional.interpolate(cam, x.shape[2:], mode="bilinear", align_corners=False)
    return (enlarged / 3).expand_as(x).detach()


def explained(model: nn.Module, x: Tensor, layer: str = "") -> Tensor:
    return GradCam(layer=layer)(model, x, CLASSES[: len(x)], seeds=CLASSES)


def test_the_last_tokens_of_a_vision_transformer_are_what_enters_its_last_block() -> None:
    net = transformer()
    expected = by_hand(net, "encoder.layers.encoder_layer_0", images(2), 4)
    assert expected.any()
    assert relative(explained(net, images(2)), expected) < 1e-9


def test_the_first_norm_of_the_last_block_can_be_named() -> None:
    net, layer = transformer(), "encoder.layers.encoder_layer_1.ln_1"
    expected = by_hand(net, layer, images(2), 4)
    assert relative(explained(net, images(2), layer), expected) < 1e-9
    assert relative(explained(net, images(2)), expected) > 1e-2


def test_a_block_can_be_named_and_stands_for_what_runs_last_in_it() -> None:
    net, block = transformer(), "encoder.layers.encoder_layer_0"
    assert torch.equal(explained(net, images(2), block), explained(net, images(2)))
    assert torch.equal(explained(net, images(2), block), explained(net, images(2), f"{block}.add_1"))


@pytest.mark.parametrize("layer", ["encoder.ln", "encoder.layers.encoder_layer_1.add"])
def test_tokens_behind_the_last_attention_are_refused_as_the_class_token_alone_counts(layer: str) -> None:
    with pytest.raises(BadConfig, match=f"no position of layer '{layer}' reaches the logits"):
        explained(transformer(), images(2), layer)


class Transformer(nn.Module):
    """Patches of 8 pixels behind some tokens that hold no position, two blocks, and a head that looks at the former."""

    def __init__(self, prefix: int, order: str = "rows", embedding: str = "convolution") -> None:
        super().__init__()
        self.prefix, self.order = nn.Parameter(torch.randn(1, prefix, 6)), order
        self.convolution, self.linear = nn.Conv2d(3, 6, 8, 8), nn.Linear(192, 6)
        self.embedding = embedding
        self.mix, self.last = nn.ModuleList([Block(), Block()]), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        if self.embedding == "convolution":
            maps = self.convolution(x)
            tokens = (maps if self.order == "rows" else maps.transpose(2, 3)).flatten(2).transpose(1, 2)
        else:
            n, c, h, w = x.shape
            patches = x.view(n, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 3, 5, 1)
            tokens = self.linear(patches.reshape(n, (h // 8) * (w // 8), -1))
        tokens = torch.cat([self.prefix.expand(len(x), -1, -1), tokens], 1)
        for block in self.mix:
            tokens = block(tokens)
        held = self.prefix.shape[1]
        return self.last(tokens[:, :held].mean(1) if held else tokens.mean(1))


class Block(nn.Module):
    """Attention of one head around which a residual connection goes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(6), nn.Linear(6, 18)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return functional.scaled_dot_product_attention(q, k, v) + x


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
def test_tokens_that_hold_no_position_are_left_out_however_many_there_are(prefix: int) -> None:
    net, x = seeded(lambda: Transformer(prefix)), images(2)[..., :16]  # 4 x 2 patches
    expected = by_hand(net, "mix.0" if prefix else "mix.1", x, 4, prefix)
    assert expected.any()
    assert relative(explained(net, x), expected) < 1e-9


def test_five_tokens_before_four_patches_are_not_taken_for_nine_patches() -> None:
    net, x = seeded(lambda: Transformer(5)), images(2)[..., :16, :16]
    assert relative(explained(net, x), by_hand(net, "mix.0", x, 2, 5)) < 1e-9


def test_patches_cut_out_by_rearranging_and_tokens_in_another_order_have_their_places() -> None:
    x = images(2)[..., :16]
    rows, columns = (seeded(lambda order=order: Transformer(1, order)) for order in ("rows", "columns"))
    assert relative(explained(columns, x), explained(rows, x)) < 1e-9
    linear = seeded(lambda: Transformer(1, embedding="linear"))
    assert relative(explained(linear, x), by_hand(linear, "mix.0", x, 4)) < 1e-9


class Mixer(nn.Module):
    """A block that mixes tokens as channels, then channels, with residual connections."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.last = nn.Conv2d(3, 6, 8, 8), nn.LayerNorm(6), nn.Linear(6, 5)
        self.tokens, self.channels = nn.Linear(16, 16), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + torch.relu(self.tokens(x.transpose(1, 2))).transpose(1, 2)
        return self.last(self.norm(x + torch.relu(self.channels(x))).mean(1))


def test_tokens_that_are_mixed_as_channels_keep_their_places_by_residual_connections() -> None:
    net = seeded(Mixer)
    assert relative(explained(net, images(2)), by_hand(net, "norm", images(2), 4, 0)) < 1e-9


class Narrowed(nn.Module):
    """Tokens that convolutions over their sequence mix in fewer channels, with a residual connection around these."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.last = nn.Conv2d(3, 6, 8, 8), nn.LayerNorm(6), nn.Linear(6, 5)
        self.mix = nn.Sequential(nn.Conv1d(6, 3, 3, padding=1), nn.ReLU(), nn.Conv1d(3, 6, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2)
        return self.last(self.norm((x + self.mix(x)).transpose(1, 2)).mean(1))


def test_a_sum_holds_the_positions_that_one_of_its_terms_has() -> None:
    net = seeded(Narrowed)
    assert relative(explained(net, images(2)), by_hand(net, "norm", images(2), 4, 0)) < 1e-9


NO_GRID: dict[str, Callable[[Tensor], Tensor]] = {
    "in part": lambda tokens: tokens[:, 1:],
    "twice": lambda tokens: torch.cat([tokens, tokens], 1),
    "each channel elsewhere": lambda tokens: torch.cat([tokens[..., :3], tokens[..., 3:].flip(1)], 2),
}


class Moved(nn.Module):
    """A head that looks at patches which no longer are, one by one, the grid that they were cut from."""

    def __init__(self, moved: str) -> None:
        super().__init__()
        self.patches, self.last, self.moved = nn.Conv2d(3, 6, 8, 8), nn.Linear(6, 5), NO_GRID[moved]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.moved(self.patches(x).flatten(2).transpose(1, 2))).mean(1))


@pytest.mark.parametrize("moved", NO_GRID)
def test_tokens_that_are_not_one_whole_grid_are_refused(moved: str) -> None:
    with pytest.raises(UnsupportedLayer, match=r"a token for each position; what relu"):
        explained(seeded(lambda: Moved(moved)), images(2))


def test_an_image_alone_has_the_map_that_it_has_in_a_batch() -> None:
    for method in (GradCam(), LayerCam(), ScoreCam()):
        both = method(transformer(), images(2), CLASSES, seeds=CLASSES)
        assert both.any()
        assert relative(method(transformer(), images(2)[1:], CLASSES[1:], seeds=CLASSES[1:]), both[1:]) < 1e-9


def test_guided_grad_cam_refuses_a_transformer_without_relus() -> None:
    with pytest.raises(UnsupportedLayer, match="no ReLU"):
        GuidedGradCam()(transformer(), images(2), CLASSES, seeds=CLASSES)


def test_captum_refuses_maps_that_are_tokens() -> None:
    with pytest.raises(UnsupportedLayer, match=r"captum's Grad-CAM takes maps .* are tokens"):
        CAPTUM.build(Call("grad_cam", {}))(transformer(), images(2), CLASSES, seeds=CLASSES)

"""Methods for transformers against plain restatements: loops over heads and blocks, and modified gradients."""

from __future__ import annotations

import pytest
import torch
from networks import ATTENTION, images, network, relative
from torch import Tensor, nn
from torch.nn import functional

from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadConfig, UnsupportedLayer
from rapbench.methods import METHODS

TARGET, SEEDS = torch.tensor([1, 3]), torch.zeros(2)
TOKENS, HEADS, BLOCKS = 17, 2, 2


def explained(name: str, net: nn.Module | None = None) -> Tensor:
    """The map of a method (2, 3, 32, 32)."""
    relevance: Tensor = METHODS.build(parse_call(name))(net or network("transformer"), images(2), TARGET, seeds=SEEDS)
    return relevance


class Plain:
    """The small transformer as a plain loop over its blocks, with what a method changes about it.

    Attributes:
        product: what a product of two tensors becomes.
        norm: layer normalisation.
        activation: GELU.
        constant: whether no gradient passes attention.
        attention: of every block, (N, heads, T, T), after a call.
    """

    def __init__(self, *, modified: bool = False, constant: bool = False) -> None:
        self.net, self.modified, self.constant = network("transformer"), modified, constant
        self.attention: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        net = self.net
        tokens = net.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([net.class_token.expand(len(x), -1, -1), tokens], 1) + net.encoder.pos_embedding
        for block in net.encoder.layers:
            x = x + self.attended(block.self_attention, self.norm(block.ln_1, x))
            first, last = block.mlp[0], block.mlp[3]
            x = x + last(self.activation(first(self.norm(block.ln_2, x))))
            self.outputs.append(x)
        return self.head(x)

    def head(self, x: Tensor) -> Tensor:
        return self.net.heads.head(self.norm(self.net.encoder.ln, x)[:, 0])

    def attended(self, layer: nn.MultiheadAttention, x: Tensor) -> Tensor:
        heads = []
        size = x.shape[2] // HEADS
        q, k, v = (x @ w.T + b for w, b in zip(layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True))
        weights = []
        for h in range(HEADS):
            part = slice(h * size, (h + 1) * size)
            weights.append((self.product(q[..., part], k[..., part].transpose(1, 2)) / size**0.5).softmax(-1))
        self.attention.append(torch.stack(weights, 1))
        for h in range(HEADS):
            a, part = self.attention[-1][:, h], slice(h * size, (h + 1) * size)
            heads.append(a.detach() @ v[..., part] if self.constant else self.product(a, v[..., part]))
        return layer.out_proj(torch.cat(heads, -1))

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        y = a @ b
        return y.detach() + (y - y.detach()) / 2 if self.modified else y

    def norm(self, layer: nn.LayerNorm, x: Tensor) -> Tensor:
        deviation = (x.var(-1, unbiased=False, keepdim=True) + layer.eps).sqrt()
        deviation = deviation.detach() if self.modified or self.constant else deviation
        return (x - x.mean(-1, keepdim=True)) / deviation * layer.weight + layer.bias

    def activation(self, x: Tensor) -> Tensor:
        y = functional.gelu(x)
        return x * (y / (x + 1e-10)).detach() if self.modified or self.constant else y


def score(logits: Tensor) -> Tensor:
    return logits.gather(1, TARGET.unsqueeze(1)).sum()


def enlarged(row: Tensor) -> Tensor:
    """Tokens (2, 16) as a map (2, 3, 32, 32)."""
    cam = functional.interpolate(row.view(2, 1, 4, 4), (32, 32), mode="bilinear", align_corners=False)
    return cam.expand(-1, 3, -1, -1).detach() / 3


def test_the_plain_loop_is_the_network() -> None:
    assert relative(Plain()(images(2)), network("transformer")(images(2))) < 1e-12


@pytest.mark.parametrize(
    ("name", "options"),
    [("attn_lrp(gamma=0, conv_gamma=0)", {"modified": True}), ("cp_lrp(gamma=0, conv_gamma=0)", {"constant": True})],
)
def test_without_gamma_it_is_the_input_times_a_modified_gradient(name: str, options: dict[str, bool]) -> None:
    x = images(2).requires_grad_()
    (gradient,) = torch.autograd.grad(score(Plain(**options)(x)), x)
    assert relative(explained(name), (x * gradient).detach()) < 1e-9


def gradients(plain: Plain) -> list[Tensor]:
    return list(torch.autograd.grad(score(plain(images(2))), plain.attention))


def mean_over_heads(a: Tensor) -> Tensor:
    return sum(a[:, h] for h in range(HEADS)) / HEADS  # type: ignore[return-value]


def test_raw_attention_is_the_class_token_s_row_of_the_last_block() -> None:
    plain = Plain()
    plain(images(2))
    assert relative(explained("raw_attention"), enlarged(mean_over_heads(plain.attention[-1])[:, 0, 1:])) < 1e-12


@pytest.mark.parametrize("first", [1, 2])
def test_rollout_multiplies_the_blocks_attention_with_the_identity_added_and_rows_normalised(first: int) -> None:
    plain = Plain()
    plain(images(2))
    joint = torch.eye(TOKENS, dtype=torch.float64).expand(2, -1, -1)
    for a in plain.attention[first - 1 :]:
        b = mean_over_heads(a) + torch.eye(TOKENS)
        joint = (b / b.sum(-1, keepdim=True)) @ joint
    assert relative(explained(f"attention_rollout(first_block={first})"), enlarged(joint[:, 0, 1:])) < 1e-12


def test_attention_grad_cam_weighs_heads_by_their_mean_gradient() -> None:
    plain = Plain()
    gradient, a = gradients(plain)[-1], plain.attention[-1]
    cam = sum(gradient[:, h, 0, 1:].mean(1, keepdim=True) * a[:, h, 0, 1:] for h in range(HEADS)) / HEADS
    assert isinstance(cam, Tensor)
    assert relative(explained("attention_grad_cam"), enlarged(cam.relu())) < 1e-12


def test_chefer_attention_adds_what_each_block_passes_on() -> None:
    plain = Plain()
    r = torch.eye(TOKENS, dtype=torch.float64).expand(2, -1, -1)
    found = gradients(plain)
    for a, gradient in zip(plain.attention, found, strict=True):
        r = r + mean_over_heads((a * gradient).clamp(min=0)) @ r
    assert relative(explained("chefer_attention"), enlarged(r[:, 0, 1:])) < 1e-12


def test_legrad_sums_the_positive_gradients_of_the_score_that_each_block_gives() -> None:
    plain = Plain()
    plain(images(2))
    total = torch.zeros(2, TOKENS, dtype=torch.float64)
    for a, output in zip(plain.attention, plain.outputs, strict=True):
        (gradient,) = torch.autograd.grad(score(plain.head(output)), a, retain_graph=True)
        total += mean_over_heads(gradient.clamp(min=0)).mean(1)
    assert relative(explained("legrad"), enlarged(total[:, 1:])) < 1e-12


# --- Chefer et al. 2021 (CVPR): every image alone, layer by layer -----------------------------------------------------


def positive(layer: tuple[Tensor, Tensor], x: Tensor, r: Tensor) -> Tensor:
    """α1β0 of y = W x + b, contributions one by one: relevance (T, D) of x (T, D)."""
    z = (x.unsqueeze(1) * layer[0]).clamp(min=0)
    total = z.sum(2, keepdim=True)
    return torch.where(total > 0, z / total, 0).mul(r.unsqueeze(2)).sum(1)


def skipped(a: Tensor, b: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of the terms of a sum, scaled so that what the terms have in all is as their magnitudes are."""
    first, second = a * r / (a + b), b * r / (a + b)
    size = first.sum().abs() + second.sum().abs()
    return (
        first * (first.sum().abs() / size * r.sum() / first.sum()),
        second * (second.sum().abs() / size * r.sum() / second.sum()),
    )


def factors(a: Tensor, b: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the relevance for either factor of a product."""
    s = r / (a @ b)
    return a * (s @ b.T) / 2, b * (a.T @ s) / 2


@torch.no_grad()
def relevance_of_attention(image: int) -> list[Tensor]:
    """R(A_l) (heads, T, T) of every block, of one image."""
    plain = Plain()
    net, x = plain.net, images(2)[image : image + 1]
    logits, kept = plain(x), []
    tokens = net.conv_proj(x).flatten(2).transpose(1, 2)
    x = (torch.cat([net.class_token, tokens], 1) + net.encoder.pos_embedding)[0]
    for block in net.encoder.layers:
        norm = plain.norm(block.ln_1, x)
        added = plain.attended(block.self_attention, norm[None])[0]
        middle = x + added
        hidden = block.mlp[0](plain.norm(block.ln_2, middle))
        grown = block.mlp[3](functional.gelu(hidden))
        kept.append((x, norm, added, middle, hidden, grown))
        x = middle + grown
    r = torch.zeros(5, dtype=torch.float64)
    r[TARGET[image]] = 1
    assert logits.shape == (1, 5)
    final = plain.norm(net.encoder.ln, x)
    head = net.heads.head
    row = positive((head.weight, head.bias), final[:1], r[None])
    r = torch.cat([row, torch.zeros(TOKENS - 1, 16)])
    found = []
    for block, (x, norm, added, middle, hidden, grown) in reversed(list(zip(net.encoder.layers, kept, strict=True))):
        stay, through = skipped(middle, grown, r)
        through = positive((block.mlp[3].weight, block.mlp[3].bias), functional.gelu(hidden), through)
        through = positive((block.mlp[0].weight, block.mlp[0].bias), plain.norm(block.ln_2, middle), through)
        stay, through = skipped(x, added, stay + through)
        relevance, below = _of_heads(block.self_attention, norm, through)
        found.append(relevance)
        r = stay + below
    return found[::-1]


def _of_heads(layer: nn.MultiheadAttention, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """R(A) (heads, T, T), and relevance (T, D) of what queries, keys and values are made of."""
    size = x.shape[1] // HEADS
    projections = list(zip(layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True))
    q, k, v = (x @ w.T + b for w, b in projections)
    parts = [slice(h * size, (h + 1) * size) for h in range(HEADS)]
    weights = [(q[:, p] @ k[:, p].T / size**0.5).softmax(-1) for p in parts]
    mixed = torch.cat([a @ v[:, p] for a, p in zip(weights, parts, strict=True)], 1)
    r = positive((layer.out_proj.weight, layer.out_proj.bias), mixed, r)
    below, of_attention = [torch.zeros_like(x) for _ in range(3)], []
    for a, p in zip(weights, parts, strict=True):
        attention, below[2][:, p] = factors(a, v[:, p], r[:, p])
        of_attention.append(attention)
        below[0][:, p], keys = factors(q[:, p], k[:, p].T, attention)
        below[1][:, p] = keys.T
    total = sum(positive(projection, x, part) for projection, part in zip(projections, below, strict=True))
    assert isinstance(total, Tensor)
    return torch.stack(of_attention), total


@pytest.mark.parametrize("first", [1, 2])
def test_chefer_lrp_is_relevance_times_gradient_of_attention_rolled_out(first: int) -> None:
    found, rows = gradients(Plain()), []
    for image in range(2):
        joint = torch.eye(TOKENS, dtype=torch.float64)
        relevance = relevance_of_attention(image)
        for r, gradient in list(zip(relevance, found, strict=True))[first - 1 :]:
            joint = joint + (r * gradient[image]).clamp(min=0).mean(0) @ joint
        rows.append(joint[0, 1:])
    assert relative(explained(f"chefer_lrp(first_block={first})"), enlarged(torch.stack(rows))) < 1e-9


def test_partial_lrp_is_the_relevance_of_the_last_block_s_attention() -> None:
    rows = [relevance_of_attention(image)[-1].clamp(min=0).mean(0)[0, 1:] for image in range(2)]
    assert relative(explained("partial_lrp"), enlarged(torch.stack(rows))) < 1e-9


# --- networks ---------------------------------------------------------------------------------------------------------


class Pooled(nn.Module):
    """The transformer with its logits read off the mean of all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network("transformer")

    def forward(self, x: Tensor) -> Tensor:
        x = self.net._process_input(x)
        return self.net.heads(self.net.encoder(torch.cat([self.net.class_token.expand(len(x), -1, -1), x], 1)).mean(1))


@pytest.mark.parametrize("name", ATTENTION)
def test_a_network_without_attention_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedLayer, match="looks at attention, and the network has none"):
        explained(name, network("bottleneck"))


@pytest.mark.parametrize("name", ATTENTION)
def test_a_network_without_a_class_token_is_refused_but_by_legrad(name: str) -> None:
    if name == "legrad":
        assert explained(name, Pooled()).any()
        return
    with pytest.raises(UnsupportedLayer, match="needs a class token, and the logits are read off the patches"):
        explained(name, Pooled())


class Windows(nn.Module):
    """Attention within halves of the image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.attention, self.fc = (
            nn.Conv2d(3, 8, 8, 8),
            nn.MultiheadAttention(8, 2, batch_first=True),
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2).transpose(1, 2).reshape(-1, 8, 8)
        return self.fc((x + self.attention(x, x, x)[0]).view(-1, 16, 8).mean(1))


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_within_windows_is_refused_with_its_shape(name: str) -> None:
    with pytest.raises(UnsupportedLayer, match=r"needs every token to attend to every token .* is \(4, 2, 8, 8\)"):
        explained(name, Windows().double().eval())


class Prefixed(nn.Module):
    """Attention over a class token, four others and 2 x 2 patches, as many as 3 x 3; patches come last or first."""

    def __init__(self, *, last: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.prefix, self.fc = nn.Conv2d(3, 8, 16, 16), nn.Parameter(torch.randn(1, 5, 8)), nn.Linear(8, 5)
        self.attention, self.last = nn.MultiheadAttention(8, 2, batch_first=True), last

    def tokens(self, x: Tensor) -> Tensor:
        both = [self.prefix.expand(len(x), -1, -1), self.conv(x).flatten(2).transpose(1, 2)]
        return torch.cat(both if self.last else both[::-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        return self.fc((x + self.attention(x, x, x)[0])[:, 0 if self.last else 4])


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("name", ["raw_attention", "attention_grad_cam"])
def test_patches_are_the_tokens_that_hold_a_place_not_as_many_as_make_a_square(name: str, *, last: bool) -> None:
    net = Prefixed(last=last).double().eval()
    x = net.tokens(images(2))
    own, patches = (0, slice(5, 9)) if last else (4, slice(4))
    a = net.attention(x, x, x, average_attn_weights=False)[1].detach().requires_grad_()
    values = (
        (x @ net.attention.in_proj_weight[16:].T + net.attention.in_proj_bias[16:]).unflatten(2, (2, 4)).transpose(1, 2)
    )
    mixed = net.attention.out_proj((a @ values).transpose(1, 2).flatten(2))
    (gradient,) = torch.autograd.grad(score(net.fc((x + mixed)[:, own])), a)
    weights = gradient[:, :, own, patches].mean(2, keepdim=True) if name == "attention_grad_cam" else 1
    row = (weights * a[:, :, own, patches]).mean(1).relu()
    cam = functional.interpolate(row.view(2, 1, 2, 2), (32, 32), mode="bilinear", align_corners=False)
    assert relative(explained(name, net), cam.detach().expand(-1, 3, -1, -1) / 3) < 1e-12


@pytest.mark.parametrize("name", ["attention_rollout", "chefer_lrp"])
def test_a_block_that_the_network_has_not_is_refused(name: str) -> None:
    with pytest.raises(BadConfig, match="first_block=3, and the network has 2"):
        explained(f"{name}(first_block=3)")

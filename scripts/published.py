"""What a published method computes, as its code computes it, for the sake of its cost.

Chefer et al. 2021 (CVPR): one image, gradients of all weights, and a propagation that runs every dense layer for both
signs through autograd, products of two tensors and sums too.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn import functional
from torchvision.models import VisionTransformer

Kept = dict[str, Tensor]


def chefer_lrp(net: VisionTransformer, x: Tensor, target: Tensor) -> Tensor:
    """The class token's row (1, P) over P patches, of one image (1, C, H, W)."""
    tokens, blocks = net._process_input(x), []
    x = torch.cat([net.class_token, tokens], 1) + net.encoder.pos_embedding
    for block in net.encoder.layers:
        x, kept = _forward(block, x, net.encoder.layers[0].num_heads)
        blocks.append(kept)
    final = net.encoder.ln(x)
    head = net.heads.head
    logits = head(final[:, 0])
    net.zero_grad()
    logits[0, target[0]].backward(retain_graph=True)
    r = functional.one_hot(target, logits.shape[1]).to(x)
    r = functional.pad(_dense(head.weight, final[:, 0], r).unsqueeze(1), (0, 0, 0, x.shape[1] - 1))
    matrices = []
    for block, kept in reversed([*zip(net.encoder.layers, blocks, strict=True)]):
        r, attention = _backward(block, kept, r)
        gradient = cast("Tensor", kept["attention"].grad)
        matrices.insert(0, (attention * gradient).clamp(min=0).mean(1) + torch.eye(x.shape[1]).to(x))
    joint = matrices[1]
    for matrix in matrices[2:]:
        joint = matrix @ joint
    return joint[:, 0, 1:].detach()


def _forward(block: nn.Module, x: Tensor, heads: int) -> tuple[Tensor, Kept]:
    layer, kept = block.self_attention, {"x": x}
    kept["norm"] = block.ln_1(x)
    qkv = functional.linear(kept["norm"], layer.in_proj_weight, layer.in_proj_bias)
    q, k, v = qkv.view(*x.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
    a = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    a.retain_grad()
    kept |= {"q": q, "k": k, "v": v, "attention": a, "mixed": (a @ v).transpose(1, 2).flatten(2)}
    kept["added"] = layer.out_proj(kept["mixed"])
    kept["middle"] = x + kept["added"]
    kept["second"] = block.ln_2(kept["middle"])
    kept["active"] = functional.gelu(block.mlp[0](kept["second"]))
    kept["grown"] = block.mlp[3](kept["active"])
    return kept["middle"] + kept["grown"], kept


def _backward(block: nn.Module, kept: Kept, r: Tensor) -> tuple[Tensor, Tensor]:
    layer = block.self_attention
    stay, through = _sum(kept["middle"], kept["grown"], r)
    through = _dense(block.mlp[3].weight, kept["active"], through)
    through = _dense(block.mlp[0].weight, kept["second"], through)
    stay, through = _sum(kept["x"], kept["added"], stay + through)
    through = _dense(layer.out_proj.weight, kept["mixed"], through)
    through = through.view(*through.shape[:2], kept["v"].shape[1], -1).transpose(1, 2)
    attention, v = _product(kept["attention"], kept["v"], through)
    q, k = _product(kept["q"], kept["k"].transpose(-2, -1), attention)
    below = torch.stack([q, k.transpose(-2, -1), v]).permute(1, 3, 0, 2, 4).flatten(2)
    return stay + _dense(layer.in_proj_weight, kept["norm"], below), attention


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return a / (b + (b == 0) * 1e-9)


def _dense(weight: Tensor, x: Tensor, r: Tensor) -> Tensor:
    """Relevance by both signs, of which α1β0 keeps one."""
    weight, x = weight.detach(), x.detach().requires_grad_()
    signs = weight.clamp(min=0), weight.clamp(max=0)
    positive, negative = x.clamp(min=0), x.clamp(max=0)
    shares = []
    for first, second in (signs, signs[::-1]):
        z1, z2 = functional.linear(positive, first), functional.linear(negative, second)
        s = _ratio(r, z1 + z2).detach()
        (c1,), (c2,) = grad(z1, positive, s, retain_graph=True), grad(z2, negative, s, retain_graph=True)
        shares.append((positive * c1 + negative * c2).detach())
    return shares[0]


def _product(a: Tensor, b: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
    y = a @ b
    first, second = grad(y, (a, b), _ratio(r, y).detach())
    return (a * first / 2).detach(), (b * second / 2).detach()


def _sum(a: Tensor, b: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    parts = [(x * _ratio(r, a + b)).detach() for x in (a, b)]
    size = sum(part.sum().abs() for part in parts)
    first, second = (part * (part.sum().abs() / size * r.sum() / part.sum()) for part in parts)
    return first, second

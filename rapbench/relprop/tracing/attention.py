"""PyTorch's operations that do several things at once, taken apart into their products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001 - PyTorch's signature; 0 in evaluation mode
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> Tensor:
    """Values (..., S, E) weighed by softmax(queries · keys / √E), (..., L, E). Source: Vaswani et al. 2017, Eq. 1."""
    return torch.matmul(_weights(query, key, attn_mask, scale, is_causal=is_causal), value)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None, *, is_causal: bool) -> Tensor:
    """Attention (..., L, S) of queries (..., L, D) over keys (..., S, D)."""
    scores = torch.matmul(query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale), key.transpose(-2, -1))
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1)


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,  # noqa: ARG001 - PyTorch's signature
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: None,  # noqa: ARG001 - see `taken_apart`
    bias_v: None,  # noqa: ARG001
    add_zero_attn: bool,  # noqa: ARG001
    dropout_p: float,  # noqa: ARG001 - 0 in evaluation mode
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = False,  # noqa: ARG001
    key_padding_mask: None = None,  # noqa: ARG001
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,  # noqa: ARG001
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: None = None,  # noqa: ARG001
    static_v: None = None,  # noqa: ARG001
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention of several heads over tokens (L, N, E). Source: Vaswani et al. 2017, Section 3.2.2."""
    separate = (q_proj_weight, k_proj_weight, v_proj_weight)
    weights: Any = separate if in_proj_weight is None else in_proj_weight.chunk(3)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (
        functional.linear(x, weight, bias).view(*x.shape[:2], num_heads, -1).permute(1, 2, 0, 3)
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    if attn_mask is not None:  # here true is what must not be attended to, in `_weights` what may
        attn_mask = ~attn_mask if attn_mask.dtype == torch.bool else attn_mask
        attn_mask = attn_mask if attn_mask.dim() == 2 else attn_mask.view(-1, num_heads, *attn_mask.shape[1:])
    shares = _weights(q, k, attn_mask, None, is_causal=is_causal and attn_mask is None)
    output = torch.matmul(shares, v).permute(2, 0, 1, 3).flatten(-2)
    output = functional.linear(output, out_proj_weight, out_proj_bias)
    if not need_weights:
        return output, None
    return output, shares.mean(1) if average_attn_weights else shares


def normalised(
    input: Tensor,  # noqa: A002 - PyTorch's signature
    p: float = 2.0,
    dim: int = 1,
    eps: float = 1e-12,
    out: None = None,  # noqa: ARG001 - see `taken_apart`
) -> Tensor:
    """Vectors of length 1."""
    unit: Tensor = input / input.norm(p, dim, keepdim=True).clamp_min(eps)
    return unit


def gated_linear_unit(input: Tensor, dim: int = -1) -> Tensor:  # noqa: A002 - PyTorch's signature
    """One half times the sigmoid of the other. Source: Dauphin et al. 2017, Eq. 1."""
    signal, gate = input.chunk(2, dim)
    gated: Tensor = signal * gate.sigmoid()
    return gated


_ALWAYS: dict[str, Callable[..., Any]] = {"glu": gated_linear_unit, "normalize": normalised}
_POSITIONS = {"bias_k": 7, "bias_v": 8, "key_padding_mask": 14, "static_k": 21, "static_v": 22}


def taken_apart(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Any] | None:
    """The same operation in steps; None where it is one step, or is called in a way that classifiers do not."""
    if name == "scaled_dot_product_attention":
        return None if kwargs.get("enable_gqa") else attention
    if name in _ALWAYS:
        return None if kwargs.get("out") is not None else _ALWAYS[name]
    if name != "multi_head_attention_forward" or args[0].dim() != 3:
        return None
    given = [kwargs.get(key, args[n] if len(args) > n else None) for key, n in _POSITIONS.items()]
    plain = all(a is None for a in given) and not kwargs.get("add_zero_attn", args[9] if len(args) > 9 else False)
    return multi_head_attention if plain else None

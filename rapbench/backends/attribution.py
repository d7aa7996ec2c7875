"""One call from a model and a batch to relevance, with every argument checked first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

import torch
from torch import Tensor, nn

from rapbench.backends import BACKENDS
from rapbench.core.catalogue import nearest, parse_call
from rapbench.core.errors import BadConfig
from rapbench.core.seeds import image_seed
from rapbench.core.types import Method
from rapbench.methods.arithmetic import Arithmetic, Demanding, explained, wanted
from rapbench.relprop.trace import evaluating, trace


def attribute(
    model: nn.Module,
    x: Tensor,
    target: Tensor | int | None,
    method: str,
    backend: str,
    seed: int,
    precision: str,
    parameters: Mapping[str, object],
) -> Tensor:
    """See `rapbench.attribute`."""
    call = parse_call(method)
    texts = {key: str(value) for key, value in parameters.items()}
    explain: Method = BACKENDS.load(backend).build(call._replace(parameters={**call.parameters, **texts}))
    if precision not in {"auto", *get_args(Arithmetic)}:
        raise BadConfig(f"no precision {precision!r}: {nearest(precision, ['auto', *get_args(Arithmetic)])}")
    if x.dim() != 4 or not x.is_floating_point():
        raise BadConfig(f"x must be floating point of shape (N, C, H, W), not {x.dtype} {tuple(x.shape)}")
    if not x.isfinite().all():
        raise BadConfig("x holds values that are not finite")
    with evaluating(model):
        seeds = torch.tensor([image_seed(seed, str(n)) for n in range(len(x))])
        index = _target(model, x, target)
        if x.dtype == torch.float64 or not isinstance(explain, Demanding):
            return explain(model, x, index, seeds=seeds).detach()
        graph = trace(model)
        chosen = wanted(explain, graph) if precision == "auto" else cast("Arithmetic", precision)
        return explained(explain, graph, x, index, seeds=seeds, arithmetic=chosen).to(x.dtype)


def _target(model: nn.Module, x: Tensor, target: Tensor | int | None) -> Tensor:
    with torch.no_grad():
        logits = model(x)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x):
        raise BadConfig(f"{type(model).__name__} must return logits of shape (N, K)")
    if target is None:
        return logits.argmax(1)
    index = torch.as_tensor(target, device=x.device)
    if index.is_floating_point() or index.shape not in ((), (len(x),)):
        raise BadConfig(f"target must be one class index, or one for each of the {len(x)} images")
    if not ((index >= 0) & (index < logits.shape[1])).all():
        raise BadConfig(f"target must be from 0 to {logits.shape[1] - 1}")
    return index.long().expand(len(x))

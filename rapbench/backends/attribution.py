"""One call from a model and a batch to relevance, with every argument checked first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast, get_args

import torch
from torch import Tensor, nn

from rapbench.backends import BACKENDS
from rapbench.core.catalogue import nearest, parse_call
from rapbench.core.errors import BadConfig, first_line
from rapbench.core.seeds import image_seed
from rapbench.core.types import Method
from rapbench.methods.arithmetic import Arithmetic, Demanding, explained, explains_graph, wanted
from rapbench.relprop.graph import Graph
from rapbench.relprop.tracing.checked import GradientsPass, verify
from rapbench.relprop.tracing.closeness import is_close
from rapbench.relprop.tracing.recording import Unseen
from rapbench.relprop.tracing.trace import evaluating, trace, unwrapped


def attribute(
    model: nn.Module,
    x: Tensor,
    target: Tensor | int | None,
    method: str,
    backend: str,
    seed: int,
    precision: str,
    parameters: Mapping[str, object],
    *,
    check: bool,
) -> Tensor:
    """See `rapbench.attribute`."""
    call = parse_call(method)
    texts = {key: str(value) for key, value in parameters.items()}
    explain: Method = BACKENDS.load(backend).build(call._replace(parameters={**call.parameters, **texts}))
    if precision not in {"auto", *get_args(Arithmetic)}:
        raise BadConfig(f"no precision {precision!r}: {nearest(precision, ['auto', *get_args(Arithmetic)])}")
    _check_types(model, x)
    model = unwrapped(model)
    with _as_it_was(model, x):
        x = x.detach().clone()
        subject, refusal = _subject(model, x) if len(x) else (model, None)
        logits = _logits(model, x)
        index = _target(logits, x, target)
        if not len(x):
            return x
        if check:
            _check(subject, refusal, model, x, logits)
        seeds = torch.tensor([image_seed(seed, str(n)) for n in range(len(x))])
        if not isinstance(subject, Graph) or not explains_graph(explain, call.name, backend):
            return explain(model, x, index, seeds=seeds).detach().to(x.dtype)
        chosen = wanted(explain, subject) if precision == "auto" else cast("Arithmetic", precision)
        if chosen == "fp64-forward" and not isinstance(explain, Demanding):
            raise BadConfig(
                f"precision 'fp64-forward' is of methods that propagate relevance, and {call.name} does not: use 'fp64'"
            )
        arithmetic = "fp32" if x.dtype == torch.float64 else chosen
        wide = torch.promote_types(x.dtype, torch.float32)  # a type of few digits is for weights, not for sums
        subject = subject if wide == x.dtype else subject.widened(wide)
        found = explained(explain, subject, x.to(wide), index, seeds=seeds, arithmetic=arithmetic)
        return found.detach().to(x.dtype)


def _check_types(model: object, x: object) -> None:
    if not isinstance(model, nn.Module):
        raise BadConfig(f"the model must be a torch.nn.Module, not {type(model).__name__}")
    if not isinstance(x, Tensor) or x.dim() != 4 or not x.is_floating_point():
        found = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise BadConfig(f"x must be floating point of shape (N, C, H, W), not {found}")
    if not x.isfinite().all():
        raise BadConfig("x holds values that are not finite")
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise BadConfig("the network was built inside inference_mode, where no gradient can pass: build it outside")
    parameter = next(model.parameters(), x)
    if parameter.device != x.device:
        raise BadConfig(f"the model is on {parameter.device} and x on {x.device}")


@contextmanager
def _as_it_was(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Evaluation mode, gradients possible and no autocast; afterwards modes, buffers and random numbers as before."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with (
        torch.inference_mode(mode=False),
        torch.autocast(x.device.type, enabled=False),
        torch.random.fork_rng([x.device] if x.is_cuda else []),
        evaluating(model),
    ):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    if not torch.equal(buffer, before):
                        buffer.copy_(before)


def _subject(model: nn.Module, x: Tensor) -> tuple[nn.Module, Unseen | None]:
    """The network's graph; or the network itself and why it has none, which methods that need one say again."""
    try:
        return trace(model, x), None
    except Unseen as refusal:
        return model, refusal


def _check(subject: nn.Module, refusal: Unseen | None, model: nn.Module, x: Tensor, logits: Tensor) -> None:
    if refusal is None:
        assert isinstance(subject, Graph)
        verify(subject, model, x, logits)
        return
    with torch.enable_grad(), GradientsPass(model):
        again = model(x[:1].clone().requires_grad_())
    if not is_close(again.detach(), logits[:1]):
        raise refusal


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    try:
        with torch.no_grad():
            logits = model(x.clone())
    except Exception as error:
        kind = f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}"
        raise BadConfig(f"{type(model).__name__} fails on x {kind}: {first_line(error)}") from error
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x) or not logits.is_floating_point():
        raise BadConfig(f"{type(model).__name__} must return logits of shape (N, K)")
    if not logits.isfinite().all():
        raise BadConfig(f"{type(model).__name__} returns logits that are not finite")
    return logits


def _target(logits: Tensor, x: Tensor, target: Tensor | int | None) -> Tensor:
    if target is None:
        return logits.argmax(1)
    try:
        index = torch.as_tensor(target, device=x.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadConfig(f"target must be a class index, not {type(target).__name__}") from error
    if (
        index.is_floating_point()
        or index.is_complex()
        or index.dtype == torch.bool
        or index.shape not in ((), (len(x),))
    ):
        raise BadConfig(f"target must be one class index, or one for each of the {len(x)} images")
    if not ((index >= 0) & (index < logits.shape[1])).all():
        raise BadConfig(f"target must be from 0 to {logits.shape[1] - 1}")
    return index.long().expand(len(x))

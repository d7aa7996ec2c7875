"""rapbench: a benchmark of attribution methods for image classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rapbench.core.types import Classifier

__all__ = ["Classifier", "__version__", "attribute", "keep_freed_memory"]
__version__ = "0.1.0"


def __getattr__(name: str) -> type[Classifier]:
    """`Classifier`, imported when first asked for: it takes NumPy, and the command line's lists do without."""
    if name != "Classifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rapbench.core.types import Classifier

    return Classifier


def attribute(
    model: nn.Module,
    x: Tensor,
    target: Tensor | int | None = None,
    method: str = "rap",
    backend: str = "native",
    seed: int = 0,
    precision: str = "auto",
    check: bool = True,
    **parameters: object,
) -> Tensor:
    """Relevance (N, C, H, W) of every input element for the logit of one class.

    The model is run in evaluation mode and left as it was. A program that explains many batches on a CPU gains by
    calling `keep_freed_memory` once before the first.

    Args:
        model: a classifier, from (N, C, H, W) to logits (N, K).
        x: (N, C, H, W) floating point, normalised as the model expects.
        target: class index, or one index an image (N,); None explains the predicted class.
        method: a name of `rapbench list methods`, also with parameters in brackets, or `module:Class`.
        backend: where the method comes from.
        seed: seed of methods that draw; image n of the batch draws from a hash of the seed and n.
        precision: 'auto' computes in the type of `x`, float32 at least, and where a method needs it on this network the
            forward pass or everything in float64. 'fp32' never does; 'fp64-forward' and 'fp64' always do, for methods
            that propagate relevance.
        check: compare what is explained with the network on one image first: the same logits, layer by layer.
        parameters: the method's own parameters, for example `steps=50`.

    Returns:
        Relevance of the shape, type and device of `x`; its sum over channels is the pixel map.

    Raises:
        UnknownName: no such method or backend.
        BadConfig: a wrong parameter, target or input.
        UnsupportedLayer: the method has no rule for a layer of the model.
    """
    from rapbench.backends.attribution import attribute as attributed

    return attributed(model, x, target, method, backend, seed, precision, parameters, check=check)


def keep_freed_memory() -> bool:
    """Lets this process keep the memory of freed tensors, as the command line does on a CPU; False where it cannot.

    Large activations otherwise go back to the system and come again, zeroed page by page, at every operation. It holds
    for the whole process from then on, which so keeps the most memory that it has ever used.
    """
    from rapbench.core.allocator import keep_freed_memory as keep

    return keep()

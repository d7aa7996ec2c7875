"""Forward passes of images with some pixels replaced: what every metric that erases or reveals pixels is made of.

A metric says in which order pixels go (a rank map), which places of that order each step replaces, what shows in their
stead and what is read off the logits; `masked_scores` runs all steps of all images in large batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    Replacement = Callable[[Tensor, Tensor], Tensor]
    Score = Callable[[Tensor, Tensor], Tensor]

Ties = Literal["row_major", "random"]
"""How pixels of equal relevance follow one another: row by row, or in an order drawn from each image's seed."""
OUTCOMES = ("accuracy", "probability", "logit")
NUM_INPUTS = {"cpu": 32, "cuda": 1024}
"""Masked inputs built and classified at once, by device: whole batches of any power of two below it. On a CPU, what is
still in its caches when it is classified; on a GPU, what bounds memory. Halved where memory runs out."""
_FEW_INPUTS = 8
"""From here on down, other things than inputs fill the memory."""
_SIDE, _SIGMA = 11, 5.0


def masked_scores(
    classify: Callable[[Tensor], Tensor],
    start: Tensor,
    rank: Tensor,
    spans: tuple[Tensor, Tensor],
    replacement: Replacement,
    score: Score,
    num_scores: int,
    wanted: Tensor | None = None,
) -> Tensor:
    """What is scored (N, L, S) float64 of every image in each of L steps.

    A step shows `start` with those pixels replaced whose place p in the order has first ≤ p < last.

    Args:
        classify: (M, C, H, W) -> logits (M, K), without gradients.
        start: (N, C, H, W) what pixels are replaced in: the images, or blurred ones to reveal them in.
        rank: (N, H, W) place of every pixel in the order; the pixels of a patch or group share theirs.
        spans: first and last (L,), see `up_to` and `each_alone`; (N, L) where images differ.
        replacement: which images (M,), and what goes of each (M, H, W) bool -> what shows there, (M, C, H, W) or of a
            shape that broadcasts to it; see `colour` and `picture`.
        score: logits (M, K) and which images (M,) they are of -> (M, S).
        num_scores: S.
        wanted: (N, L) bool, the steps to classify, the others' scores being NaN; all by default.
    """
    num_steps = spans[0].shape[-1]
    first, last = (edge.to(rank).expand(len(start), num_steps) for edge in spans)
    scores = start.new_full((len(start), num_steps, num_scores), torch.nan, dtype=torch.float64)
    pairs = torch.arange(len(start) * num_steps, device=rank.device)
    if wanted is not None:
        pairs = pairs[wanted.flatten()]
    for some in torch.split(pairs, NUM_INPUTS[rank.device.type]) if len(pairs) else ():
        images, steps = some // num_steps, some % num_steps
        low, high = (edge[images, steps].view(-1, 1, 1) for edge in (first, last))
        place = rank[images]
        gone = (place >= low) & (place < high)
        inputs = torch.where(~gone.unsqueeze(1), start[images], replacement(images, gone))  # laid out as `start` is
        scores[images, steps] = score(classify(inputs), images)
    return scores


def take_fewer_inputs(device: str) -> bool:
    """Halves how many inputs are built at once from now on, as memory ran out; False where they are few already."""
    if NUM_INPUTS[device] <= _FEW_INPUTS:
        return False
    NUM_INPUTS[device] //= 2
    return True


def up_to(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Spans of steps that replace the first so many places each: erasing, or revealing, more and more."""
    return torch.zeros_like(counts), counts


def beyond(counts: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Spans of steps that replace all of size places but the first so many: showing more and more of the image."""
    return counts, torch.full_like(counts, size)


def each_alone(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Spans of steps that replace what lies between one count and the next, the rest being as it was."""
    return torch.cat([torch.zeros_like(counts[:1]), counts[:-1]]), counts


def colour(channels: tuple[float, ...], x: Tensor) -> Replacement:
    """One colour everywhere, a value a channel or one for all, on the device of x."""
    value = torch.tensor(channels).to(x).view(-1, 1, 1)
    return lambda *_: value


def picture(pictures: Tensor) -> Replacement:
    """Another picture (C, H, W) of each image, of pictures (N, C, H, W)."""
    return lambda images, _: pictures[images]


def blurred(x: Tensor) -> Tensor:
    """Images (N, C, H, W) under a Gaussian window of 11 × 11 pixels and σ = 5, with zeros around them.

    What of the Gaussian lies outside the window is mirrored at its edges, so that its weights sum to 1.

    Source: Petsiuk et al. 2018, their implementation.
    """
    from scipy.ndimage import gaussian_filter1d

    weights = torch.from_numpy(gaussian_filter1d(torch.eye(_SIDE).double()[_SIDE // 2].numpy(), _SIGMA)).to(x.device)
    down = weights.view(1, 1, _SIDE, 1).expand(x.shape[1], 1, _SIDE, 1)
    wide = x.double()  # whose products are exact in every mode of a device
    vertical = functional.conv2d(wide, down, padding=(_SIDE // 2, 0), groups=x.shape[1])
    return functional.conv2d(vertical, down.mT, padding=(0, _SIDE // 2), groups=x.shape[1]).to(x.dtype)


def places(pixels: Tensor, seeds: Tensor, *, descending: bool, ties: Ties) -> Tensor:
    """Place (N, H, W) int32 of every pixel of maps (N, H, W) in the order of relevance; seeds (N,) are the images'."""
    drawn = ties == "random" and len(pixels)
    return ranks(pixels, descending=descending, ties=shuffles(seeds, pixels[0].numel()) if drawn else None)


def shuffles(seeds: Tensor, size: int) -> Tensor:
    """A permutation (N, size) of pixels for each seed (N,), drawn on the CPU."""
    drawn = [torch.randperm(size, generator=torch.Generator().manual_seed(seed)) for seed in seeds.tolist()]
    return torch.stack(drawn)


def logit(logits: Tensor, target: Tensor) -> Tensor:
    """Logit (M, 1) float64 of the targets (M,) given logits (M, K)."""
    return logits.double().gather(1, target.unsqueeze(1))


def probability(logits: Tensor, target: Tensor) -> Tensor:
    """Softmax (M, 1) float64 of the targets (M,) given logits (M, K)."""
    return logits.double().softmax(1).gather(1, target.unsqueeze(1))


def ranks(values: Tensor, *, descending: bool, ties: Tensor | None = None) -> Tensor:
    """Place (N, H, W) int32 of every pixel or patch in the order of its value (N, H, W).

    Equal values follow one another as in `ties` (N, H · W), row by row without it.
    """
    flat = values.flatten(1)
    if ties is None:
        order = torch.argsort(flat, dim=1, descending=descending, stable=True)
    else:
        first = ties.to(flat.device)
        order = first.gather(1, torch.argsort(flat.gather(1, first), dim=1, descending=descending, stable=True))
    place = torch.arange(order.shape[1], dtype=torch.int32, device=order.device)
    return torch.empty_like(order, dtype=torch.int32).scatter_(1, order, place.expand_as(order)).view(values.shape)


def outcomes(logits: Tensor, target: Tensor) -> Tensor:
    """Accuracy, probability and logit (M, 3) float64 of the targets (M,) given logits (M, K); NaN where one is NaN."""
    wide, own = logits.double(), logit(logits, target)
    accuracy = (wide.argmax(1) == target).double().where(~wide.isnan().any(1), torch.nan)
    return torch.cat([accuracy.unsqueeze(1), (own - wide.logsumexp(1, keepdim=True)).exp(), own], dim=1)

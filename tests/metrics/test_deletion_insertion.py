"""Deletion and insertion: a slow restatement of the curves, both ends of them, and how they mirror each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig
from rapbench.core.types import Explained
from rapbench.metrics import METRICS
from rapbench.metrics.deletion_insertion import DeletionInsertion
from rapbench.metrics.masked import blurred
from rapbench.report.statistics import estimate

Explain = Callable[..., Explained]
RowsOf = Callable[..., pd.DataFrame]
OUTCOMES = ("accuracy", "probability", "logit")


def slow_blurred(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """An image (C, H, W) under the window, one pixel after the other; outside of it there are zeros."""
    dirac = np.zeros((11, 11))
    dirac[5, 5] = 1
    window, (_, rows, cols) = gaussian_filter(dirac, 5), image.shape
    found = np.zeros_like(image)
    for row in range(rows):
        for col in range(cols):
            for r in range(max(0, row - 5), min(rows, row + 6)):
                for c in range(max(0, col - 5), min(cols, col + 6)):
                    found[:, row, col] += window[r - row + 5, c - col + 5] * image[:, r, c]
    return found


def slow_curve(
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    order: list[tuple[int, int]],
    step: int,
    target: int,
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Outcomes (3, L) as one pixel after the other, in that order, becomes that of the end."""
    shown, curve = start.copy(), []
    for n in range(len(order) + 1):
        if n % step == 0 or n == len(order):
            logits = shown.ravel() @ weights
            exps = np.exp(logits - logits.max())
            curve.append((logits.argmax() == target, exps[target] / exps.sum(), logits[target]))
        if n < len(order):
            row, col = order[n]
            shown[:, row, col] = end[:, row, col]
    return np.array(curve, dtype=np.float64).T


@pytest.fixture
def wide(explain: Explain, weights: Tensor) -> Callable[..., Explained]:
    """Explained images in float64."""
    double = weights.double()
    return lambda maps, **given: explain(
        maps, **{"x": torch.randn(len(maps), 3, 24, 24).double(), "classify": lambda x: x.flatten(1) @ double} | given
    )


@pytest.mark.parametrize(("fill", "start"), [("mean", "blur"), ("black", "mean"), ("blur", "black")])
@pytest.mark.parametrize("ties", ["row_major", "random"])
def test_curves_equal_one_pixel_after_the_other(
    wide: Explain, weights: Tensor, fill: str, start: str, ties: str
) -> None:
    maps = torch.randint(-5, 6, (2, 24, 24)).double()  # many ties
    explained = wide(maps)
    columns = DeletionInsertion(step=50, fill=fill, start=start, ties=ties)(explained)  # type: ignore[arg-type]
    for i, image in enumerate(explained.batch.x.numpy()):
        black = np.broadcast_to(np.array(explained.network.black)[:, None, None], image.shape)
        substrates = {"mean": np.zeros_like(image), "black": black, "blur": slow_blurred(image)}
        draw = torch.Generator().manual_seed(int(explained.batch.seeds[i]))
        before = torch.randperm(576, generator=draw).argsort() if ties == "random" else torch.arange(576)
        order = sorted(range(576), key=lambda p: (-maps[i].flatten()[p], before[p]))
        places = [divmod(p, 24) for p in order]
        ends = {"deletion": (image, substrates[fill]), "insertion": (substrates[start], image)}
        for name, (first, last) in ends.items():
            slow = slow_curve(first, last, places, 50, int(explained.target[i]), weights.double().numpy())
            assert slow.shape == (3, 13)
            for outcome, curve in zip(OUTCOMES, slow, strict=True):
                np.testing.assert_allclose(columns[f"{name}_{outcome}"][i].numpy(), curve, atol=1e-10)


def test_the_window_is_the_mirrored_gaussian_with_zeros_around_the_image() -> None:
    images = torch.randn(2, 3, 14, 9).double()
    slow = np.stack([slow_blurred(image) for image in images.numpy()])
    np.testing.assert_allclose(blurred(images).numpy(), slow, atol=1e-12)
    assert blurred(torch.ones(1, 1, 11, 11).double())[0, 0, 5, 5] == pytest.approx(1), "weights sum to 1"


def test_deletion_read_backwards_is_insertion_of_the_reversed_order(wide: Explain, rows_of: RowsOf) -> None:
    maps = torch.randn(3, 24, 24)
    metric = DeletionInsertion(step=64, fill="blur", start="blur")
    one = wide(maps)
    forward, reverse = metric(one), metric(wide(-maps, x=one.batch.x, target=one.target))
    for outcome in OUTCOMES:
        torch.testing.assert_close(forward[f"deletion_{outcome}"].flip(1), reverse[f"insertion_{outcome}"])
    variants = metric.variants(signed=True)
    areas = [
        variants[name].statistics(rows_of(c))
        for name, c in (("deletion_auc", forward), ("insertion_auc", reverse), ("difference", reverse))
    ]
    np.testing.assert_allclose(areas[0], areas[1])
    np.testing.assert_allclose(areas[2], areas[1] - variants["deletion_auc"].statistics(rows_of(reverse)))


def test_both_ends_are_the_clean_image_and_the_whole_substrate(explain: Explain, weights: Tensor) -> None:
    seen: list[Tensor] = []

    def classify(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return x.flatten(1) @ weights

    explained = explain(torch.randn(2, 24, 24), classify=classify)
    seen.clear()
    columns = DeletionInsertion(step=100, fill="black")(explained)
    deletion, insertion = torch.cat(seen).unflatten(0, (2, 2, 6))
    black = torch.tensor(explained.network.black).view(3, 1, 1).expand(2, 3, 24, 24)
    assert torch.equal(deletion[:, -1], black)
    assert torch.equal(insertion[:, 0], blurred(explained.batch.x))
    changed = (deletion != explained.batch.x[:, None]).all(2).sum((2, 3))
    assert changed.tolist() == [[100, 200, 300, 400, 500, 576]] * 2
    left = (insertion != explained.batch.x[:, None]).any(2).sum((2, 3))
    assert left.tolist() == [[576, 476, 376, 276, 176, 76]] * 2
    clean = explained.logits.gather(1, explained.target[:, None])[:, 0].double()
    assert torch.equal(columns["deletion_logit"][:, 0], clean)
    assert torch.equal(columns["insertion_logit"][:, -1], clean)


@pytest.mark.parametrize("side", [24, 28, 30])
def test_by_default_a_curve_has_29_points_also_on_small_images(explain: Explain, side: int) -> None:
    explained = explain(torch.randn(1, side, side), classify=lambda x: x.flatten(1)[:, :5], logits=torch.ones(1, 5))
    columns = DeletionInsertion()(explained)
    assert columns["deletion_logit"].shape == columns["insertion_logit"].shape == (1, 29)
    assert DeletionInsertion()._counts(224 * 224).tolist() == [1792 * k for k in range(29)]


def test_the_area_is_that_of_the_authors(rows_of: RowsOf) -> None:
    curve = torch.tensor([[0.9, 0.5, 0.3, 0.1], [1.0, 1.0, 1.0, 1.0]]).double()
    rows = rows_of({f"{name}_{o}": curve for name in ("deletion", "insertion") for o in OUTCOMES})
    rows = rows.assign(num_non_finite=0, constant=0)
    for name, variant in DeletionInsertion().variants(signed=True).items():
        expected = [[0.0], [0.0]] if "difference" in name else [[(1.8 - 0.45 - 0.05) / 3], [1.0]]
        np.testing.assert_allclose(variant.statistics(rows), expected, atol=1e-12)
        assert variant.direction == ("lower" if name.startswith("deletion") else "higher")


@pytest.mark.parametrize("curve", ["deletion", "insertion"])
def test_one_curve_alone_takes_half_the_passes(explain: Explain, weights: Tensor, curve: str) -> None:
    shown: list[int] = []

    def classify(x: Tensor) -> Tensor:
        shown.append(len(x))
        return x.flatten(1) @ weights

    explained = explain(torch.randn(2, 24, 24), classify=classify)
    both = DeletionInsertion(step=100)(explained)
    shown.clear()
    metric = DeletionInsertion(step=100, curves=curve)  # type: ignore[arg-type]
    alone = metric(explained)
    assert sum(shown) == 2 * 6
    assert all(torch.equal(alone[name], both[name]) for name in alone)
    assert set(metric.variants(signed=True)) == {f"{curve}_auc{o}" for o in ("", "_accuracy", "_logit")}


def test_misclassified_images_count_and_maps_without_an_order_do_not(explain: Explain, rows_of: RowsOf) -> None:
    maps = torch.randn(4, 24, 24)
    maps[0], maps[1, 0, 0] = 0.5, torch.nan
    rows = rows_of(DeletionInsertion(step=100)(explain(maps)), label=1, target=0)
    found = estimate(DeletionInsertion().variants(signed=True)["difference"], rows, seed=0)
    assert found.dropped == {"constant map": 1, "non-finite relevance": 1}
    assert found.n == 2


def test_a_batch_of_undefined_maps_classifies_nothing(explain: Explain) -> None:
    explained = explain(torch.zeros(2, 24, 24), logits=torch.ones(2, 5), classify=None)
    columns = DeletionInsertion(step=100, ties="random")(explained)
    assert columns["insertion_probability"].isnan().all()
    assert columns["insertion_probability"].shape == (2, 7)


def test_a_step_that_no_image_has_is_refused(explain: Explain) -> None:
    with pytest.raises(BadConfig, match="a step of 577 pixels, but the image has 576"):
        DeletionInsertion(step=577)(explain(torch.randn(1, 24, 24)))
    with pytest.raises(BadConfig, match="step=0: Input should be greater than or equal to 1"):
        METRICS.build(Call("deletion_insertion", {"step": "0"}))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_inputs_keep_the_memory_format(explain: Explain, weights: Tensor, memory_format: torch.memory_format) -> None:
    x = torch.randn(3, 3, 24, 24).contiguous(memory_format=memory_format)

    def classify(inputs: Tensor) -> Tensor:
        assert inputs.is_contiguous(memory_format=memory_format)
        return inputs.flatten(1) @ weights

    DeletionInsertion(step=200)(explain(torch.randn(3, 24, 24), x=x, classify=classify))

"""Image degradation against a slow restatement, patch by patch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig
from rapbench.core.types import Explained
from rapbench.metrics import METRICS, masked
from rapbench.metrics.degradation import Degradation

Explain = Callable[..., Explained]
RowsOf = Callable[..., pd.DataFrame]


def slow_curve(
    relevance: Tensor, x: Tensor, target: int, weights: Tensor, patch: int, steps: int, *, reflect: bool
) -> NDArray[np.float64]:
    """Softmax of the target after 0 to `steps` patches, most relevant first, became their mean colour."""
    side = x.shape[-1]
    whole = -(-side // patch) * patch if reflect else side
    at = [i if i < side else 2 * (side - 1) - i for i in range(whole)]  # mirrored about the last pixel
    image, score = x.double().numpy(), relevance.double().sum(0).numpy()
    patches = []
    for top in range(0, whole, patch):
        for left in range(0, whole, patch):
            rows, cols = at[top : top + patch], at[left : left + patch]
            total = sum(score[r, c] for r in rows for c in cols)
            colour = np.mean([image[:, r, c] for r in rows for c in cols], axis=0)
            patches.append((total, top, left, colour))
    patches.sort(key=lambda p: -p[0])
    curve = []
    image = image.copy()
    for step in range(steps + 1):
        if step:
            _, top, left, colour = patches[step - 1]
            image[:, top : top + patch, left : left + patch] = colour[:, None, None]
        logits = image.ravel() @ weights.double().numpy()
        curve.append(np.exp(logits[target]) / np.exp(logits).sum())
    return np.array(curve)


@pytest.mark.parametrize(("patch", "edge"), [(8, "ragged"), (7, "ragged"), (7, "reflect"), (5, "reflect")])
def test_curves_agree_with_a_slow_restatement(explain: Explain, weights: Tensor, patch: int, edge: str) -> None:
    relevance = torch.randn(3, 3, 24, 24)
    wide = weights.double()
    explained = explain(relevance, x=torch.randn(3, 3, 24, 24).double(), classify=lambda x: x.flatten(1) @ wide)
    columns = Degradation(patch=patch, steps=6, edge=edge)(explained)  # type: ignore[arg-type]
    assert columns["probability"].shape == (3, 7)
    for n in range(3):
        expected = slow_curve(
            *(relevance[n], explained.batch.x[n], int(explained.target[n]), weights, patch, 6),
            reflect=edge == "reflect",
        )
        np.testing.assert_allclose(columns["probability"][n].numpy(), expected, atol=1e-12)


def test_more_steps_than_a_batch_of_inputs_give_the_same_curve(
    explain: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained = explain(torch.randn(3, 3, 24, 24))
    whole = Degradation(patch=4, steps=30)(explained)["probability"]
    monkeypatch.setitem(masked.NUM_INPUTS, "cpu", 7)
    assert torch.allclose(Degradation(patch=4, steps=30)(explained)["probability"], whole, atol=1e-6)


def test_patches_of_equal_score_go_in_row_major_order(explain: Explain) -> None:
    relevance, seen = torch.zeros(1, 24, 24), []
    relevance[0, 20, 20] = 1

    def classify(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros(len(x), 5)

    explained = explain(relevance, classify=classify)
    Degradation(patch=12, steps=3)(explained)
    first, second, third = seen[-1]
    changed = [(image != explained.batch.x[0]).any(0) for image in (first, second, third)]
    assert changed[0][12:, 12:].all()
    assert not changed[0][:12].any()
    assert changed[1][:12, :12].all()
    assert not changed[1][:12, 12:].any()
    assert changed[2][:12, 12:].all()


def test_drops_are_measured_from_the_clean_image(rows_of: RowsOf) -> None:
    rows = rows_of(
        {
            "probability": torch.tensor([[0.8, 0.6, 0.1], [0.5, 0.5, 0.7]]),
            "num_non_finite": torch.zeros(2),
            "constant": torch.zeros(2),
        }
    )
    variants = Degradation(steps=2).variants(signed=True)
    np.testing.assert_allclose(variants["mean_drop"].statistics(rows), [[0.3], [-0.2 / 3]], atol=1e-7)
    np.testing.assert_allclose(variants["drop@2"].statistics(rows), [[0.7], [-0.2]], atol=1e-7)
    assert {v.direction for v in variants.values()} == {"higher"}
    assert list(Degradation().variants(signed=True)) == ["mean_drop", "drop@10", "drop@25", "drop@50", "drop@100"]


def test_images_without_an_order_are_dropped_with_their_reason(explain: Explain, rows_of: RowsOf) -> None:
    relevance = torch.randn(3, 3, 24, 24)
    relevance[1] = 0
    relevance[2, 0, 3, 3] = torch.nan
    rows = rows_of(Degradation(patch=6, steps=4)(explain(relevance)))
    dropped = {
        reason: list(test(rows)) for reason, test in Degradation().variants(signed=True)["mean_drop"].undefined.items()
    }
    assert dropped == {"non-finite relevance": [False, False, True], "constant map": [False, True, False]}


def test_a_better_map_falls_faster(explain: Explain, weights: Tensor) -> None:
    found = explain(torch.randn(2, 3, 24, 24))
    patch, worth = 6, torch.zeros(2, 24, 24)
    for n, target in enumerate(found.target):  # what a patch's deviation from its mean gives to the target
        blocks = found.batch.x[n].unflatten(1, (-1, patch)).unflatten(3, (-1, patch))
        flat = (found.batch.x[n] - blocks.mean((2, 4), keepdim=True).expand_as(blocks).reshape(3, 24, 24)).flatten()
        worth[n] = (flat * (weights[:, target] - weights.mean(1))).view(3, 24, 24).sum(0)
    best, worst = (
        Degradation(patch=patch, steps=16)(explain(sign * worth, x=found.batch.x))["probability"] for sign in (1, -1)
    )
    assert (best.mean(1) < worst.mean(1)).all()
    assert torch.allclose(best[:, -1], worst[:, -1], atol=1e-6)


@pytest.mark.parametrize("field", ["patch", "steps", "images"])
def test_sizes_below_one_are_refused(field: str) -> None:
    with pytest.raises(BadConfig, match=f"{field}=0: Input should be greater than or equal to 1"):
        METRICS.build(Call("degradation", {field: "0"}))


def test_more_steps_than_patches_are_refused(explain: Explain) -> None:
    with pytest.raises(BadConfig, match="5 steps, but the image has 4 patches"):
        Degradation(patch=12, steps=5)(explain(torch.randn(1, 24, 24)))

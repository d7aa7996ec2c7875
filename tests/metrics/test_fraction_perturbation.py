"""Positive and negative perturbation: a slow restatement of the curves, whose accuracy, and the orders' laws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from torch import Tensor

from rapbench.core.types import Explained
from rapbench.metrics.fraction_perturbation import FractionPerturbation
from rapbench.report.statistics import estimate

Explain = Callable[..., Explained]
RowsOf = Callable[..., pd.DataFrame]


def slow_curves(
    image: NDArray[np.float64],
    order: list[tuple[int, int]],
    label: int,
    target: int,
    black: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Whether the label and the target are on top, and the target's softmax, (3, 10): pixel after pixel erased."""
    found = []
    for tenths in range(10):
        shown = image.copy()
        for row, col in order[: int(tenths * 0.1 * 576 + 1e-9)]:
            for channel in range(3):
                shown[channel, row, col] = black[channel]
        logits = shown.ravel() @ weights
        exps = np.exp(logits - logits.max())
        found.append((logits.argmax() == label, logits.argmax() == target, exps[target] / exps.sum()))
    return np.array(found, dtype=np.float64).T


@pytest.mark.parametrize("fill", ["black", "mean"])
@pytest.mark.parametrize("ties", ["row_major", "random"])
def test_curves_equal_erasing_one_pixel_after_the_other(
    explain: Explain, weights: Tensor, fill: str, ties: str
) -> None:
    maps, double = torch.randint(-5, 6, (3, 24, 24)).double(), weights.double()  # many ties
    explained = explain(
        maps,
        x=torch.randn(3, 3, 24, 24).double(),
        classify=lambda x: x.flatten(1) @ double,
        label=torch.tensor([0, 3, 2]),
        target=torch.tensor([0, 1, 4]),
    )
    columns = FractionPerturbation(fill=fill, ties=ties)(explained)  # type: ignore[arg-type]
    black = np.array(explained.network.black if fill == "black" else (0, 0, 0))
    for i in range(3):
        draw = torch.Generator().manual_seed(int(explained.batch.seeds[i]))
        before = torch.randperm(576, generator=draw).argsort() if ties == "random" else torch.arange(576)
        for name, sign in (("positive", -1), ("negative", 1)):
            order = sorted(range(576), key=lambda p: (sign * maps[i].flatten()[p], before[p]))
            slow = slow_curves(
                explained.batch.x[i].numpy(),
                [divmod(p, 24) for p in order],
                int(explained.batch.label[i]),  # type: ignore[index]
                int(explained.target[i]),
                black,
                double.numpy(),
            )
            for score, curve in zip(("label", "explained", "probability"), slow, strict=True):
                np.testing.assert_allclose(columns[f"{name}_{score}"][i].numpy(), curve, atol=1e-10)


def test_the_areas_are_percent_under_ten_and_nine_points(rows_of: RowsOf) -> None:
    curve = torch.tensor([[1, 1, 1, 0, 1, 0, 0, 0, 0, 0], [1] * 10]).double()
    names = [
        f"{order}_{score}" for order in ("positive", "negative") for score in ("label", "explained", "probability")
    ]
    rows = rows_of(dict.fromkeys(names, curve) | {"labelled": torch.ones(2)}).assign(num_non_finite=0, constant=0)
    found = FractionPerturbation().variants(signed=True)
    assert len(found) == 2 * 3 * 3
    for name, variant in found.items():
        points = curve.numpy() if name.count(":") == 0 else curve[:, 1:].numpy()
        x = np.arange(10 - points.shape[1], 10) / 10
        area = 100 * trapezoid(points, x, axis=1) if ":mean" not in name else 100 * points.mean(1)
        np.testing.assert_allclose(variant.statistics(rows)[:, 0], area)
        assert variant.direction == ("lower" if name.startswith("positive") else "higher")
    assert found["negative_auc"].statistics(rows)[1, 0] == pytest.approx(90)


def test_accuracy_is_the_labels_also_where_another_class_is_explained(explain: Explain, rows_of: RowsOf) -> None:
    maps = torch.randn(4, 24, 24)
    explained = explain(maps)
    predicted = explained.logits.argmax(1)
    for shift, first in ((0, 1.0), (1, 0.0)):
        one = explain(maps, x=explained.batch.x, label=(predicted + shift) % 5)
        columns = FractionPerturbation()(one)
        assert columns["positive_label"][:, 0].tolist() == [first] * 4, "misclassified images count as wrong"
        assert columns["positive_explained"][:, 0].tolist() == [1.0] * 4
        found = estimate(FractionPerturbation().variants(signed=True)["positive_auc"], rows_of(columns), seed=0)
        assert found.n == 4


@pytest.mark.parametrize("label", [torch.tensor([2, -1, 0]), None])
def test_an_unknown_label_is_dropped_and_never_zero(explain: Explain, rows_of: RowsOf, label: Tensor | None) -> None:
    columns = FractionPerturbation()(explain(torch.randn(3, 24, 24), label=label))
    unknown = [False, True, False] if label is not None else [True] * 3
    assert columns["negative_label"].isnan().all(1).tolist() == unknown
    assert not columns["negative_explained"].isnan().any()
    variants, rows = FractionPerturbation().variants(signed=True), rows_of(columns)
    dropped = {name: estimate(v, rows, seed=0, resamples=2).dropped for name, v in variants.items()}
    for name, reasons in dropped.items():
        of_label = "explained" not in name and "probability" not in name
        assert reasons == ({"unknown label": sum(unknown)} if of_label else {})


def test_maps_without_an_order_are_dropped_and_cost_no_classification(explain: Explain, rows_of: RowsOf) -> None:
    maps = torch.randn(3, 24, 24)
    maps[0], maps[1, 0, 0] = 0.5, torch.inf
    rows = rows_of(FractionPerturbation()(explain(maps)))
    found = estimate(FractionPerturbation().variants(signed=True)["positive_auc_explained"], rows, seed=0)
    assert found.dropped == {"constant map": 1, "non-finite relevance": 1}
    undefined = explain(torch.zeros(2, 24, 24), logits=torch.ones(2, 5), classify=None)
    assert FractionPerturbation(ties="random")(undefined)["positive_probability"].isnan().all()


@pytest.mark.parametrize("order", ["positive", "negative"])
def test_one_order_alone_takes_half_the_passes(explain: Explain, weights: Tensor, order: str) -> None:
    shown: list[int] = []

    def classify(x: Tensor) -> Tensor:
        shown.append(len(x))
        return x.flatten(1) @ weights

    explained = explain(torch.randn(2, 24, 24), classify=classify)
    both = FractionPerturbation()(explained)
    shown.clear()
    metric = FractionPerturbation(orders=order)  # type: ignore[arg-type]
    alone = metric(explained)
    assert sum(shown) == 2 * 9
    assert all(torch.equal(alone[name], both[name]) for name in alone)
    assert {name.partition("_")[0] for name in metric.variants(signed=True)} == {order}


def test_the_classifiers_own_gradient_is_best_and_its_negative_worst(
    explain: Explain, weights: Tensor, rows_of: RowsOf
) -> None:
    x = torch.randn(6, 3, 24, 24)
    target = (x.flatten(1) @ weights).argmax(1)
    own = x * weights.T[target].view(x.shape)
    metric = FractionPerturbation(fill="mean")
    scores = {
        name: {
            key: estimate(v, rows_of(metric(explain(maps, x=x, label=target))), seed=0, resamples=2).value
            for key, v in metric.variants(signed=True).items()
        }
        for name, maps in {"own": own, "noise": torch.randn_like(own), "negated": -own}.items()
    }
    for key, value in scores["own"].items():
        ordered = [value, scores["noise"][key], scores["negated"][key]]
        assert ordered == sorted(ordered, reverse=key.startswith("negative"))
        assert ordered[0] != ordered[2]

"""Randomisation against slow restatements: likeness of maps, entropy, and which layers each step randomises."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import entropy as scipys_entropy
from scipy.stats import spearmanr
from torch import Tensor

from rapbench.core.errors import BadConfig
from rapbench.core.types import Explained
from rapbench.metrics.draws import noise
from rapbench.metrics.randomisation import Randomisation
from rapbench.metrics.similarity import entropy, freedman_diaconis, spearman, ssim
from rapbench.report.statistics import estimate

Explain = Callable[..., Explained]
RowsOf = Callable[..., pd.DataFrame]
LAYERS = ("e", "d", "c", "b", "a")
WEIGHT = {name: n + 1.0 for n, name in enumerate(LAYERS)}


def mixed(names: Sequence[str], statistics: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Maps that tell which layers were randomised, whose class is explained and what becomes of the statistics."""
    share = sum(WEIGHT[name] for name in names) + (0.5 if statistics == "reset" else 0)
    return lambda x, target, seeds: x.roll(1, 3) * share + x * (1 + target.view(-1, 1, 1, 1))


@pytest.fixture
def explained(explain: Explain) -> Explained:
    x = torch.randn(3, 3, 14, 13)
    given = {"layers": lambda: LAYERS, "randomised": mixed, "explain": lambda x, target, seeds: x**3}
    return explain(x**3, x=x, **given)


def values(metric: Randomisation, explained: Explained, rows_of: RowsOf) -> dict[str, np.ndarray]:
    rows = rows_of(metric(explained))
    return {name: variant.statistics(rows)[:, 0] for name, variant in metric.variants(signed=True).items()}


def slow_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Window by window, of maps divided by their greatest magnitude."""
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    rows, cols = np.mgrid[-5:6, -5:6]
    weights = np.exp(-(rows**2 + cols**2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            p, q = (m[top : top + 11, left : left + 11] for m in (a, b))
            mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
            var_p, var_q = (weights * (p - mean_p) ** 2).sum(), (weights * (q - mean_q) ** 2).sum()
            cov = (weights * (p - mean_p) * (q - mean_q)).sum()
            luminance = (2 * mean_p * mean_q + 0.02**2) / (mean_p**2 + mean_q**2 + 0.02**2)
            found.append(luminance * (2 * cov + 0.06**2) / (var_p + var_q + 0.06**2))
    return float(np.mean(found))


def slow_rise(random: np.ndarray, intact: np.ndarray) -> float:
    lower, upper = np.percentile(intact, [25, 75])
    bins = (intact.max() - intact.min()) / (2 * (upper - lower) / intact.size ** (1 / 3))
    before, after = (scipys_entropy(np.histogram(m, int(np.clip(bins, 10, 200)))[0]) for m in (intact, random))
    return float((after - before) / before)


@pytest.mark.parametrize("order", ["cascade", "independent"])
@pytest.mark.parametrize(("layers", "depths"), [(None, (1, 2, 3, 4, 5)), (2, (2, 5)), (1, (5,)), (9, (1, 2, 3, 4, 5))])
def test_values_are_means_over_the_randomised_steps_alone(
    explained: Explained, rows_of: RowsOf, order: str, layers: int | None, depths: tuple[int, ...]
) -> None:
    metric = Randomisation(order=order, layers=layers, bn="reset")  # type: ignore[arg-type]
    found = values(metric, explained, rows_of)
    for n in range(3):
        intact, alike = explained.pixels[n].numpy(), []
        for depth in depths:
            names = LAYERS[:depth] if order == "cascade" else LAYERS[depth - 1 : depth]
            x, target = explained.batch.x[n : n + 1], explained.target[n : n + 1]
            map_ = mixed(names, "reset")(x, target, x).double().sum(1)[0].numpy()
            ranks = (spearmanr(f(intact).ravel(), f(map_).ravel()).statistic for f in (np.asarray, np.abs))
            alike.append((*ranks, slow_ssim(intact, map_)))
        means = dict(zip(("spearman", "spearman_abs", "ssim"), np.mean(alike, 0), strict=True))
        if order == "cascade":
            means["emprt"] = slow_rise(map_, intact)
        assert {name: value[n] for name, value in found.items()} == pytest.approx(means, rel=1e-9)


def test_a_map_that_knows_nothing_of_the_network_scores_one(explain: Explain, rows_of: RowsOf) -> None:
    def same(x: Tensor, target: Tensor, seeds: Tensor) -> Tensor:
        return x.abs()

    x = torch.randn(2, 3, 24, 24)
    given = {"explain": same, "randomised": lambda names, statistics: same}
    for samples in (1, 3):
        found = values(Randomisation(samples=samples), explain(x.abs(), x=x, **given), rows_of)
        for name in ("spearman", "spearman_abs", "ssim"):
            np.testing.assert_allclose(found[name], 1, rtol=1e-12)
        assert not found["emprt"].any()


def test_the_opposite_map_is_alike_in_magnitude_alone(explain: Explain, rows_of: RowsOf) -> None:
    x = torch.randn(2, 3, 24, 24)
    found = values(Randomisation(), explain(x, x=x, randomised=lambda *_: lambda x, *_: -2 * x), rows_of)
    np.testing.assert_allclose(found["spearman"], -1)
    np.testing.assert_allclose(found["spearman_abs"], 1)


def test_a_map_is_the_mean_over_noisy_inputs_and_the_image_itself(explained: Explained, rows_of: RowsOf) -> None:
    found = values(Randomisation(samples=4, layers=1), explained, rows_of)
    x, seeds = explained.batch.x, explained.batch.seeds
    spread = torch.stack([0.1 * (image.max() - image.min()) for image in x]).view(-1, 1, 1, 1)
    inputs = [x, *(x + spread * noise(x, seeds, f"randomisation {n}") for n in (1, 2, 3))]
    assert (inputs[1] - inputs[2]).std() == pytest.approx(2**0.5 * spread.mean().item(), rel=0.1)
    intact, random = (
        torch.stack([explain(one, explained.target, seeds).double().sum(1) for one in inputs]).mean(0).numpy()
        for explain in (explained.network.explain, mixed(LAYERS, "keep"))
    )
    for n in range(3):
        assert found["spearman"][n] == pytest.approx(spearmanr(intact[n].ravel(), random[n].ravel()).statistic)
        assert found["emprt"][n] == pytest.approx(slow_rise(random[n], intact[n]))


def test_ties_share_their_average_rank() -> None:
    a, b = torch.randn(2, 2, 12, 12).mul(2).round().double()
    expected = [spearmanr(p.ravel(), q.ravel()).statistic for p, q in zip(a.numpy(), b.numpy(), strict=True)]
    np.testing.assert_allclose(spearman(a, b), expected)


def test_structural_similarity_does_not_depend_on_the_scale_of_either_map() -> None:
    a, b = torch.randn(2, 2, 16, 13).double()
    torch.testing.assert_close(ssim(7 * a, b / 5), ssim(a, b))
    torch.testing.assert_close(ssim(a, a), torch.ones(2).double())
    np.testing.assert_allclose(ssim(a, b), [slow_ssim(p, q) for p, q in zip(a.numpy(), b.numpy(), strict=True)])


def test_an_entropy_is_that_of_the_histogram() -> None:
    draws = torch.randn(1000, dtype=torch.float64)
    for num_bins in (10, 37, 200):
        expected = scipys_entropy(np.histogram(draws.numpy(), num_bins)[0])
        assert entropy(draws, num_bins).item() == pytest.approx(expected)
    assert entropy(torch.arange(64.0), 64).item() == pytest.approx(np.log(64))


def test_the_number_of_bins_goes_by_the_number_of_values_within_limits() -> None:
    few, many = torch.linspace(0, 1, 1000).double(), torch.linspace(0, 1, 1_000_000).double()
    assert freedman_diaconis(few) == 10
    assert freedman_diaconis(torch.linspace(0, 1, 64_001).double()) == 40
    assert freedman_diaconis(many) == freedman_diaconis(many * 1e-9) == 100
    assert freedman_diaconis(torch.cat([many, many.new_tensor([1e6])])) == 200
    assert freedman_diaconis(torch.cat([few.new_zeros(900), few[:100]])) == 100


def test_undefined_images_are_dropped_with_their_reason(explain: Explain, rows_of: RowsOf) -> None:
    def randomised(names: Sequence[str], statistics: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        def maps(x: Tensor, target: Tensor, seeds: Tensor) -> Tensor:
            found = x.clone()
            if len(names) == 2:
                found[seeds == 2], found[seeds == 3, 0, 0, 0] = 0.0, torch.nan
            return found

        return maps

    relevance = torch.randn(5, 24, 24)
    relevance[0], relevance[1, 0, 0] = 2.0, torch.inf
    metric = Randomisation()
    rows = rows_of(metric(explain(relevance, randomised=randomised)))
    for variant in metric.variants(signed=True).values():
        found = estimate(variant, rows, seed=0)
        assert found.n == 1
        assert found.dropped == {
            "constant map": 1,
            "non-finite relevance": 1,
            "constant map once randomised": 1,
            "non-finite relevance once randomised": 1,
        }


def test_no_network_is_asked_where_no_map_has_an_order(explain: Explain, rows_of: RowsOf) -> None:
    def refuse(x: Tensor, target: Tensor, seeds: Tensor) -> Tensor:
        raise AssertionError("there is nothing to explain")

    metric = Randomisation(samples=2)
    rows = rows_of(metric(explain(torch.ones(2, 24, 24), explain=refuse, randomised=lambda *_: refuse)))
    assert estimate(metric.variants(signed=True)["emprt"], rows, seed=0).dropped == {"constant map": 2}


def test_images_smaller_than_the_window_are_refused(explain: Explain) -> None:
    with pytest.raises(BadConfig, match="randomisation: images of 11 pixels a side are needed, not 10"):
        Randomisation()(explain(torch.randn(1, 10, 30)))

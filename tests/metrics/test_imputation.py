"""Linear imputation against a direct solve of the same system, and what must hold whatever solves it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import csc_matrix, diags
from scipy.sparse.linalg import spsolve
from torch import Tensor
from torch.nn import functional

from rapbench.metrics import imputation
from rapbench.metrics.imputation import imputed

WEIGHTS = {(a, b): 1 / 6 if a == 0 or b == 0 else 1 / 12 for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)}


def solved(picture: NDArray[np.float64], gone: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Every pixel that is gone equal to the weighted mean of those around it that exist, by a direct solve."""
    channels, height, width = picture.shape
    places = np.argwhere(gone)
    number = np.zeros((height, width), int)
    number[gone] = np.arange(len(places))
    rows, cols, values, right, whole = [], [], [], np.zeros((len(places), channels)), np.zeros(len(places))
    for (down, across), weight in WEIGHTS.items():
        r, c = (places + np.array([down, across])).T
        there = np.flatnonzero((r >= 0) & (r < height) & (c >= 0) & (c < width))
        whole[there] += weight
        unknown = gone[r[there], c[there]]
        mine, known = there[unknown], there[~unknown]
        rows, cols = [*rows, mine], [*cols, number[r[mine], c[mine]]]
        values.append(np.full(len(mine), -weight))
        right[known] += weight * picture[:, r[known], c[known]].T
    found, shape = picture.copy(), (len(places), len(places))
    if len(places):
        system = csc_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape) + diags(
            whole
        )
        found[:, gone] = spsolve(system.tocsc(), right).reshape(len(places), -1).T
    return found


def masks(count: int, side: int, *, smooth: float) -> NDArray[np.bool_]:
    """Masks whose share grows, each the highest pixels of noise that is smoothed."""
    drawn = np.random.default_rng(int(smooth)).normal(size=(count, side, side))
    maps = gaussian_filter(drawn, (0, smooth, smooth)) if smooth else drawn
    shares = np.linspace(0.1, 0.9, count)
    return np.stack([m > np.quantile(m, 1 - share) for m, share in zip(maps, shares, strict=True)])


def pictures(count: int, side: int) -> NDArray[np.float64]:
    """In [0, 1], with edges, slopes and texture, as photographs have."""
    draw = np.random.default_rng(1)
    low, fine = draw.normal(size=(count, 3, side, side)), draw.normal(size=(count, 3, side, side))
    found = np.sign(gaussian_filter(low, (0, 0, 8, 8))) + gaussian_filter(low, (0, 0, 3, 3)) * 9 + 0.3 * fine
    return (found - found.min()) / np.ptp(found)


def deviation(side: int, count: int, smooth: float, std: float = 0.225) -> float:
    """Largest error in [0, 1] of what is imputed in network space."""
    x, gone = pictures(count, side), masks(count, side, smooth=smooth)
    mean = 0.45
    found = imputed(torch.from_numpy((x - mean) / std).float(), torch.from_numpy(gone)).double().numpy() * std + mean
    return max(np.abs(f - solved(p, g)).max() for f, p, g in zip(found, x, gone, strict=True))


@pytest.mark.parametrize(("smooth", "std"), [(0, 0.225), (6, 0.225), (6, 1.0)])
def test_it_is_within_an_eight_bit_step_of_a_direct_solve(smooth: float, std: float) -> None:
    assert deviation(48, 10, smooth, std) < 1 / 255


@pytest.mark.slow
@pytest.mark.parametrize("smooth", [0, 2, 8, 30])
def test_it_is_within_an_eight_bit_step_of_a_direct_solve_at_full_size(smooth: float) -> None:
    assert deviation(224, 3, smooth) < 1 / 255


@pytest.mark.parametrize(("height", "width"), [(5, 7), (1, 6), (8, 3)])
def test_neighbours_that_a_border_lacks_leave_their_weight_to_the_others(
    monkeypatch: pytest.MonkeyPatch, height: int, width: int
) -> None:
    monkeypatch.setattr(imputation, "_SETTLED", 1e-12)
    draw = np.random.default_rng(0)
    x, gone = draw.normal(size=(12, 2, height, width)), draw.random((12, height, width)) < 0.7
    gone[:, 0, 0] = False
    found = imputed(torch.from_numpy(x), torch.from_numpy(gone)).numpy()
    for n in range(12):
        np.testing.assert_allclose(found[n], solved(x[n], gone[n]), atol=1e-9)


def test_a_corner_alone_is_the_mean_of_its_three_neighbours() -> None:
    x, gone = torch.randn(1, 3, 6, 6).double(), torch.zeros(1, 6, 6, dtype=torch.bool)
    gone[0, 0, 0] = True
    expected = (x[0, :, 0, 1] / 6 + x[0, :, 1, 0] / 6 + x[0, :, 1, 1] / 12) / (5 / 12)
    torch.testing.assert_close(imputed(x, gone)[0, :, 0, 0], expected, atol=1e-3, rtol=0)


def test_what_is_not_gone_stays_as_it_is() -> None:
    x, gone = torch.randn(3, 3, 20, 20), torch.rand(3, 20, 20) < 0.5
    gone[1] = False
    found = imputed(x, gone)
    assert torch.equal(found[1], x[1])
    assert torch.equal(found.movedim(1, 3)[~gone], x.movedim(1, 3)[~gone])


def test_where_all_is_gone_nothing_is_known_but_the_mean() -> None:
    x = torch.randn(2, 3, 17, 20)
    gone = torch.stack([torch.ones(17, 20, dtype=torch.bool), torch.rand(17, 20) < 0.5])
    assert torch.equal(imputed(x, gone)[0], torch.zeros(3, 17, 20))


def test_one_pixel_that_is_left_colours_all() -> None:
    x, gone = torch.randn(1, 3, 224, 224), torch.ones(1, 224, 224, dtype=torch.bool)
    gone[0, 3, 200] = False
    torch.testing.assert_close(imputed(x, gone), x[:, :, 3:4, 200:201].expand_as(x), atol=4e-3, rtol=0)


def test_a_large_hole_is_as_exact_in_float32_as_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    x, (rows, cols) = torch.from_numpy(pictures(1, 160)) * 4, torch.meshgrid(*[torch.arange(160)] * 2, indexing="ij")
    gone = (rows**2 + cols**2 > 57**2).unsqueeze(0)
    monkeypatch.setattr(imputation, "_SETTLED", 1e-6)
    torch.testing.assert_close(imputed(x.float(), gone).double(), imputed(x, gone), atol=1e-3, rtol=0)


def test_a_slope_is_continued_inside_a_frame() -> None:
    rows, cols = torch.meshgrid(torch.linspace(-1, 1, 30), torch.linspace(-2, 2, 30), indexing="ij")
    x, gone = (rows + cols).expand(1, 2, 30, 30), torch.zeros(1, 30, 30, dtype=torch.bool)
    gone[0, 1:-1, 1:-1] = True
    torch.testing.assert_close(imputed(x, gone), x, atol=4e-3, rtol=0)


@pytest.mark.parametrize("num_masks", [1, 3, 64])
def test_a_picture_alone_is_imputed_as_in_a_batch(monkeypatch: pytest.MonkeyPatch, num_masks: int) -> None:
    x = torch.from_numpy(pictures(8, 48)).float()
    gone = torch.from_numpy(np.concatenate([masks(4, 48, smooth=0), masks(4, 48, smooth=6)]))
    alone = torch.cat([imputed(x[n : n + 1], gone[n : n + 1]) for n in range(8)])
    monkeypatch.setitem(imputation._NUM_MASKS, "cpu", num_masks)
    torch.testing.assert_close(imputed(x, gone), alone, atol=1e-6, rtol=0)


def test_memory_may_be_laid_out_either_way() -> None:
    x, gone = torch.randn(2, 3, 12, 12), torch.rand(2, 12, 12) < 0.4
    assert torch.equal(imputed(x.contiguous(memory_format=torch.channels_last), gone), imputed(x, gone))


def test_pictures_that_are_not_numbers_are_imputed_as_such_and_disturb_no_others() -> None:
    x, gone = torch.randn(2, 3, 12, 12), torch.rand(2, 12, 12) < 0.4
    good = imputed(x[1:], gone[1:])
    x[0, :, ~gone[0]] = torch.nan
    found = imputed(x, gone)
    assert found[0].isnan().any()
    assert torch.equal(found[1:], good)


@pytest.mark.parametrize("size", [(8, 8), (7, 6), (5, 9)])
def test_a_coarser_system_is_that_of_blocks_that_are_one(size: tuple[int, int]) -> None:
    def matrix(level: imputation._Level) -> Tensor:
        """The system (h · w, h · w), a column from each unknown alone."""
        shape = level.known.shape[2:]
        alone = torch.eye(shape.numel()).double().view(-1, 1, *shape)
        return -level.residual(torch.zeros_like(alone), alone).flatten(1)

    for fine, coarse in pairwise(imputation._hierarchy(torch.rand(1, 1, *size) < 0.7, torch.float64)):
        (height, width), (_, across) = fine.known.shape[2:], coarse.known.shape[2:]
        rows, cols = torch.meshgrid(torch.arange(height) // 2, torch.arange(width) // 2, indexing="ij")
        block = functional.one_hot((rows * across + cols).flatten()).double()
        torch.testing.assert_close(matrix(coarse), block.T @ matrix(fine) @ block)


def test_the_overcorrection_saves_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    def num_cycles(overcorrection: float) -> int:
        count, cycle = [0], imputation._v_cycle

        def counted(levels: list[imputation._Level], b: Tensor) -> Tensor:
            count[0] += b.shape[2] == 64
            return cycle(levels, b)

        with monkeypatch.context() as patch:
            patch.setattr(imputation, "_v_cycle", counted)
            patch.setattr(imputation, "_OVERCORRECTION", overcorrection)
            patch.setattr(imputation, "_SETTLED", 1e-5)
            imputed(torch.from_numpy(pictures(4, 64)).float(), torch.from_numpy(masks(4, 64, smooth=12)))
        return count[0]

    assert num_cycles(imputation._OVERCORRECTION) < num_cycles(1)

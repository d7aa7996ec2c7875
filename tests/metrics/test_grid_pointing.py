"""The grid pointing game: a slow restatement, uniform and perfect maps, and which cells count."""

import dataclasses

import numpy as np
import pytest
import torch

from rapbench.core.errors import BadConfig
from rapbench.core.named import parameters
from rapbench.metrics.grid_pointing import GridPointing, cells_of
from rapbench.report.statistics import estimate

NUM_CLASSES = 12


def shown(cells, side=4):
    """Grids (N, 3, n · side, n · side) whose cells have the colour of their class, for classes (N, n, n)."""
    colours = cells.repeat_interleave(side, 1).repeat_interleave(side, 2)
    return colours.unsqueeze(1).repeat(1, 3, 1, 1).float()


def by_colour(x):
    """Logits (M, K) of a network that is sure of the class whose colour fills an image."""
    return -10 * (x.mean((1, 2, 3)).unsqueeze(1) - torch.arange(NUM_CLASSES)).square()


def drawn(x, target, seeds):
    """Relevance that depends on the class and the image's seed alone."""
    generators = [torch.Generator().manual_seed(100 * int(t) + int(s)) for t, s in zip(target, seeds, strict=True)]
    return torch.stack([torch.randn(x.shape[1:], generator=generator) for generator in generators])


@pytest.fixture
def score(explain, rows_of):
    """The estimate of a variant for grids of classes (N, n, n), shown or otherwise, explained so."""

    def value(cells, explained_by, variant="localization", *, x=None, **parameters):
        x = shown(cells) if x is None else x
        given = {"x": x, "cells": tuple(cells), "classify": by_colour, "explain": explained_by}
        if "setting" in parameters:
            given |= {"explain": None, "disconnected": explained_by}
        metric = GridPointing(**parameters)
        rows = rows_of(metric(explain(torch.zeros_like(x), logits=by_colour(x), **given)))
        return estimate(metric.variants(signed=True)[variant], rows, seed=0, resamples=10)

    return value


def classes(num, n):
    return torch.stack([torch.randperm(NUM_CLASSES)[: n * n].view(n, n) for _ in range(num)])


def walk(maps, n, row, col):
    """L of the cell at a row and column, of a pixel map with cells of 4 x 4."""
    inside = total = 0.0
    for (r, c), value in np.ndenumerate(maps):
        total += max(value, 0)
        inside += max(value, 0) * ((r // 4, c // 4) == (row, col))
    return 100 * inside / total


@pytest.mark.parametrize("n", [2, 3])
def test_the_score_equals_a_walk_over_grids_cells_and_pixels(score, n):
    cells = classes(4, n)
    each = []
    for grid, its_classes in enumerate(cells):
        shares = []
        for (row, col), label in np.ndenumerate(its_classes.numpy()):
            maps = drawn(shown(cells)[:1], [label], [grid])[0].double().sum(0).numpy()
            shares.append(walk(maps, n, row, col))
        each.append(np.mean(shares))
    assert score(cells, drawn).value == pytest.approx(np.mean(each), rel=1e-6)
    assert score(cells, drawn, "localization_median").value == pytest.approx(np.median(each), rel=1e-6)


@pytest.mark.parametrize("setting", ["difull", "dipart"])
@pytest.mark.parametrize("n", [2, 3])
def test_in_other_settings_a_walk_over_the_first_and_the_last_cell_whose_heads_are_disconnected(score, setting, n):
    cells, asked = classes(4, n), []

    def head(disconnection, across, cell):
        asked.append((disconnection, across, cell))
        return lambda x, target, seeds: drawn(x, target, seeds) + cell

    each = []
    for grid, its_classes in enumerate(cells):
        shares = []
        for cell in (0, n * n - 1):
            row, col = divmod(cell, n)
            maps = drawn(shown(cells)[:1], [its_classes[row, col]], [grid])[0].double() + cell
            shares.append(walk(maps.sum(0).numpy(), n, row, col))
        each.append(np.mean(shares))
    assert score(cells, head, setting=setting).value == pytest.approx(np.mean(each), rel=1e-6)
    assert asked == [(setting, n, 0), (setting, n, n * n - 1)]
    assert score(cells, head, "localization_median", setting=setting).value == pytest.approx(np.median(each), rel=1e-6)
    assert score(cells, head, "cells", setting=setting).value == 100


@pytest.mark.parametrize("setting", ["difull", "dipart"])
def test_of_the_two_cells_one_that_is_not_recognised_does_not_count(score, setting):
    cells = torch.tensor([[[1, 2], [3, 4]]])
    x = shown(cells)
    x[:, :, :4] = 7
    result = {
        name: score(cells, lambda *_: on_its_own, name, x=x, setting=setting) for name in ("cells", "localization")
    }
    assert (result["cells"].value, result["localization"].value) == (50, 100)


def on_its_own(x, target, seeds):
    """Positive relevance on the cell of the class, negative elsewhere."""
    return (x == target.view(-1, 1, 1, 1)).float() - 0.5


@pytest.mark.parametrize("n", [2, 3])
def test_a_uniform_map_scores_the_share_of_a_cell_and_relevance_on_the_class_alone_100(score, n):
    cells = classes(3, n)
    for variant in ("localization", "localization_median"):
        assert score(cells, lambda x, *_: torch.ones_like(x), variant).value == pytest.approx(100 / n**2)
        assert score(cells, on_its_own, variant).value == 100
        assert score(cells, lambda *given: -on_its_own(*given), variant).value == 0
        for setting in ("difull", "dipart"):
            found = score(cells, lambda *_: lambda x, *_: torch.ones_like(x), variant, setting=setting).value
            assert found == pytest.approx(100 / n**2)


def test_the_setting_leaves_no_trace_in_keys_where_it_is_not_chosen():
    assert parameters(GridPointing()) == {"threshold": 0.99}
    assert parameters(GridPointing(setting="difull")) == {"threshold": 0.99, "setting": "difull"}


def test_only_pictures_that_are_recognised_alone_are_explained(score):
    cells, asked = torch.tensor([[[1, 2], [3, 4]]]), []
    x = shown(cells)
    x[:, :, :4, :4] = 7  # another class's colour
    x[:, :, 4:, 4:] = 4.45  # right, and not sure

    def counted(x, target, seeds):
        asked.extend(target.tolist())
        return drawn(x, target, seeds)

    assert score(cells, counted, "cells", x=x).value == 50
    assert asked == [2, 3]
    assert score(cells, drawn, "cells", x=x, threshold=0.5).value == 75


def test_a_grid_counts_with_the_cells_that_it_has_and_cells_alike_whatever_their_grid(score):
    cells = torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    x = shown(cells)
    x[0, :, 4:] = 0  # of the first grid two cells are recognised

    def first_alone(x, target, seeds):
        own = (x == target.view(-1, 1, 1, 1)).float()
        return torch.where((seeds == 0).view(-1, 1, 1, 1), own, 1)

    assert score(cells, first_alone, x=x).value == pytest.approx((2 * 100 + 4 * 25) / 6)
    assert score(cells, first_alone, "localization_median", x=x).value == pytest.approx((100 + 25) / 2)


@pytest.mark.parametrize("variant", ["localization", "localization_median"])
def test_a_grid_without_a_value_is_dropped_with_its_reason(score, variant):
    cells = torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[1, 2], [3, 4]], [[9, 2], [3, 4]]])
    x = shown(cells)
    x[0] = 11

    def faulty(x, target, seeds):
        found = (x == target.view(-1, 1, 1, 1)).float()
        found[seeds == 1] *= -1
        found[(seeds == 2) & (target == 3), 0, 0, 0] = torch.nan
        return found

    result = score(cells, faulty, variant, x=x)
    expected = {"non-finite relevance": 1, "no picture recognised": 1, "no positive relevance": 1}
    assert (result.value, result.n, result.dropped) == (100, 1, expected)


def test_cells_are_cut_row_by_row():
    images = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    found = cells_of(images, 4)
    assert torch.equal(found[1, 2], images[1, :, 2:, :3])
    assert found.shape == (2, 4, 3, 2, 3)


def test_a_network_of_other_classes_is_told(explain):
    explained = explain(torch.zeros(2, 24, 24))
    batch = dataclasses.replace(explained.batch, cells=(torch.zeros(2, 2, dtype=torch.int64), None))
    with pytest.raises(BadConfig, match="not known to be classes of the network"):
        GridPointing()(dataclasses.replace(explained, batch=batch))

"""Grids of photographs: every cell is the photograph it says it is, and no class or photograph comes twice."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from rapbench.core.errors import BadData, DataMissing
from rapbench.datasets.folder import Folder
from rapbench.datasets.grid import Grid, groups

CLASSES, EACH, SIZE = 6, 5, 8


@pytest.fixture
def folder(tmp_path):
    """Five pictures of 12 x 10 pixels of each of six classes, named by index, no two pictures alike."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (tmp_path / str(10 * label)).mkdir()
        for n in range(EACH):
            pixels = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{10 * label}/{n}.png")
    return tmp_path


def cells(image):
    """The photographs of a grid, row by row."""
    return [cell for row in image.split(SIZE, 1) for cell in row.split(SIZE, 2)]


@pytest.mark.parametrize("n", [2, 3])
def test_every_cell_is_a_photograph_of_the_class_that_it_says(folder, n):
    for label in range(60, 90, 10):
        shutil.copytree(folder / "0", folder / str(label))
        for file in (folder / str(label)).iterdir():
            Image.fromarray(255 - label - np.asarray(Image.open(file)) // 2).save(file)
    photographs = {p.image.numpy().tobytes(): p.label for p in Folder(path=folder, size=SIZE, preprocess="crop")}
    grids = Grid(path=folder, size=SIZE, n=n)
    shown = [cell.numpy().tobytes() for sample in grids for cell in cells(sample.image)]
    labels = [label for sample in grids for label in sample.cells.flatten().tolist()]
    assert [photographs[cell] for cell in shown] == labels
    assert len(set(shown)) == len(shown) == len(grids) * n**2
    assert all(len(sample.cells.unique()) == n**2 for sample in grids)
    assert grids[0].image.shape == (3, n * SIZE, n * SIZE)


def test_there_are_as_many_grids_as_can_be_filled_in_turn():
    classes = {0: "a", 1: "a", 2: "b", 3: "c", 4: "b", 5: "a"}
    assert list(groups(classes, 2)) == [(0, 2), (1, 3), (4, 5)]
    assert list(groups(classes, 3)) == [(0, 2, 3)]
    assert list(groups(classes, 4)) == []


def test_the_seed_draws_the_grids(folder):
    first, again, other = (Grid(path=folder, size=SIZE, n=2, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)


def test_the_same_photographs_elsewhere_are_the_same_and_others_are_not(folder, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy") / "pictures"
    shutil.copytree(folder, copy)
    grids, copied = (Grid(path=place, size=SIZE, n=2) for place in (folder, copy))
    assert grids.fingerprint == copied.fingerprint
    assert all(torch.equal(one.image, other.image) for one, other in zip(grids, copied, strict=True))
    (copy / "0/0.png").unlink()
    assert Grid(path=copy, size=SIZE, n=2).fingerprint != grids.fingerprint


def test_too_few_classes_or_none_at_all_are_told(folder):
    with pytest.raises(DataMissing, match=r"no grid of 9 classes in .*: its labelled pictures have 6"):
        Grid(path=folder, size=SIZE)
    with pytest.raises(DataMissing, match=r"no grid of 4 classes in .*: its labelled pictures have 0"):
        Grid(path=folder / "0", size=SIZE, n=2)


def test_a_grid_says_what_is_unusual_about_one_of_its_photographs(folder):
    for n in range(EACH):
        (folder / f"0/{n}.png").unlink()
        Image.new("CMYK", (12, 10), (9, 9 * n, 9, 9)).save(folder / f"0/{n}.jpg")
    grids = Grid(path=folder, size=SIZE, n=2)
    assert [grid.note for grid in grids] == ["converted from CMYK" if 0 in grid.cells else "" for grid in grids]
    assert len({grid.note for grid in grids}) == 2


def test_a_photograph_that_cannot_be_read_takes_its_grid_along(folder):
    for n in range(EACH):
        (folder / f"0/{n}.png").write_bytes(b"no picture")
    grids, unreadable = Grid(path=folder, size=SIZE, n=2), 0
    for index in range(len(grids)):
        try:
            assert 0 not in grids[index].cells
        except BadData:
            unreadable += 1
    assert unreadable == EACH

import hashlib

import numpy as np
import pytest
import torch

from rapbench.datasets.scenes import CLASSES, Scenes, _paint_object


@pytest.fixture(scope="module")
def drawn():
    """The first 600 validation images (600, 224, 224, 3), masks and labels."""
    images, masks, labels = zip(*(Scenes().rendered(i) for i in range(600)), strict=True)
    return np.stack(images), np.stack(masks), np.array(labels)


def digest(data: Scenes, indices: range) -> str:
    sha = hashlib.sha256()
    for pixels, mask, label in map(data.rendered, indices):
        sha.update(pixels.tobytes() + mask.tobytes() + bytes([label]))
    return sha.hexdigest()


def accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Share of the second half that a least-squares classifier of the first half gets right."""
    half = len(labels) // 2
    known, unseen = np.split((features - features.mean(0)) / features.std(0), [half])
    weights = np.linalg.lstsq(known.T @ known + 10 * np.eye(known.shape[1]), known.T @ np.eye(12)[labels[:half]])[0]
    return float(((unseen @ weights).argmax(1) == labels[half:]).mean())


def colour_statistics(images: np.ndarray) -> np.ndarray:
    """Per image: mean, spread and a histogram of each channel."""
    few = images[:, ::4, ::4].reshape(len(images), -1, 3)
    bins = np.stack([(few // 32 == value).mean(1) for value in range(8)], 1)
    return np.concatenate((few.mean(1), few.std(1), bins.reshape(len(images), -1)), 1)


def test_a_sample_has_the_shapes_and_types_of_its_contract():
    data = Scenes()
    sample = data[123]
    assert sample.id == data.ids[123] == "val-000123"
    assert len(data) == len(data.ids) == len(set(data.ids))
    assert sample.image.shape == (3, 224, 224)
    assert sample.image.dtype == torch.float32
    assert 0 <= sample.image.min() < sample.image.max() <= 1
    assert sample.boxes.shape == (1, 4)
    assert sample.boxes.dtype == torch.int64
    assert sample.mask.shape == (224, 224)
    assert sample.mask.dtype == torch.uint8
    assert set(sample.mask.unique().tolist()) == {0, 1}


def test_the_embedded_weights_were_trained_on_exactly_these_bytes():
    # A changed digest means changed images: raise GENERATOR and train the embedded networks again.
    assert digest(Scenes(), range(4)) == "f1f1bfa318b2314fdf884a82d52202f3ab60f1b672837e8ce67dafe60b3443b0"
    assert (
        digest(Scenes(stream="train"), range(4)) == "6c92b297a8e76caf6b790823f8ed7eb43da5b92f51cfba393d3496d4642a2c52"
    )


def test_an_image_does_not_depend_on_what_was_read_before():
    data = Scenes()
    alone = data[7]
    data[3]
    again, other = data[7], Scenes()[7]
    for sample in (again, other):
        assert torch.equal(sample.image, alone.image)
        assert torch.equal(sample.mask, alone.mask)
        assert sample.label == alone.label


def test_streams_and_seeds_share_no_image():
    sets = (Scenes(), Scenes(stream="train"), Scenes(seed=1), Scenes(seed=1, stream="train"))
    shown = [data.rendered(i)[0].tobytes() for data in sets for i in range(20)]
    assert len(set(shown)) == len(shown)
    assert len({data.fingerprint for data in (*sets, Scenes(size=112))}) == 5


def test_a_box_is_the_tightest_around_its_mask():
    data = Scenes()
    for i in range(40):
        sample = data[i]
        col0, row0, col1, row1 = sample.boxes[0].tolist()
        inside = sample.mask[row0:row1, col0:col1]
        assert inside.sum() == sample.mask.sum()
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.any()


@pytest.mark.parametrize("label", range(12))
def test_the_mask_holds_the_pixels_that_the_object_covers_at_least_by_half(label):
    black, white = np.zeros((224, 224, 3), np.uint8), np.full((224, 224, 3), 255, np.uint8)
    masks = [_paint_object(np.random.default_rng(label), image, label) for image in (black, white)]
    covered = 255 - (white.astype(int) - black)  # what shows through differs, what covers does not
    assert np.array_equal(*masks)
    assert (masks[0][covered.min(-1) >= 130] == 1).all()
    assert (masks[0][covered.max(-1) <= 125] == 0).all()
    assert 0 < (covered % 255 != 0).any(-1).sum() < masks[0].sum()  # a soft rim, a solid inside


@pytest.mark.slow
def test_objects_cover_four_to_thirty_percent_of_the_image(drawn):
    share = drawn[1].mean((1, 2))
    assert share.min() > 0.03
    assert share.max() < 0.31
    assert 0.13 < share.mean() < 0.20


@pytest.mark.slow
def test_every_class_occurs_about_equally_often(drawn):
    counts = np.bincount(drawn[2], minlength=12)
    assert len(CLASSES) == len(set(CLASSES)) == len(counts) == 12
    assert counts.min() > 25
    assert counts.max() < 80


def test_colours_do_not_give_the_class_away(drawn):
    images, _, labels = drawn
    assert accuracy(colour_statistics(images), labels) < 1 / 12 + 0.06


def test_the_background_does_not_give_the_class_away(drawn):
    images, masks, labels = drawn
    hidden = np.where(masks[:, ::4, ::4, None] == 1, np.nan, images[:, ::4, ::4])
    halves = [half for rows in np.split(hidden, 2, 1) for half in np.split(rows, 2, 2)]
    means = np.concatenate([np.nanmean(half, (1, 2)) for half in halves], 1)
    spreads = np.concatenate([np.nanstd(half, (1, 2)) for half in halves], 1)
    assert accuracy(np.concatenate((means, spreads), 1), labels) < 1 / 12 + 0.06


def test_other_sizes_show_objects_of_the_same_share():
    for i in range(5):
        pixels, mask, _ = Scenes(size=96).rendered(i)
        assert pixels.shape == (96, 96, 3)
        assert 0.03 < mask.mean() < 0.31


def test_impossible_parameters_and_indices_are_refused():
    with pytest.raises(ValueError, match="size"):
        Scenes(size=32)
    with pytest.raises(ValueError, match="stream"):
        Scenes(stream="test")
    for index in (-1, len(Scenes())):
        with pytest.raises(IndexError):
            Scenes()[index]

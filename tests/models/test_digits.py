"""The digit network: its shape, and that it is trained once."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rapbench.core.errors import BadConfig, BadWeights
from rapbench.models import digits, family, load_classifier


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digits, "_FEWEST_STEPS", 40)
    monkeypatch.setattr(digits, "_EPOCHS", 1)
    monkeypatch.setattr(digits, "_BATCH", 20)
    return tmp_path / "cache"


@pytest.fixture
def bars() -> tuple[torch.Tensor, torch.Tensor]:
    """40 images of ten classes, each a bright row of its own."""
    labels = torch.arange(40) % 10
    images = torch.zeros(40, 1, 28, 28, dtype=torch.uint8)
    images[torch.arange(40), 0, 2 * labels + 4] = 255
    return images, labels


def test_the_network_has_the_papers_shape() -> None:
    net = digits.mnist_cnn()
    assert sum(parameter.numel() for parameter in net.parameters()) == 239_594
    assert net[:2](torch.zeros(1, 1, 28, 28)).shape == (1, 32, 13, 13)
    assert net[:4](torch.zeros(1, 1, 28, 28)).shape == (1, 64, 5, 5)
    assert family("mnist_cnn").size == 28


def test_training_learns_is_repeatable_and_leaves_the_generator_alone(cache: Path, bars) -> None:
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    net = digits.trained(*bars)
    assert torch.equal(torch.rand(2), expected)
    assert not net.training
    assert (net(bars[0].float() / 255).argmax(1) == bars[1]).float().mean() > 0.9
    first = net.state_dict()
    (file,) = cache.iterdir()
    file.unlink()
    again = digits.trained(*bars).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_a_trained_network_comes_from_the_cache_and_other_images_train_another(
    cache: Path, bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = digits.trained(*bars)
    digits.trained(bars[0] ^ 1, bars[1])
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(digits, "_train", None)
    cached = digits.trained(*bars)
    assert all(torch.equal(value, cached.state_dict()[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("fault", ["damaged", "changed", "another network"])
def test_a_damaged_cache_is_told_and_never_used(cache: Path, bars, fault: str) -> None:
    digits.trained(*bars)
    (file,) = cache.iterdir()
    if fault == "damaged":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        state = load_file(file)
        changed = {key: value + 1 for key, value in state.items()} if fault == "changed" else {"a": torch.ones(1)}
        save_file(changed, file, metadata={"digest": "of before"})
    with pytest.raises(BadWeights, match="delete it to train again"):
        digits.trained(*bars)


def test_a_cache_that_cannot_be_written_is_said_before_training(
    cache: Path, bars, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(digits, "cache_folder", lambda: tmp_path / "file")
    monkeypatch.setattr(digits, "_train", None)
    with pytest.raises(BadConfig, match=r"cannot write into .*file \(.*\): name another folder in RAPBENCH_CACHE"):
        digits.trained(*bars)


def test_auto_weights_are_trained_on_what_the_data_set_offers(cache: Path, bars) -> None:
    found = load_classifier("mnist_cnn", "auto", label_space="digits", seed=5, training=lambda: bars)
    assert (found.weights, found.label_space, found.mean, found.std, found.size) == (
        "trained",
        "digits",
        (0,),
        (1,),
        28,
    )
    assert found.black() == (0,)
    images = bars[0].float() / 255
    assert torch.equal(found.normalised(images), images)
    assert (found.module(images).argmax(1) == bars[1]).float().mean() > 0.9
    assert not any(parameter.requires_grad for parameter in found.module.parameters())


def test_without_training_images_or_of_another_network_trained_is_refused() -> None:
    with pytest.raises(BadConfig, match="trained on the images of mnist or digits"):
        load_classifier("mnist_cnn", "auto", label_space="scenes", seed=0)
    with pytest.raises(BadConfig, match="vgg16 is not trained here, only mnist_cnn is"):
        load_classifier("vgg16", "trained", label_space="digits", seed=0)


def test_random_weights_and_files_are_taken_like_those_of_other_networks(tmp_path: Path) -> None:
    found = load_classifier("mnist_cnn", "random", label_space="digits", seed=1)
    assert found.module(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    save_file(found.module.state_dict(), tmp_path / "net.safetensors")
    loaded = load_classifier("mnist_cnn", str(tmp_path / "net.safetensors"), label_space="digits", seed=0)
    assert (loaded.digest, loaded.label_space) == (found.digest, "digits")

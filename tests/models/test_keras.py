import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.models.vgg import VGG, make_layers

from rapbench.core.errors import BadConfig, BadWeights, DataMissing
from rapbench.models import keras, load_classifier
from rapbench.models.keras import VGG16_KERAS, Keras, keras_state
from rapbench.models.narrow import VGG16

WIDTHS = ((2, 3), (4, 3), (5, 4, 3), (3, 4, 5), (4, 3, 6))
HIDDEN, CLASSES, SIDE = 8, 7, 7
NAMES = [f"block{block}_conv{k}" for block, widths in enumerate(WIDTHS, 1) for k, _ in enumerate(widths, 1)]
DENSE = ["fc1", "fc2", "predictions"]
Weights = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
Naming = Callable[[str, str], str]

NAMINGS: dict[str, Naming] = {
    "keras 1": lambda layer, kind: f"{layer}/{layer}_{'W' if kind == 'kernel' else 'b'}_1:0",
    "keras 2": lambda layer, kind: f"{layer}/{layer}/{kind}:0",
    "one folder": lambda layer, kind: f"{layer}/{kind}:0",
    "built twice": lambda layer, kind: f"{layer}/{layer}_1/{kind}:0",
    "whole model": lambda layer, kind: f"model_weights/{layer}/{layer}/{kind}:0",
}


def _weights() -> Weights:
    """A narrow VGG-16 as Keras holds it: kernels (H, W, C, D) and (C, D)."""
    rng = np.random.default_rng(0)
    widths = [3, *(width for stage in WIDTHS for width in stage)]
    shapes = [(3, 3, width, wider) for width, wider in itertools.pairwise(widths)]
    shapes += [(SIDE * SIDE * widths[-1], HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, CLASSES)]

    def layer(shape: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scale = np.sqrt(2 / np.prod(shape[:-1]))
        return (scale * rng.normal(size=shape)).astype(np.float32), rng.normal(size=shape[-1]).astype(np.float32)

    return dict(zip([*NAMES, *DENSE], map(layer, shapes), strict=True))


def _saved(weights: Weights, file: Path, naming: Naming = NAMINGS["keras 1"]) -> Path:
    with h5py.File(file, "w") as content:
        for layer, arrays in weights.items():
            for kind, values in zip(("kernel", "bias"), arrays, strict=True):
                content[naming(layer, kind)] = values
        content.create_group("block1_pool")
        content["optimizer_weights/Adam/block1_conv1/kernel/m:0"] = 0
    return file


def _narrow(weights: object = None, num_classes: int = CLASSES) -> nn.Module:
    """The architecture of torchvision at the widths above."""
    stages = [layer for stage in WIDTHS for layer in (*stage, "M")]
    net: nn.Module = VGG(make_layers(stages), num_classes, init_weights=False)
    net.classifier = nn.Sequential(
        nn.Linear(SIDE * SIDE * WIDTHS[-1][-1], HIDDEN), nn.ReLU(), nn.Dropout(),
        nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(),
        nn.Linear(HIDDEN, num_classes),
    )  # fmt: skip
    return net


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue's name leads to the narrow architecture."""
    monkeypatch.setattr(keras, "VGG16_KERAS", Keras(network=replace(VGG16_KERAS.network, function=_narrow)))


def _keras(weights: Weights, photo: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits of an RGB photograph (H, W, 3) in 0..255 as Keras computes them: channels last, in the order BGR."""
    maps = photo[..., ::-1] - (103.939, 116.779, 123.68)
    for block, widths in enumerate(WIDTHS, 1):
        for number, _ in enumerate(widths, 1):
            kernel, bias = weights[f"block{block}_conv{number}"]
            height, width = maps.shape[:2]
            padded = np.pad(maps, ((1, 1), (1, 1), (0, 0)))
            total = bias.astype(float)
            for row, col in np.ndindex(3, 3):
                total = total + padded[row : row + height, col : col + width] @ kernel[row, col].astype(float)
            maps = np.maximum(total, 0)
        maps = maps.reshape(maps.shape[0] // 2, 2, maps.shape[1] // 2, 2, -1).max((1, 3))
    hidden = maps.reshape(-1)
    for layer in DENSE[:2]:
        hidden = np.maximum(hidden @ weights[layer][0].astype(float) + weights[layer][1], 0)
    return hidden @ weights["predictions"][0].astype(float) + weights["predictions"][1]


def _close(classifier_logits: torch.Tensor, expected: NDArray[np.float64]) -> None:
    torch.testing.assert_close(classifier_logits.double(), torch.tensor(expected), rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("naming", NAMINGS)
def test_logits_are_keras_by_every_way_of_naming(tmp_path: Path, naming: str) -> None:
    weights = _weights()
    file = _saved(weights, tmp_path / "vgg.h5", NAMINGS[naming])
    loaded = load_classifier("vgg16_keras", str(file), label_space="imagenet", seed=0)
    photo = np.random.default_rng(1).integers(0, 256, (224, 224, 3)).astype(float)
    images = torch.tensor(photo / 255, dtype=torch.float32).permute(2, 0, 1)[None]
    expected = _keras(weights, photo)
    assert np.ptp(expected) > 1
    _close(loaded.module(loaded.normalised(images))[0], expected)
    assert (loaded.weights, loaded.title) == ("vgg.h5", "vgg16_keras (vgg.h5)")
    assert (loaded.size, loaded.label_space) == (224, "")


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("suffix", [".pt", ".npz"])
def test_torchvisions_keys_are_taken_for_blue_green_red(tmp_path: Path, suffix: str) -> None:
    net = _narrow().eval()
    state = net.state_dict()
    file = tmp_path / f"caffe{suffix}"
    if suffix == ".npz":
        np.savez(file, **{key: tensor.numpy() for key, tensor in state.items()})
    else:
        torch.save(state, file)
    loaded = load_classifier("vgg16_keras", str(file), label_space="", seed=0)
    images = torch.rand(2, 3, 224, 224)
    caffe = 255 * images.flip(1) - torch.tensor((103.939, 116.779, 123.68)).view(3, 1, 1)
    torch.testing.assert_close(loaded.module(loaded.normalised(images)), net(caffe), rtol=1e-4, atol=1e-4)


def test_zero_is_the_mean_colour_and_black_its_negative() -> None:
    caffe = keras.MEAN, keras.STD
    assert [255 * value for value in caffe[0]] == pytest.approx([123.68, 116.779, 103.939])
    assert [-mean / std for mean, std in zip(*caffe, strict=True)] == pytest.approx([-123.68, -116.779, -103.939])


def test_half_and_double_precision_become_float32(tmp_path: Path) -> None:
    whole = _weights()
    expected = keras_state(_saved(whole, tmp_path / "a.h5"))
    doubled = {layer: (kernel.astype(float), bias.astype(float)) for layer, (kernel, bias) in whole.items()}
    read = keras_state(_saved(doubled, tmp_path / "b.h5"))
    assert all(torch.equal(read[key], expected[key]) and read[key].dtype == torch.float32 for key in expected)


@pytest.mark.parametrize("weights", ["auto", "IMAGENET1K_V1", "scenes"])
def test_weights_that_no_one_publishes_are_asked_for_as_a_file(weights: str) -> None:
    message = {
        "auto": r"vgg16_keras takes its weights from a file: pass Keras' vgg16_weights_tf\S+\.h5 as --weights",
        "IMAGENET1K_V1": "vgg16_keras has no published weights: pass a file",
        "scenes": "vgg16_keras has no embedded weights",
    }
    with pytest.raises(BadConfig, match=message[weights]):
        load_classifier("vgg16_keras", weights, label_space="scenes", seed=0)


@pytest.mark.parametrize("name", ["vgg.h5", "vgg.hdf5", "vgg.keras"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_keras_file_is_refused_for_every_other_model(tmp_path: Path, name: str, exists: bool) -> None:
    file = tmp_path / name
    if exists:
        _saved(_weights(), file)
    with pytest.raises(BadWeights, match=rf"{name} is a file of Keras, which only vgg16_keras reads: vgg16 takes \.pt"):
        load_classifier("vgg16", str(file), label_space="imagenet", seed=0)


def test_a_missing_keras_file_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"no weight file .*vgg\.h5"):
        load_classifier("vgg16_keras", str(tmp_path / "vgg.h5"), label_space="imagenet", seed=0)


def test_a_file_without_the_dense_layers_is_told_what_it_lacks(tmp_path: Path) -> None:
    weights = {layer: arrays for layer, arrays in _weights().items() if layer in NAMES}
    with pytest.raises(
        BadWeights, match=r"lacks fc1 kernel, fc1 bias, fc2 kernel.*: it holds block1_conv1/block1_conv1_"
    ):
        keras_state(_saved(weights, tmp_path / "notop.h5"))


def test_a_file_of_another_network_is_told_what_it_holds(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as content:
        content["conv2d/kernel:0"] = 0
    with pytest.raises(BadWeights, match=r"a\.h5 lacks block1_conv1 kernel, .*, \.\.\.: it holds conv2d/kernel:0$"):
        keras_state(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w"):
        pass
    with pytest.raises(BadWeights, match=r"it holds nothing$"):
        keras_state(tmp_path / "a.h5")


def test_a_layer_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with h5py.File(_saved(_weights(), tmp_path / "a.h5"), "r+") as content:
        content["copy/fc2/kernel:0"] = 0
    with pytest.raises(BadWeights, match=r"a\.h5 has more than one fc2 kernel: it holds"):
        keras_state(tmp_path / "a.h5")


@pytest.mark.parametrize("kept", [0, 5, 700, -100])
def test_a_truncated_keras_file_is_one_clear_line(tmp_path: Path, kept: int) -> None:
    file = _saved(_weights(), tmp_path / "a.h5")
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(BadWeights, match=r"^cannot read weights from .*a\.h5: ") as error:
        keras_state(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        ("block3_conv2", (3, 3), r"the kernel of block3_conv2 has the shape \(3, 3\)"),
        ("fc1", (7, 7, 6, 8), r"the kernel of fc1 has the shape"),
        ("fc1", (50 * 6, 8), "the 300 inputs of fc1 are no square map of 6 channels"),
    ],
)
def test_a_kernel_of_another_kind_is_named(tmp_path: Path, layer: str, shape: tuple[int, ...], message: str) -> None:
    weights = _weights()
    weights[layer] = np.zeros(shape, np.float32), weights[layer][1]
    with pytest.raises(BadWeights, match=message):
        keras_state(_saved(weights, tmp_path / "a.h5"))


def test_a_narrow_file_does_not_fit_the_real_network(tmp_path: Path) -> None:
    file = _saved(_weights(), tmp_path / "a.h5")
    with pytest.raises(BadWeights, match=r"a\.h5 as weights of vgg16_keras does not fit: \d+ of another shape"):
        load_classifier("vgg16_keras", str(file), label_space="", seed=0)


def test_the_real_network_is_torchvisions_vgg16() -> None:
    with torch.device("meta"):
        net = VGG16_KERAS.network.build(1000)
        theirs = VGG16.network.build(1000)
    shapes = {key: tensor.shape for key, tensor in net.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert {f"{name}.{kind}" for name in keras._LAYERS.values() for kind in ("weight", "bias")} == shapes.keys()


def test_an_array_that_is_declared_and_not_written_is_lacking(tmp_path: Path) -> None:
    with h5py.File(_saved(_weights(), tmp_path / "a.h5"), "r+") as content:
        name = next(path for path in _paths(content) if "fc1" in path and path.endswith("W_1:0"))
        del content[name]
        content.create_dataset(name, shape=(10**8, 10**4), dtype="f4")
    with pytest.raises(BadWeights, match="lacks fc1 kernel"):
        keras_state(tmp_path / "a.h5")


def _paths(content: h5py.File) -> list[str]:
    paths: list[str] = []
    content.visit(paths.append)
    return paths

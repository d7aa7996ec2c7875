from importlib import resources

import pytest
import torch
from torch import nn
from torchvision.models import resnet50, vgg16
from torchvision.models.resnet import Bottleneck

from rapbench.core.types import Classifier
from rapbench.datasets.scenes import CLASSES, Scenes
from rapbench.models import narrow
from rapbench.models.narrow import NARROW, narrow_module

ORIGINALS = {"vgg16": vgg16, "resnet50": resnet50}
VAL_IMAGES = 240


@pytest.fixture(scope="module")
def shown():
    """The first validation images (N, 3, 224, 224) and their labels."""
    samples = [Scenes()[i] for i in range(VAL_IMAGES)]
    return torch.stack([sample.image for sample in samples]), torch.tensor([sample.label for sample in samples])


def original(name: str) -> nn.Module:
    with torch.device("meta"):
        return ORIGINALS[name](weights=None)


@pytest.mark.parametrize("name", NARROW)
def test_module_names_and_state_dict_keys_are_torchvisions(name):
    narrow, wide = NARROW[name].builder(12), original(name)
    assert list(narrow.state_dict()) == list(wide.state_dict())
    kinds = {key: type(module) for key, module in wide.named_modules() if not list(module.children())}
    ours = {key: type(module) for key, module in narrow.named_modules() if not list(module.children())}
    ours.pop("flatten", None)
    assert ours == kinds


@pytest.mark.parametrize(("name", "divisor"), [("vgg16", 8), ("resnet50", 4)])
def test_every_convolution_is_the_originals_with_fewer_channels(name, divisor):
    def convolutions(net):
        return [module for module in net.modules() if isinstance(module, nn.Conv2d)]

    pairs = list(zip(convolutions(NARROW[name].builder(12)), convolutions(original(name)), strict=True))
    for ours, theirs in pairs:
        assert ours.out_channels * divisor == theirs.out_channels
        assert (ours.kernel_size, ours.stride, ours.padding) == (theirs.kernel_size, theirs.stride, theirs.padding)
        assert (ours.bias is None) == (theirs.bias is None)


def test_vgg_has_thirteen_convolutions_and_three_dense_layers():
    modules = list(narrow_module("vgg16").modules())
    assert sum(isinstance(module, nn.Conv2d) for module in modules) == 13
    assert sum(isinstance(module, nn.Linear) for module in modules) == 3
    assert not any(isinstance(module, nn.BatchNorm2d) for module in modules)


def test_resnet_has_three_four_six_and_three_bottlenecks():
    net = narrow_module("resnet50")
    blocks = [getattr(net, f"layer{stage}") for stage in (1, 2, 3, 4)]
    assert [len(stage) for stage in blocks] == [3, 4, 6, 3]
    assert all(isinstance(block, Bottleneck) for stage in blocks for block in stage)


def test_the_outputs_mean_the_data_sets_classes():
    assert narrow.CLASSES == CLASSES


@pytest.mark.parametrize("name", NARROW)
def test_weight_files_are_small_and_have_a_card(name):
    folder = resources.files("rapbench.models") / "weights"
    assert len((folder / f"{name}_scenes.safetensors").read_bytes()) <= 6e6
    assert NARROW[name].title in (folder / "scenes.md").read_text()


@pytest.mark.parametrize("name", NARROW)
def test_the_net_comes_frozen_in_evaluation_mode_with_float32_weights(name):
    net = narrow_module(name)
    assert not any(module.training for module in net.modules())
    assert {value.dtype for value in net.parameters()} == {torch.float32}
    again = narrow_module(name).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in net.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", NARROW)
def test_the_embedded_weights_know_the_scenes(name, shown):
    images, labels = shown
    classifier = Classifier(
        name=name, title="", weights="scenes", digest="", module=narrow_module(name), label_space="scenes"
    )
    with torch.inference_mode():
        logits = torch.cat([classifier.module(classifier.normalised(part)) for part in images.split(40)])
    assert logits.shape == (VAL_IMAGES, len(CLASSES))
    score, predicted = logits.max(1)
    assert (predicted == labels).double().mean() >= 0.95
    assert score.min() > 0

from collections.abc import Callable, Iterable
from importlib import resources

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, resnet50, vgg16, vit_b_16
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


def on_meta(build: Callable[..., nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build(weights=None)


def original(name: str) -> nn.Module:
    return on_meta(ORIGINALS[name])


def kinds(net: nn.Module) -> dict[str, type[nn.Module]]:
    """Class of each module without children, by name."""
    return {key: type(module) for key, module in net.named_modules() if not list(module.children())}


@pytest.mark.parametrize("name", ORIGINALS)
def test_module_names_and_state_dict_keys_are_torchvisions(name):
    narrow, wide = NARROW[name].builder(12), original(name)
    assert list(narrow.state_dict()) == list(wide.state_dict())
    ours = kinds(narrow)
    ours.pop("flatten", None)
    assert ours == kinds(wide)


def test_the_vit_is_torchvisions_with_fewer_blocks_and_a_stem_of_convolutions():
    narrow, wide = NARROW["vit_b_16"].builder(12), on_meta(vit_b_16)

    def rest(names: Iterable[str]) -> set[str]:
        return {name for name in names if not name.startswith("conv_proj")}

    blocks = tuple(f"encoder.layers.encoder_layer_{i}." for i in range(6, 12))
    assert rest(narrow.state_dict()) == {key for key in rest(wide.state_dict()) if not key.startswith(blocks)}
    ours, theirs = kinds(narrow), kinds(wide)
    assert all(ours[name] is theirs[name] for name in rest(ours))
    stem = [layer for layer in narrow.conv_proj.modules() if isinstance(layer, nn.Conv2d)]
    assert [(conv.kernel_size, conv.stride) for conv in stem] == [((3, 3), (2, 2))] * 4 + [((1, 1), (1, 1))]


def test_the_vit_attends_over_a_class_token_and_as_many_patches_as_the_original():
    narrow, wide = narrow_module("vit_b_16"), on_meta(vit_b_16)
    assert isinstance(narrow, VisionTransformer)
    assert narrow.encoder.pos_embedding.shape[1] == wide.encoder.pos_embedding.shape[1] == 1 + 14 * 14
    attentions = [layer for layer in narrow.modules() if isinstance(layer, nn.MultiheadAttention)]
    assert [(each.embed_dim, each.num_heads) for each in attentions] == [(128, 4)] * 6
    with torch.no_grad():
        assert narrow.conv_proj(torch.zeros(1, 3, 224, 224)).shape == (1, 128, 14, 14)


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
    assert len((folder / f"{name}_scenes.safetensors").read_bytes()) <= 4e6
    card = (folder / "scenes.md").read_text()
    assert NARROW[name].title in card
    assert f"{sum(weight.numel() for weight in narrow_module(name).parameters()):,}" in card


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

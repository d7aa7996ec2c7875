"""Families of networks, one file each. This file names them and imports none.

A family has a `size`, says what its `default_weights` are and which are `absent`, and loads a `Classifier`: see
`core.types.Family`. From outside come those of timm, `timm:NAME`, and a user's own, `module:attribute`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rapbench.core.catalogue import Catalogue, Entry, parse_call, placeless
from rapbench.core.errors import BadConfig
from rapbench.core.outside import outside_module
from rapbench.core.sources import source_digest

if TYPE_CHECKING:
    from rapbench.core.types import Classifier, Family, Training

_TIMM = "timm:"
_NAMES: dict[str, str | Entry] = {
    "alexnet": "AlexNet (Krizhevsky et al. 2012)",
    "vgg11": "VGG, 11 layers (Simonyan and Zisserman 2015)",
    "vgg13": "VGG, 13 layers (Simonyan and Zisserman 2015)",
    "vgg16": Entry(
        "rapbench.models.narrow:VGG16", "VGG, 16 layers (Simonyan and Zisserman 2015); embedded weights for scenes"
    ),
    "vgg19": "VGG, 19 layers (Simonyan and Zisserman 2015)",
    "vgg11_bn": "VGG, 11 layers, batch norm (Simonyan and Zisserman 2015)",
    "vgg13_bn": "VGG, 13 layers, batch norm (Simonyan and Zisserman 2015)",
    "vgg16_bn": "VGG, 16 layers, batch norm (Simonyan and Zisserman 2015)",
    "vgg19_bn": "VGG, 19 layers, batch norm (Simonyan and Zisserman 2015)",
    "resnet18": "ResNet, 18 layers (He et al. 2016)",
    "resnet34": "ResNet, 34 layers (He et al. 2016)",
    "resnet50": Entry(
        "rapbench.models.narrow:RESNET50", "ResNet, 50 layers (He et al. 2016); embedded weights for scenes"
    ),
    "resnet101": "ResNet, 101 layers (He et al. 2016)",
    "resnet152": "ResNet, 152 layers (He et al. 2016)",
    "resnext50_32x4d": "ResNeXt, 50 layers (Xie et al. 2017)",
    "resnext101_32x8d": "ResNeXt, 101 layers (Xie et al. 2017)",
    "resnext101_64x4d": "ResNeXt, 101 layers, more and narrower groups (Xie et al. 2017)",
    "wide_resnet50_2": "Wide ResNet, 50 layers (Zagoruyko and Komodakis 2016)",
    "wide_resnet101_2": "Wide ResNet, 101 layers (Zagoruyko and Komodakis 2016)",
    "squeezenet1_0": "SqueezeNet 1.0 (Iandola et al. 2016)",
    "squeezenet1_1": "SqueezeNet 1.1 (Iandola et al. 2016)",
    "densenet121": "DenseNet, 121 layers (Huang et al. 2017)",
    "densenet161": "DenseNet, 161 layers (Huang et al. 2017)",
    "densenet169": "DenseNet, 169 layers (Huang et al. 2017)",
    "densenet201": "DenseNet, 201 layers (Huang et al. 2017)",
    "googlenet": Entry("rapbench.models.zoo:GOOGLENET", "GoogLeNet (Szegedy et al. 2015)"),
    "inception_v3": Entry("rapbench.models.zoo:INCEPTION_V3", "Inception v3 (Szegedy et al. 2016)"),
    "mobilenet_v2": "MobileNet v2 (Sandler et al. 2018)",
    "mnasnet0_5": "MnasNet, width 0.5 (Tan et al. 2019)",
    "mnasnet0_75": "MnasNet, width 0.75 (Tan et al. 2019)",
    "mnasnet1_0": "MnasNet, width 1.0 (Tan et al. 2019)",
    "mnasnet1_3": "MnasNet, width 1.3 (Tan et al. 2019)",
    "shufflenet_v2_x0_5": "ShuffleNet v2, width 0.5 (Ma et al. 2018)",
    "shufflenet_v2_x1_0": "ShuffleNet v2, width 1.0 (Ma et al. 2018)",
    "shufflenet_v2_x1_5": "ShuffleNet v2, width 1.5 (Ma et al. 2018)",
    "shufflenet_v2_x2_0": "ShuffleNet v2, width 2.0 (Ma et al. 2018)",
    "mobilenet_v3_small": "MobileNet v3, small (Howard et al. 2019)",
    "mobilenet_v3_large": "MobileNet v3, large (Howard et al. 2019)",
    **{f"efficientnet_b{n}": f"EfficientNet B{n} (Tan and Le 2019)" for n in range(8)},
    **{f"efficientnet_v2_{size}": f"EfficientNet v2, {size.upper()} (Tan and Le 2021)" for size in "sml"},
    **{
        f"regnet_{kind}_{flops}": f"RegNet {kind.upper()}, {flops.replace('_', '.').upper()} (Radosavovic et al. 2020)"
        for kind in "xy"
        for flops in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")
    },
    "regnet_y_128gf": "RegNet Y, 128GF (Radosavovic et al. 2020)",
    **{f"convnext_{size}": f"ConvNeXt, {size} (Liu et al. 2022)" for size in ("tiny", "small", "base", "large")},
    "vit_b_16": Entry(
        "rapbench.models.narrow:VIT_B_16",
        "ViT, base, patches of 16 (Dosovitskiy et al. 2021); embedded weights for scenes",
    ),
    "vit_b_32": "ViT, base, patches of 32 (Dosovitskiy et al. 2021)",
    "vit_l_16": "ViT, large, patches of 16 (Dosovitskiy et al. 2021)",
    "vit_l_32": "ViT, large, patches of 32 (Dosovitskiy et al. 2021)",
    "vit_h_14": "ViT, huge, patches of 14 (Dosovitskiy et al. 2021)",
    **{f"swin_{size}": f"Swin, {size.upper()} (Liu et al. 2021)" for size in "tsb"},
    **{f"swin_v2_{size}": f"Swin v2, {size.upper()} (Liu et al. 2022)" for size in "tsb"},
    "maxvit_t": "MaxViT, tiny (Tu et al. 2022)",
    "mnist_cnn": Entry(
        "rapbench.models.digits:MNIST_CNN", "the digit network of Shrikumar et al. 2017; trained when first needed"
    ),
    "vgg16_keras": Entry(
        "rapbench.models.keras:VGG16_KERAS",
        "VGG-16 with its authors' weights and preprocessing, as Caffe and Keras ship it; needs --weights FILE",
    ),
}
"""What each network is, with where its name leads if that is more than a function of torchvision's."""

MODELS = Catalogue(
    "model",
    {
        name: entry if isinstance(entry, Entry) else Entry(f"torchvision.models:{name}", entry)
        for name, entry in _NAMES.items()
    },
)


def family(name: str) -> Family:
    """The family that a name of MODELS leads to, `timm:NAME`, or code from outside.

    From outside are a family or a function that builds a network, in a module or a file: `module:attribute`, or
    `file.py:attribute`, in brackets the parameters of a function.

    Raises:
        UnknownName: no such name.
        DataMissing: no such file.
        BadConfig: what it leads to is neither, or parameters are wrong.
    """
    from rapbench.models.own import own_family
    from rapbench.models.zoo import architecture

    call = parse_call(name)
    thing = _of_timm(call.name) if call.name.startswith(_TIMM) else MODELS.load(call.name)
    if ":" in call.name and not _is_family(thing):
        return own_family(placeless(name), call, thing, outside_module(MODELS.kind, call.name))
    if call.parameters:
        raise BadConfig(f"{call.name} takes no parameters: leave out the brackets of {name}")
    found: Family = thing if _is_family(thing) else architecture(call.name, thing)
    return found


def _of_timm(name: str) -> Any:
    from rapbench.models.timm import timm_family

    return timm_family(name)


def _is_family(thing: object) -> bool:
    from rapbench.core.types import Family

    return isinstance(thing, Family) and not isinstance(thing, type)


def load_classifier(
    name: str, weights: str, *, label_space: str, seed: int, training: Training | None = None
) -> Classifier:
    """The classifier of that name and those weights, in evaluation mode and without gradients of weights.

    Args:
        name: as `family` takes it.
        weights: 'auto', 'random', a name of published weights, or a weight file; 'scenes' where some are embedded,
            'trained' where the network is trained on the data set's own images when first needed.
        label_space: of the data set it is to classify, which decides what 'auto' is.
        seed: of random weights.
        training: what the data set offers to train on.

    Raises:
        UnknownName: no such network, or no such weights of it.
        BadConfig: it has no such kind of weights, nothing to be trained on, or code from outside makes no classifier.
        DataMissing: a weight file is not there, or cannot be downloaded.
        BadWeights: a weight file is unreadable or does not fit, or weights are not finite.
    """
    from rapbench.models.building import refuse_no_classifier
    from rapbench.models.checkpoint import refuse_not_finite, state_digest

    found, called = family(name), placeless(name)
    weights = found.default_weights(label_space) if weights == "auto" else weights
    loaded = found.load(weights, seed=seed, training=training)
    classifier = replace(
        loaded,
        name=called,
        title=loaded.title or f"{called} ({loaded.weights})",
        module=loaded.module.eval().requires_grad_(requires_grad=False),
        source=loaded.source or _source(name),
        size=found.size,
    )
    refuse_not_finite(classifier.module, f"weights {loaded.weights} of {called}")
    if ":" in name:
        refuse_no_classifier(classifier)
    return replace(classifier, digest=state_digest(classifier.module))


def _source(name: str) -> str | None:
    """Digest of the code that a network from outside comes from; None for those of the package."""
    name = parse_call(name).name
    return source_digest(outside_module(MODELS.kind, name)) if ":" in name else None

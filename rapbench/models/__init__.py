"""Classifiers: torchvision's architectures, two narrow ones with embedded weights, Keras' VGG-16. Imports none."""

from rapbench.core.catalogue import Catalogue, Entry

_SUMMARIES = {
    "alexnet": "AlexNet (Krizhevsky et al. 2012)",
    "vgg11": "VGG, 11 layers (Simonyan and Zisserman 2015)",
    "vgg13": "VGG, 13 layers (Simonyan and Zisserman 2015)",
    "vgg16": "VGG, 16 layers (Simonyan and Zisserman 2015); embedded weights for scenes",
    "vgg19": "VGG, 19 layers (Simonyan and Zisserman 2015)",
    "vgg11_bn": "VGG, 11 layers, batch norm (Simonyan and Zisserman 2015)",
    "vgg13_bn": "VGG, 13 layers, batch norm (Simonyan and Zisserman 2015)",
    "vgg16_bn": "VGG, 16 layers, batch norm (Simonyan and Zisserman 2015)",
    "vgg19_bn": "VGG, 19 layers, batch norm (Simonyan and Zisserman 2015)",
    "resnet18": "ResNet, 18 layers (He et al. 2016)",
    "resnet34": "ResNet, 34 layers (He et al. 2016)",
    "resnet50": "ResNet, 50 layers (He et al. 2016); embedded weights for scenes",
    "resnet101": "ResNet, 101 layers (He et al. 2016)",
    "resnet152": "ResNet, 152 layers (He et al. 2016)",
    "resnext50_32x4d": "ResNeXt, 50 layers (Xie et al. 2017)",
    "resnext101_32x8d": "ResNeXt, 101 layers (Xie et al. 2017)",
    "wide_resnet50_2": "Wide ResNet, 50 layers (Zagoruyko and Komodakis 2016)",
    "wide_resnet101_2": "Wide ResNet, 101 layers (Zagoruyko and Komodakis 2016)",
    "squeezenet1_0": "SqueezeNet 1.0 (Iandola et al. 2016)",
    "squeezenet1_1": "SqueezeNet 1.1 (Iandola et al. 2016)",
    "densenet121": "DenseNet, 121 layers (Huang et al. 2017)",
    "densenet161": "DenseNet, 161 layers (Huang et al. 2017)",
    "densenet169": "DenseNet, 169 layers (Huang et al. 2017)",
    "densenet201": "DenseNet, 201 layers (Huang et al. 2017)",
    "googlenet": "GoogLeNet (Szegedy et al. 2015)",
    "inception_v3": "Inception v3 (Szegedy et al. 2016)",
    "mobilenet_v2": "MobileNet v2 (Sandler et al. 2018)",
    "mnasnet0_5": "MnasNet, width 0.5 (Tan et al. 2019)",
    "mnasnet0_75": "MnasNet, width 0.75 (Tan et al. 2019)",
    "mnasnet1_0": "MnasNet, width 1.0 (Tan et al. 2019)",
    "mnasnet1_3": "MnasNet, width 1.3 (Tan et al. 2019)",
    "shufflenet_v2_x0_5": "ShuffleNet v2, width 0.5 (Ma et al. 2018)",
    "shufflenet_v2_x1_0": "ShuffleNet v2, width 1.0 (Ma et al. 2018)",
    "shufflenet_v2_x1_5": "ShuffleNet v2, width 1.5 (Ma et al. 2018)",
    "shufflenet_v2_x2_0": "ShuffleNet v2, width 2.0 (Ma et al. 2018)",
}

MODELS = Catalogue(
    "model",
    {name: Entry(f"torchvision.models:{name}", summary) for name, summary in _SUMMARIES.items()}
    | {
        "mnist_cnn": Entry(
            "rapbench.models.digits:mnist_cnn",
            "the digit network of Shrikumar et al. 2017; trained when first needed",
        ),
        "vgg16_keras": Entry(
            "rapbench.models.keras:vgg16_keras",
            "VGG-16 with its authors' weights and preprocessing, as Caffe and Keras ship it; needs --weights FILE",
        ),
    },
)

"""Labelled image sets, one file a set. This file names them and imports none."""

from rapbench.core.catalogue import Catalogue, Entry

DATASETS = Catalogue(
    "dataset",
    {
        "scenes": Entry(
            "rapbench.datasets.scenes:Scenes", "generated images of twelve classes: boxes, masks, no files"
        ),
        "voc": Entry("rapbench.datasets.voc:Voc", "Pascal VOC 2012 segmentation val, 1,449 photographs: boxes, masks"),
        "mnist": Entry("rapbench.datasets.mnist:Mnist", "MNIST test, 10,000 handwritten digits: labels"),
        "digits": Entry("rapbench.datasets.digits:Digits", "500 real handwritten digits, enlarged: labels, no files"),
        "imagenet": Entry("rapbench.datasets.imagenet:ImageNet", "ILSVRC2012 val, 50,000 photographs: labels, boxes"),
        "imagenet_segmentation": Entry(
            "rapbench.datasets.imagenet_segmentation:ImageNetSegmentation",
            "ImageNet-Segmentation, 4,276 photographs of 445 classes: masks",
        ),
        "folder": Entry("rapbench.datasets.folder:Folder", "pictures of your own, with masks, boxes and labels"),
        "grid": Entry(
            "rapbench.datasets.grid:Grid", "grids of labelled photographs of your own, each of another class"
        ),
        "coco": Entry("rapbench.datasets.coco:Coco", "photographs with instances in COCO's format: boxes, masks"),
    },
)

"""Scores of explanations, one file a metric. This file names them and imports none."""

from rapbench.core.catalogue import Catalogue, Entry

METRICS = Catalogue(
    "metric",
    {
        "outside_inside": Entry(
            "rapbench.metrics.outside_inside:OutsideInside",
            "relevance outside against inside the object's boxes (Nam et al. 2020, Eq. 11); lower is better",
        ),
        "segmentation": Entry(
            "rapbench.metrics.segmentation:Segmentation",
            "the thresholded map against the object's mask: pixel accuracy and IoU in percent; higher is better",
        ),
        "pointing_game": Entry(
            "rapbench.metrics.pointing_game:PointingGame",
            "percent of images whose most relevant pixel is on the object or near it (Zhang et al. 2016); "
            "higher is better",
        ),
        "energy": Entry(
            "rapbench.metrics.energy:Energy",
            "percent of relevance, and of the most relevant pixels, on the object (EBPG, RMA, RRA); higher is better",
        ),
        "grid_pointing": Entry(
            "rapbench.metrics.grid_pointing:GridPointing",
            "percent of a class's relevance on its own picture in a grid of pictures (GridPG); higher is better",
        ),
        "perturbation": Entry(
            "rapbench.metrics.perturbation:Perturbation",
            "the prediction's drop as pixels are erased (Samek et al. 2017): least relevant first, lower is better; "
            "most relevant first, higher is better",
        ),
        "deletion_insertion": Entry(
            "rapbench.metrics.deletion_insertion:DeletionInsertion",
            "area under the probability as the most relevant pixels are deleted, lower is better, and inserted, higher "
            "is better (Petsiuk et al. 2018)",
        ),
        "fraction_perturbation": Entry(
            "rapbench.metrics.fraction_perturbation:FractionPerturbation",
            "area under top-1 accuracy as tenths of the pixels are erased (Chefer et al. 2021): positive, most "
            "relevant first, lower is better; negative, higher is better",
        ),
        "degradation": Entry(
            "rapbench.metrics.degradation:Degradation",
            "the prediction's drop as patches are replaced by their mean (Kindermans et al. 2018); higher is better",
        ),
        "digit_conversion": Entry(
            "rapbench.metrics.digit_conversion:DigitConversion",
            "log-odds lost by erasing what speaks for one digit, not another (Shrikumar et al. 2017); higher is better",
        ),
        "road": Entry(
            "rapbench.metrics.road:Road",
            "the prediction after imputed removal (Rong et al. 2022): most relevant first, lower is better; least "
            "relevant first, higher is better",
        ),
        "single_deletion": Entry(
            "rapbench.metrics.single_deletion:SingleDeletion",
            "rank correlation of cells' relevance with what deleting each takes (Hesse et al. 2024); higher is better",
        ),
        "saco": Entry(
            "rapbench.metrics.saco:Saco",
            "whether more relevant groups of pixels matter more (Wu et al. 2024); higher is better",
        ),
        "sensitivity_n": Entry(
            "rapbench.metrics.sensitivity_n:SensitivityN",
            "correlation of n pixels' relevance with what erasing them takes (Ancona et al. 2018); higher is better",
        ),
        "infidelity": Entry(
            "rapbench.metrics.infidelity:Infidelity",
            "squared error of what relevance says of random perturbations (Yeh et al. 2019); lower is better",
        ),
        "average_drop": Entry(
            "rapbench.metrics.average_drop:AverageDrop",
            "drop of the probability on the image times its map (Chattopadhay et al. 2018), lower is better; percent "
            "of images where it grows, higher is better",
        ),
        "randomisation": Entry(
            "rapbench.metrics.randomisation:Randomisation",
            "likeness of maps before and after layers are randomised (Adebayo et al. 2018), lower is better; rise of "
            "entropy, higher is better",
        ),
        "guards": Entry(
            "rapbench.metrics.guards:Guards",
            "conservation, finiteness, constant maps and ties; lower is better",
        ),
    },
)


def is_guard(name: str) -> bool:
    """Whether a metric of that name checks maps rather than scores them."""
    return name == "guards"

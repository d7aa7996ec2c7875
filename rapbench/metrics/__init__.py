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
        "perturbation": Entry(
            "rapbench.metrics.perturbation:Perturbation",
            "the prediction's drop as pixels are erased (Samek et al. 2017): least relevant first, lower is better; "
            "most relevant first, higher is better",
        ),
        "degradation": Entry(
            "rapbench.metrics.degradation:Degradation",
            "the prediction's drop as patches are replaced by their mean (Kindermans et al. 2018); higher is better",
        ),
        "digit_conversion": Entry(
            "rapbench.metrics.digit_conversion:DigitConversion",
            "log-odds lost by erasing what speaks for one digit, not another (Shrikumar et al. 2017); higher is better",
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

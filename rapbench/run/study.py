"""What is measured of a network itself, not of single explanations. This file names the studies and imports none."""

from rapbench.core.catalogue import Catalogue, Entry

STUDIES = Catalogue(
    "study",
    {
        "signal_quality": Entry(
            "rapbench.papers.pattern2017.signal_quality:SignalQuality",
            "how much of each unit's output signal estimators leave in the distractor (Kindermans et al. 2018)",
        ),
    },
)

"""What is measured of a network itself, not of explanations one by one. This file names the studies and imports none.

A study is a function of an experiment and of how to watch its progress. It writes rows into the folder of the results
that has its name, and returns where.
"""

from rapbench.core.catalogue import Catalogue, Entry

STUDIES = Catalogue(
    "study",
    {
        "signal_quality": Entry(
            "rapbench.papers.pattern2017.signal_quality:store",
            "how much of each unit's output signal estimators leave in the distractor (Kindermans et al. 2018)",
        ),
    },
)

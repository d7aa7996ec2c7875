"""Papers, a folder each: its card, its figures, its studies. This file names them and imports none."""

from rapbench.core.catalogue import Catalogue, Entry

PAPERS = Catalogue(
    "paper",
    {
        "rap2020": Entry("rapbench.papers.rap2020:PAPER", "Relative Attributing Propagation (Nam et al. 2020)"),
        "pattern2017": Entry(
            "rapbench.papers.pattern2017:PAPER", "PatternNet and PatternAttribution (Kindermans et al. 2018)"
        ),
        "deeplift2017": Entry("rapbench.papers.deeplift2017:PAPER", "DeepLIFT (Shrikumar et al. 2017)"),
    },
)

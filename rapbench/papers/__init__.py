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
        "rise2018": Entry("rapbench.papers.rise2018:PAPER", "RISE, deletion and insertion (Petsiuk et al. 2018)"),
        "chefer2021": Entry("rapbench.papers.chefer2021:PAPER", "relevance of attention (Chefer et al. 2021, CVPR)"),
        "pointing2018": Entry(
            "rapbench.papers.pointing2018:PAPER", "the pointing game (Zhang et al. 2018, Fong et al. 2019)"
        ),
        "rao2022": Entry("rapbench.papers.rao2022:PAPER", "the grid pointing game (Rao et al. 2022)"),
    },
)

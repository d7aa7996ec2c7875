"""Nam et al. 2020: Relative Attributing Propagation."""

from rapbench.papers.card import Paper

PAPER = Paper.installed(__name__)

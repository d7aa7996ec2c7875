"""Zhang et al. 2018 and Fong et al. 2019: the pointing game."""

from rapbench.papers.card import Paper

PAPER = Paper.installed(__name__)

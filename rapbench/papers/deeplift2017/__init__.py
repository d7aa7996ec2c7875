"""Shrikumar et al. 2017: DeepLIFT."""

from rapbench.papers.card import Paper

PAPER = Paper.installed(__name__)

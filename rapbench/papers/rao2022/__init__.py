"""Rao et al. 2022: the grid pointing game."""

from rapbench.papers.card import Paper

PAPER = Paper.installed(__name__)

"""Petsiuk et al. 2018: Randomized Input Sampling for Explanation."""

from rapbench.papers.card import Paper

PAPER = Paper.installed(__name__)

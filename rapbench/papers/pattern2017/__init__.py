"""Kindermans et al. 2018: PatternNet and PatternAttribution."""

from rapbench.papers.card import Paper

PAPER = Paper.installed(__name__)

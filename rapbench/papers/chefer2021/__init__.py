"""Chefer et al. 2021 (CVPR): relevance of attention in vision transformers."""

from rapbench.papers.card import Paper

PAPER = Paper.installed(__name__)

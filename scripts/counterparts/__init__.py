"""Metrics of captum, Quantus, pytorch-grad-cam and torchmetrics beside those of rapbench that stand for the same."""

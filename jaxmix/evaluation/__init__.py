"""Measures of a trained model, as pure functions of its predictions."""

from jaxmix.evaluation import attacks, calibration, corruptions, embeddings, linearity, ood

__all__ = ["attacks", "calibration", "corruptions", "embeddings", "linearity", "ood"]

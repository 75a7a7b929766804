"""Pairings, which pick partners: (batch, rng) -> the index of every sample's partner.

A pairing that looks at labels also has an option `labels`. Methods and `jaxmix.draw` pass it
their own labels.
"""

from jaxmix.pairings.labelled import other_class, same_class, similar_labels
from jaxmix.pairings.plain import permutation, roll
from jaxmix.pairings.transporting import displacement, squared_distances, transport

__all__ = [
    "displacement",
    "other_class",
    "permutation",
    "roll",
    "same_class",
    "similar_labels",
    "squared_distances",
    "transport",
]

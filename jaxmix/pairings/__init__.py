"""Who is mixed with whom: (batch, rng) -> the index of every sample's partner.

A pairing that looks at labels has an option `labels` besides, which methods and `jaxmix.draw`
fill with those that they are given.
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

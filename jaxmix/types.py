"""Types of batches, labels and the functions that mixing is composed of."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array
from jaxtyping import Bool, Float, Int, Key, PRNGKeyArray, UInt32
import numpy as np

Batch = Any
"""Samples [n, *space, channels], or a pytree of arrays aligned in n, and in space if weights are [n, *space]."""

Labels = Any
"""Float targets [n, ...], or a pytree of them."""

Scalar = float | int | np.number | Array
"""A Python number, or an array of shape (), possibly traced."""

Keys = Key[Array, " n"] | UInt32[Array, "n 2"]
"""JAX keys [n], typed or legacy."""

Space = tuple[int, ...]
"""Lengths of the axes between samples and channels: (h, w) for images."""

FeatureFn = Callable[[Batch], Array]
"""batch -> [n, ...]: features in which a pairing measures distances, or maps that guide a mask."""


class Guide(NamedTuple):
    """The maps that a guided mask reads: each sample's own and its partner's, [n, *space] or coarser."""

    own: Float[Array, "n *places"]
    partner: Float[Array, "n *places"]


MixFn = Callable[[Any, Any, PRNGKeyArray], tuple[Any, Any]]
"""(batch, labels, rng) -> (batch, labels), with all hyperparameters bound."""

PairingFn = Callable[[Any, PRNGKeyArray], Int[Array, " n"]]
"""(batch, rng) -> the index of every sample's partner. A pairing with an option `labels` also receives the labels."""

RatioFn = Callable[[int, PRNGKeyArray], Float[Array, " n"]]
"""(n, rng) -> each sample's own share, [n], float32 in [0, 1]."""

MaskFn = Callable[[Space, Float[Array, " n"], PRNGKeyArray], Float[Array, "n *space"] | Bool[Array, "n *space"]]
"""(space, ratio, rng) -> the sample's own weight at every place, [n] or [n, *space]: float32 in [0, 1], or bool.

A mask with an option `guide` also receives a `Guide`, if the draw has one.
"""

AttentionFn = Callable[[Float[Array, "m r d"]], Float[Array, "m r"]]
"""features -> a nonnegative weight for each position of each example."""

AssignmentFn = Callable[[Float[Array, "g k k"]], Int[Array, "g k"]]
"""Costs of g assignment problems -> the column that each row is assigned to: g permutations."""

"""The types of the parts that mixing is made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array
from jaxtyping import Bool, Float, Int, Key, PRNGKeyArray, UInt32
import numpy as np

Batch = Any
"""Samples [n, *space, channels], or a pytree of arrays aligned in n, and in space where a weight has places."""

Labels = Any
"""Float targets [n, ...], or a pytree of them."""

Scalar = float | int | np.number | Array
"""A number known to Python, or a (possibly traced) array of shape ()."""

Keys = Key[Array, " n"] | UInt32[Array, "n 2"]
"""JAX keys [n], typed or legacy."""

Space = tuple[int, ...]
"""What lies between the sample axis and the channels: (h, w) for images."""

FeatureFn = Callable[[Batch], Array]
"""batch -> [n, ...]: what a pairing measures instead of the batch's lead leaf, or a guided mask looks at."""


class Guide(NamedTuple):
    """What a guided mask looks at: a map of every sample, [n, *space] or coarser, and its partner's."""

    own: Float[Array, "n *places"]
    partner: Float[Array, "n *places"]


MixFn = Callable[[Any, Any, PRNGKeyArray], tuple[Any, Any]]
"""(batch, labels, rng) -> (batch, labels), all hyperparameters bound."""

PairingFn = Callable[[Any, PRNGKeyArray], Int[Array, " n"]]
"""(batch, rng) -> the index of every sample's partner; one that has an option `labels` is given them."""

RatioFn = Callable[[int, PRNGKeyArray], Float[Array, " n"]]
"""(n, rng) -> n shares of the sample itself, in [0, 1], float32."""

MaskFn = Callable[[Space, Float[Array, " n"], PRNGKeyArray], Float[Array, "n *space"] | Bool[Array, "n *space"]]
"""(space, ratio, rng) -> the sample's own weight at every place, [n] or [n, *space]: float32 in [0, 1], or bool.

One that has an option `guide` is given a Guide, where there is one.
"""

AttentionFn = Callable[[Float[Array, "m r d"]], Float[Array, "m r"]]
"""features -> how much each position of an example counts, not negative."""

AssignmentFn = Callable[[Float[Array, "g k k"]], Int[Array, "g k"]]
"""Costs of g assignment problems -> for each row its column: permutations."""

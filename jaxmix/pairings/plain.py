"""Pairings that do not look at the batch: a random permutation, or a fixed shift."""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Int, PRNGKeyArray

from jaxmix import checks
from jaxmix.types import Batch


def permutation(batch: Batch, rng: PRNGKeyArray) -> Int[Array, " n"]:
    """Draws partners by a uniform permutation, in which a sample may be its own partner.

    Args:
      batch: samples [n, ...], or a pytree of them.
      rng: a JAX key.

    Returns:
      Partner indices [n], int32.

    Raises:
      ValueError: if the batch is empty or its leaves differ in n.

    Example:
      >>> sorted(pairings.permutation(jnp.ones((4, 2)), jax.random.key(0)).tolist())
      [0, 1, 2, 3]

    References:
      Zhang et al., `mixup: Beyond Empirical Risk Minimization
      <https://arxiv.org/abs/1710.09412>`_, 2018
    """
    checks.key(rng)
    n, _ = checks.batch_shape(batch)
    return jax.random.permutation(rng, jnp.arange(n, dtype=jnp.int32))


def roll(batch: Batch, rng: PRNGKeyArray, *, shift: int = 1) -> Int[Array, " n"]:
    """Returns the sample `shift` places further on as partner, without randomness.

    No sample is its own partner. Use it on shuffled data.

    Args:
      batch: samples [n, ...], or a pytree of them.
      rng: ignored.
      shift: distance to the partner; indices wrap around at the end of the batch.

    Returns:
      Partner indices [n], int32.

    Raises:
      ValueError: if the batch is empty or its leaves differ in n, or if n > 1 and shift
        is a multiple of n, which would make every sample its own partner.

    Example:
      >>> pairings.roll(jnp.ones((4, 2)), jax.random.key(0)).tolist()
      [1, 2, 3, 0]
    """
    del rng
    n, _ = checks.batch_shape(batch)
    if n > 1 and shift % n == 0:
        raise ValueError(f"shift={shift} leaves all {n} samples with themselves: take one from 1 to {n - 1}")
    return (jnp.arange(n, dtype=jnp.int32) + shift) % n

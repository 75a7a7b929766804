"""Partners that look at nothing: by chance, or the next in line."""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Int, PRNGKeyArray

from jaxmix import checks
from jaxmix.types import Batch


def permutation(batch: Batch, rng: PRNGKeyArray) -> Int[Array, " n"]:
    """Draws partners by a uniform permutation, which may leave a sample with itself.

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
    """Takes the sample `shift` places further on as partner, without randomness.

    It suits data that comes shuffled: nobody is its own partner.

    Args:
      batch: samples [n, ...], or a pytree of them.
      rng: ignored.
      shift: how many places further on, round the batch's end.

    Returns:
      Partner indices [n], int32.

    Raises:
      ValueError: if the batch is empty or its leaves differ in n, or if n > 1 and shift
        is a multiple of n, which would leave every sample with itself.

    Example:
      >>> pairings.roll(jnp.ones((4, 2)), jax.random.key(0)).tolist()
      [1, 2, 3, 0]
    """
    del rng
    n, _ = checks.batch_shape(batch)
    if n > 1 and shift % n == 0:
        raise ValueError(f"shift={shift} leaves all {n} samples with themselves: take one from 1 to {n - 1}")
    return (jnp.arange(n, dtype=jnp.int32) + shift) % n

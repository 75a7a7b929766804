"""Computes gradients of a large batch in parts, so that memory holds the activations of one part only."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax import Array
import jax.numpy as jnp
import optax

Outputs = TypeVar("Outputs")
Carried = TypeVar("Carried")


def split(batch: Any, rng: Array, count: int) -> tuple[Any, Array]:
    """Splits a batch [n, ...] into equal parts [count, n / count, ...], in order, with a key for each."""
    parts = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch)
    return parts, jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(count))


def mean(
    function: Callable[[Carried, Any, Array], tuple[Outputs, Carried]],
    carried: Carried,
    batch: Any,
    rng: Array,
    *,
    count: int,
) -> tuple[Outputs, Carried]:
    """Averages a function's outputs over the parts of a batch.

    Args:
      function: (carried, part, key) -> (outputs, carried); the second result goes to the next part.
      carried: the value for the first part.
      batch: arrays [n, ...].
      rng: a key.
      count: number of parts, which divides n.

    Returns:
      The means, and the value that the last part returns.
    """
    if count == 1:
        return function(carried, batch, rng)
    parts, keys = split(batch, rng, count)
    first = jax.tree.map(lambda leaf: leaf[0], (parts, keys))
    outputs, _ = jax.eval_shape(function, carried, *first)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), outputs)

    def add(sums: tuple[Outputs, Carried], part: tuple[Any, Array]) -> tuple[tuple[Outputs, Carried], None]:
        outputs, carried = function(sums[1], *part)
        return (optax.tree.add(sums[0], outputs), carried), None

    # On CPUs a convolution in a loop takes 7 times as long, and memory is not what one runs out of.
    unrolled = jax.default_backend() == "cpu"
    (sums, carried), _ = jax.lax.scan(add, (zeros, carried), (parts, keys), unroll=unrolled)
    return optax.tree.scale(1 / count, sums), carried

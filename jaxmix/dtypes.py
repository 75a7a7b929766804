"""What mixing computes in, and how results go back to the dtype that came in."""

from jax import Array
import jax.numpy as jnp


def widened(x: Array) -> Array:
    """The same numbers in float32, or in float64 where they are that."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def narrowed(x: Array, dtype) -> Array:
    """The same numbers in a dtype; pixels are rounded and clipped."""
    if dtype == jnp.uint8:
        x = jnp.clip(jnp.round(x).astype(jnp.int32), 0, 255)
    return x.astype(dtype)

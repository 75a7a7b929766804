"""Dtypes that mixing computes in, and casts back to the dtype of the input."""

from jax import Array
import jax.numpy as jnp


def widened(x: Array) -> Array:
    """Casts to float32, and leaves float64 as it is."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def narrowed(x: Array, dtype) -> Array:
    """Casts to a dtype; uint8 pixels are rounded and clipped."""
    if dtype == jnp.uint8:
        x = jnp.clip(jnp.round(x).astype(jnp.int32), 0, 255)
    return x.astype(dtype)

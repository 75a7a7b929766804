"""Arithmetic of weights: their mean, and the mix of two arrays by them."""

import functools
import math

import jax
from jax import Array
import jax.numpy as jnp

from jaxmix import dtypes, layout


@functools.partial(jax.jit, static_argnames="num_axes")  # rounds alike within another jit and outside of one
def mean(weight: Array, *, num_axes: int) -> Array:
    """Returns the mean over the last axes, in float32; of booleans, the share that is true."""
    axes = range(weight.ndim - num_axes, weight.ndim)
    if weight.dtype != jnp.bool_ or not axes or weight.shape[-1] > 255:
        return jnp.mean(weight, axis=axes, dtype=jnp.float32)
    rows = jnp.sum(weight, axis=-1, dtype=jnp.uint8)  # CPUs count faster in eight bits
    count = jnp.sum(rows, axis=axes[:-1], dtype=jnp.int32)
    return count.astype(jnp.float32) / math.prod(weight.shape[axes.start :])


def select(x: Array, partner: Array, weight: Array) -> Array:
    """Returns x where weight is true, x[partner] elsewhere."""
    return jnp.where(jnp.expand_dims(weight, range(weight.ndim, x.ndim)), x, layout.rows(x, partner))


def blend(x: Array, partner: Array, weight: Array) -> Array:
    """Returns weight x + (1 - weight) x[partner], typed like x."""
    own, other = dtypes.widened(x), dtypes.widened(layout.rows(x, partner))
    wide = jnp.expand_dims(weight, range(weight.ndim, x.ndim)).astype(own.dtype)
    if weight.ndim == 1:
        return dtypes.narrowed(average(wide, own, other), x.dtype)
    return dtypes.narrowed(jax.lax.platform_dependent(wide, own, other, tpu=average_tpu, default=average), x.dtype)


def average(weight: Array, own: Array, other: Array) -> Array:
    """Returns weight own + (1 - weight) other."""
    return weight * own + (1 - weight) * other


def average_tpu(weight: Array, own: Array, other: Array) -> Array:
    """Returns the same without 1 - weight, which XLA would write to memory; as exact where the weight is 0 or 1."""
    return weight * own + (other - weight * other)

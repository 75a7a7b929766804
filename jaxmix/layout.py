"""Gathers of a batch's rows on every platform, and arrays on a mesh with explicit axes.

On TPUs a gather of images [n, h, w, 3] pads their three channels to the 128 lanes of a register.
By XLA's count it moves 46 copies of the batch. A product with a one-hot matrix, on the matrix
unit, replaces it there.
"""

from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

LANES = 128
MOST_PRODUCTS = {True: 2**26, False: 2**20}
"""Largest m n at which a product that takes m of n rows beats a gather, by whether the last axis leaves lanes empty.

To take n of n rows of d bfloat16, a product does 6 n^2 d operations, and a TPU v5e does 197e12 of them a second. By
XLA's estimate, product and gather take 4.8 and 38.9 ms for 1,024 images of 224 x 224 x 3 (so the product wins up to
8,192), and 3.2 and 2.9 ms for maps [1,024, 7, 7, 2,048], which fill the lanes. From 50,000 images of 32 x 32 x 3 in
uint8 they take 1.6 and 1.5 ms for 1,024 rows, and .2 and 1.1 ms for 128.
"""


def rows(x: Array, index: Array) -> Array:
    """Gathers x[index] with the sharding of x; on TPUs by an equally exact product if that is faster.

    Args:
      x: an array [n, ...] of any dtype.
      index: integers [m], from -n to n - 1.

    Returns:
      The rows of x at index, [m, ...].

    Example:
      >>> layout.rows(jnp.array([1.0, 2.0]), jnp.array([1, 0]))
      Array([2., 1.], dtype=float32)
    """
    sharding = jax.typeof(x).sharding
    if any(sharding.spec):
        return x.at[index].get(out_sharding=sharding)
    if not _width(x.dtype) or not multiplies(x, len(index)):
        return x[index]
    product = _product_of_floats if jnp.issubdtype(x.dtype, jnp.floating) else _product
    return jax.lax.platform_dependent(x, index, tpu=product, default=lambda x, index: x[index])


def _product(x: Array, index: Array) -> Array:
    """Returns x[index] as a one-hot matrix [m, n] times the bits of x, sixteen bits at a time.

    The bits are read as whole numbers. Their products and sums are exact and finite, so a NaN or infinity stays in its
    sample. To multiply sixteen bits, a TPU splits them into two bfloat16 numbers at precision "high"; eight bits fit
    into one.
    """
    width = _width(x.dtype)
    precision, word = ("default", 8) if width == 8 else ("high", 16)
    bits = x.astype(jnp.uint8) if x.dtype == jnp.bool_ else jax.lax.bitcast_convert_type(x, f"uint{width}")
    chosen = jnp.zeros((), bits.dtype)
    for shift in range(0, width, word):
        part = (bits >> shift) & jnp.asarray(2**word - 1, bits.dtype)
        product = _times(index, part.astype(jnp.int32).astype(jnp.float32), precision)
        chosen |= product.astype(jnp.int32).astype(bits.dtype) << shift
    return chosen.astype(x.dtype) if x.dtype == jnp.bool_ else jax.lax.bitcast_convert_type(chosen, x.dtype)


_product_of_floats = jax.custom_jvp(_product)


@_product_of_floats.defjvp
def _tangent(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Multiplies the tangent itself by the one-hot matrix: a gather is linear."""
    (x, index), (tangent, _) = primals, tangents
    return _product_of_floats(x, index), _times(index, tangent.astype(jnp.float32), "highest").astype(tangent.dtype)


def _times(index: Array, x: Array, precision: str) -> Array:
    """Multiplies the one-hot matrix [m, n] of index by x [n, ...], in float32."""
    return jnp.tensordot(jax.nn.one_hot(index % len(x), len(x), dtype=x.dtype), x, 1, precision=precision)


def _width(dtype: Any) -> int:
    """Returns the bits per number of a dtype, or 0 if the product does not support it."""
    if dtype == jnp.bool_:
        return 8
    if not jnp.issubdtype(dtype, jnp.integer) and not jnp.issubdtype(dtype, jnp.floating):
        return 0
    width = (jnp.iinfo if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo)(dtype).bits
    return width if width in (8, 16, 32) else 0


def multiplies(x: Array, count: int) -> bool:
    """Returns whether a product takes rows of x faster than a gather does, on TPUs.

    Args:
      x: an array [n, ...].
      count: number of rows to take.

    Returns:
      True if the product is faster.

    Example:
      >>> layout.multiplies(jnp.ones((1024, 8, 8, 3)), 1024), layout.multiplies(jnp.ones((4096, 512)), 4096)
      (True, False)
    """
    return count * len(x) <= MOST_PRODUCTS[x.ndim < 2 or x.shape[-1] < LANES]


def whole(x: Array) -> Array:
    """Replicates an array on every device of its mesh.

    Args:
      x: an array of any shape.

    Returns:
      The same array, replicated.

    Example:
      >>> layout.whole(jnp.array([1.0, 2.0]))
      Array([1., 2.], dtype=float32)
    """
    sharding = jax.typeof(x).sharding
    return jax.sharding.reshard(x, NamedSharding(sharding.mesh, PartitionSpec())) if any(sharding.spec) else x


def beside(rows: Array, x: Array) -> Array:
    """Puts each row on the device that has the same row of x.

    Args:
      rows: an array [n, ...].
      x: an array [n, ...].

    Returns:
      The same rows, sharded like the rows of x.

    Example:
      >>> layout.beside(jnp.array([1.0, 2.0]), jnp.ones((2, 3)))
      Array([1., 2.], dtype=float32)
    """
    sharding = jax.typeof(x).sharding
    if not any(sharding.spec):
        return rows
    return jax.sharding.reshard(rows, NamedSharding(sharding.mesh, PartitionSpec(sharding.spec[0])))

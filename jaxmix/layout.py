"""How arrays lie on a mesh of explicit axes, where JAX wants to be told what a gather returns; elsewhere nothing."""

import jax
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec


def rows(x: Array, index: Array) -> Array:
    """Gathers x[index], laid out as x is.

    Args:
      x: [n, ...].
      index: integers [m].

    Returns:
      Rows of x, [m, ...].

    Example:
      >>> layout.rows(jnp.array([1.0, 2.0]), jnp.array([1, 0]))
      Array([2., 1.], dtype=float32)
    """
    sharding = jax.typeof(x).sharding
    return x.at[index].get(out_sharding=sharding) if any(sharding.spec) else x[index]


def whole(x: Array) -> Array:
    """Puts all of an array on every device.

    Args:
      x: an array of any shape.

    Returns:
      The same array.

    Example:
      >>> layout.whole(jnp.array([1.0, 2.0]))
      Array([1., 2.], dtype=float32)
    """
    sharding = jax.typeof(x).sharding
    return jax.sharding.reshard(x, NamedSharding(sharding.mesh, PartitionSpec())) if any(sharding.spec) else x

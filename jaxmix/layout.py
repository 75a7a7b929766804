"""How arrays lie on a mesh of explicit axes, where JAX wants to be told what a gather returns; elsewhere nothing."""

import jax
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec


def rows(x: Array, index: Array) -> Array:
    """Returns x[index], laid out as x is."""
    sharding = jax.typeof(x).sharding
    return x.at[index].get(out_sharding=sharding) if any(sharding.spec) else x[index]


def whole(x: Array) -> Array:
    """Returns x with all of it on every device."""
    sharding = jax.typeof(x).sharding
    return jax.sharding.reshard(x, NamedSharding(sharding.mesh, PartitionSpec())) if any(sharding.spec) else x

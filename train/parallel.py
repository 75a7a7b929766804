"""The devices: the only pmap, and how state and data are placed for it."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

AXIS = "devices"


def train_step(step: Callable) -> Callable:
    """Maps step(state, data, indices, rng) over the devices' axis of indices; the state is donated."""
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, None, 0, None), out_axes=None, donate_argnums=0)


def eval_step(step: Callable) -> Callable:
    """Maps step(state, data, indices, weights) over the devices' axis of indices and weights."""
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, None, 0, 0), out_axes=None)


def place(tree: Any) -> Any:
    """Puts a copy on every local device, once; unplaced arguments would be copied at every step."""
    return jax.device_put(tree, NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec()))


def split(batch: np.ndarray) -> np.ndarray:
    """[batch, ...] -> [local devices, batch of a device, ...]."""
    return batch.reshape(jax.local_device_count(), -1, *batch.shape[1:])

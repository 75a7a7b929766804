"""What jaxmix accepts, and the errors that say so.

Everything here runs on shapes, dtypes and Python numbers, at trace time; nothing
reads the contents of a traced array.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxmix.types import Batch, Labels, Scalar, Space

_BATCH_REMEDY = {
    "bool": "one-hot encode it with jax.nn.one_hot, or cast it to float",
    "integer": "one-hot encode class maps with jax.nn.one_hot; scale other data to float or uint8 pixels",
    "other": "cast it to a float dtype or to uint8 pixels",
}


def lead_leaf(batch: Batch) -> ArrayLike:
    """Returns the leaf of highest rank, the first on a tie: it defines n and space."""
    leaves = jax.tree.leaves(batch)
    if not leaves:
        raise ValueError("batch has no arrays: pass an array [n, *space, channels] or a pytree of them")
    return max(leaves, key=np.ndim)


def batch_shape(batch: Batch) -> tuple[int, Space]:
    """Checks that a batch can be mixed, and returns its n and space."""
    lead = np.shape(lead_leaf(batch))
    if not lead:
        raise ValueError("batch has only scalars: its arrays need a leading axis of samples, [n, ...]")
    n, space = lead[0], lead[1:-1]
    if n == 0:
        raise ValueError(f"batch is empty, of shape {lead}: mixing needs at least one sample")
    for path, leaf in jax.tree.leaves_with_path(batch):
        name = "batch" + jax.tree_util.keystr(path)
        shape = np.shape(leaf)
        if shape[: 1 + len(space)] != (n, *space):
            raise ValueError(
                f"{name} has shape {shape}, and does not start with {(n, *space)} like the leaf of highest rank: "
                "align the two, or mix it on its own by jaxmix.apply"
            )
        mixable(name, leaf)
    return n, space


def mixable(name: str, leaf) -> None:
    """Checks that a leaf of a batch holds what can be averaged: floats, or uint8 pixels."""
    dtype = jnp.result_type(leaf)
    if dtype == jnp.uint8 or jnp.issubdtype(dtype, jnp.floating):
        return
    kind = "bool" if dtype == jnp.bool_ else "integer" if jnp.issubdtype(dtype, jnp.integer) else "other"
    raise TypeError(f"{name} has dtype {dtype}, whose values cannot be mixed: {_BATCH_REMEDY[kind]}")


def targets(labels: Labels, n: int) -> None:
    """Checks that labels are float targets for n samples."""
    for path, leaf in jax.tree.leaves_with_path(labels):
        name = "labels" + jax.tree_util.keystr(path)
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            remedy = "jax.nn.one_hot(labels, num_classes)" if np.ndim(leaf) == 1 else "labels.astype(jnp.float32)"
            raise TypeError(f"{name} have dtype {dtype}: pass float targets, such as {remedy}")
        if np.shape(leaf)[:1] != (n,):
            raise ValueError(f"{name} have shape {np.shape(leaf)}, but the batch has {n} samples: make both [{n}, ...]")


def positive(name: str, value: Scalar) -> None:
    """Checks a number that must be positive and finite in float32, unless it is traced."""
    number = _concrete(name, value)
    if number is not None and not 1e-36 < number < 3e38:
        beyond = ", beyond what float32 computes with" if 0 < number < np.inf else ""
        raise ValueError(f"{name} must be positive and finite, got {value}{beyond}")


def non_negative(name: str, value: Scalar) -> None:
    """Checks a number that must be finite and not below 0, unless it is traced."""
    number = _concrete(name, value)
    if number is not None and not 0 <= number < np.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {value}")


def at_least_one(name: str, value: int) -> None:
    """Checks a number of things of which there must be one."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def floats(name: str, array) -> None:
    """Checks that an array holds floats."""
    if not jnp.issubdtype(jnp.result_type(array), jnp.floating):
        raise TypeError(f"{name} have dtype {jnp.result_type(array)}: pass floats, such as uint8 images / 255.0")


def key_per_sample(rng, n: int) -> None:
    """Checks that every sample has a key of its own, typed or legacy."""
    typed = jnp.issubdtype(rng.dtype, jax.dtypes.prng_key)
    if np.shape(rng)[: None if typed else -1] != (n,):
        raise ValueError(f"rng has shape {np.shape(rng)}: pass one key per sample, such as jax.random.split(rng, {n})")


def probability(name: str, value: Scalar) -> None:
    """Checks a number that must lie in [0, 1], unless it is traced."""
    number = _concrete(name, value)
    if number is not None and not 0 <= number <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")


def _concrete(name: str, value: Scalar) -> float | None:
    """The value as a Python number, on which nothing is traced; None where it is traced itself."""
    if not isinstance(value, float | int | np.number | np.ndarray | jax.Array) or np.shape(value) != ():
        raise TypeError(f"{name} must be a single number, got {value!r}")
    return None if isinstance(value, jax.core.Tracer) else float(value)


def same_shapes(got, expected, *, got_name: str, expected_name: str) -> None:
    """Checks that two pytrees agree in structure, shapes and dtypes."""

    def signature(tree):
        leaves = jax.tree.leaves_with_path(tree)
        return [(jax.tree_util.keystr(path), np.shape(leaf), str(jnp.result_type(leaf))) for path, leaf in leaves]

    structures: list[Any] = [jax.tree.structure(tree) for tree in (got, expected)]
    if structures[0] != structures[1] or signature(got) != signature(expected):
        raise ValueError(
            f"{got_name} returns {signature(got)}, but {expected_name} {signature(expected)}: both must be alike"
        )

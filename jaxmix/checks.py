"""Checks of arguments, which raise errors that name the value and the remedy.

All checks run at trace time on shapes, dtypes and Python numbers. None reads the contents of a
traced array.
"""

import operator

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
    """Returns the leaf of highest rank, the first on a tie; it defines n and space."""
    leaves = jax.tree.leaves(batch)
    if not leaves:
        raise ValueError("batch has no arrays: pass an array [n, *space, channels] or a pytree of them")
    return max(leaves, key=np.ndim)


def batch_shape(batch: Batch) -> tuple[int, Space]:
    """Checks that all leaves of a batch have n samples, and returns n and space."""
    for path, leaf in jax.tree.leaves_with_path(batch):
        _dtype(f"batch{jax.tree_util.keystr(path)}", leaf)
    lead = np.shape(lead_leaf(batch))
    if not lead:
        raise ValueError(
            "batch has only scalars, as nested lists do: make them arrays [n, ...], such as jnp.asarray(batch)"
        )
    n, space = lead[0], lead[1:-1]
    if 0 in (n, *space):
        raise ValueError(f"batch is empty, of shape {lead}: mixing needs at least one sample, and one place in it")
    for path, leaf in jax.tree.leaves_with_path(batch):
        if np.shape(leaf)[:1] != (n,):
            raise ValueError(
                f"batch{jax.tree_util.keystr(path)} has shape {np.shape(leaf)}, and does not start with {n} like the "
                "leaf of highest rank: give all of them one row per sample"
            )
    return n, space


def aligned(batch: Batch, shape: tuple[int, ...]) -> None:
    """Checks that the shapes of a batch's leaves start with the shape of the weights."""
    for path, leaf in jax.tree.leaves_with_path(batch):
        if np.shape(leaf)[: len(shape)] != shape:
            raise ValueError(
                f"batch{jax.tree_util.keystr(path)} has shape {np.shape(leaf)}, and does not start with {shape} as the "
                "weights do: align the two, or mix it on its own"
            )


def mixable(name: str, tree: Batch) -> None:
    """Checks that the leaves of a batch can be averaged: floats, or uint8 pixels."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        dtype = _dtype(leaf_name := name + jax.tree_util.keystr(path), leaf)
        if _is_amount(dtype):
            continue
        kind = "bool" if dtype == jnp.bool_ else "integer" if jnp.issubdtype(dtype, jnp.integer) else "other"
        raise TypeError(
            f"{leaf_name} has dtype {dtype}, whose values cannot be blended: {_BATCH_REMEDY[kind]}; "
            "a mask of booleans, such as cutmix', takes it as it is"
        )


def measurable(lead: ArrayLike, remedy: str) -> None:
    """Checks that the leaf of highest rank can be measured: floats, or uint8 pixels."""
    dtype = jnp.result_type(lead)
    if not _is_amount(dtype):
        raise TypeError(f"the batch's leaf of highest rank must be float, or uint8 pixels, got dtype {dtype}: {remedy}")


def _is_amount(dtype) -> bool:
    """Returns whether values of a dtype can be averaged: floats, and uint8, which are pixels."""
    return dtype == jnp.uint8 or jnp.issubdtype(dtype, jnp.floating)


def _dtype(name: str, leaf):
    """Returns the dtype of a leaf, and refuses leaves without numbers."""
    try:
        return jnp.result_type(np.asarray(leaf) if isinstance(leaf, str | bytes) else leaf)  # "f" is not a dtype here
    except TypeError:
        kind = getattr(leaf, "dtype", type(leaf).__name__)
        raise TypeError(f"{name} holds {kind}, which cannot be mixed: take it out of the batch") from None


_REMEDIES = {1: "such as jax.nn.one_hot(labels, num_classes)", 2: "such as labels.astype(jnp.float32)"}
_OF_MAPS = "and maps of classes as a part of the batch, which a method that selects cuts as it cuts images"


def targets(labels: Labels, n: int) -> None:
    """Checks that labels are float targets for n samples."""
    for path, leaf in jax.tree.leaves_with_path(labels):
        name = "labels" + jax.tree_util.keystr(path)
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{name} have dtype {dtype}: pass float targets, {_REMEDIES.get(np.ndim(leaf), _OF_MAPS)}")
        if np.shape(leaf)[:1] != (n,):
            raise ValueError(f"{name} have shape {np.shape(leaf)}, but the batch has {n} samples: make both [{n}, ...]")


def positive(name: str, value: Scalar) -> None:
    """Checks that a number is positive and finite in float32, unless it is traced."""
    number = _concrete(name, value)
    if number is not None and not 1e-36 < number < 3e38:
        beyond = ", beyond what float32 computes with" if 0 < number < np.inf else ""
        raise ValueError(f"{name} must be positive and finite, got {value}{beyond}")


def non_negative(name: str, value: Scalar) -> None:
    """Checks that a number is at least 0 and finite, unless it is traced."""
    number = _concrete(name, value)
    if number is not None and not 0 <= number < np.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {value}")


def at_least_one(name: str, value: int) -> None:
    """Checks that a number is an integer of at least 1."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number known to Python, got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def floats(name: str, array) -> None:
    """Checks that an array holds floats."""
    if not jnp.issubdtype(jnp.result_type(array), jnp.floating):
        raise TypeError(
            f"{name} must be floats, got dtype {jnp.result_type(array)}: pass, for example, uint8 images / 255.0"
        )


def key(rng) -> None:
    """Checks that rng is one JAX key, typed or legacy."""
    if shape := _shape_of_keys(rng):
        raise ValueError(
            f"rng has keys of shape {shape}, where one key was expected: pass one of them, or jax.vmap over all"
        )


def key_per_sample(rng, n: int) -> None:
    """Checks that rng has one JAX key per sample, typed or legacy."""
    if _shape_of_keys(rng) != (n,):
        raise ValueError(f"rng has shape {np.shape(rng)}: pass one key per sample, such as jax.random.split(rng, {n})")


def _shape_of_keys(rng) -> tuple[int, ...]:
    """Returns the shape of an array of keys, and refuses anything else."""
    dtype, shape = getattr(rng, "dtype", None), np.shape(rng)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return shape
    if dtype != jnp.uint32 or not shape:
        raise TypeError(f"rng must be a key of JAX, such as jax.random.key(0), got {rng!r}")
    return shape[:-1]


def probability(name: str, value: Scalar) -> None:
    """Checks that a number lies in [0, 1], unless it is traced."""
    number = _concrete(name, value)
    if number is not None and not 0 <= number <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")


def interval(name: str, bounds: tuple[Scalar, Scalar]) -> None:
    """Checks a range (low, high) within [0, 1], except for ends that are traced."""
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(f"{name} must be a range (low, high), got {bounds!r}")
    for end, value in zip(("low", "high"), bounds, strict=True):
        probability(f"the {end} end of {name}", value)
    low, high = (_concrete(name, value) for value in bounds)
    if low is not None and high is not None and low > high:
        raise ValueError(f"{name}={bounds} is an empty range: give the lower end first")


def _concrete(name: str, value: Scalar) -> float | None:
    """Returns the value as a Python float, or None if it is traced."""
    number = isinstance(value, float | int | np.number | np.ndarray | jax.Array)
    if not number or np.shape(value) or jnp.result_type(value) == jnp.bool_:
        raise TypeError(f"{name} must be a single number, got {value!r}")
    return None if isinstance(value, jax.core.Tracer) else float(value)


def same_shapes(got, expected, *, got_name: str, expected_name: str) -> None:
    """Checks that two pytrees agree in structure, shapes and dtypes."""
    shapes = [
        jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)), tree)
        for tree in (got, expected)
    ]
    if jax.tree.flatten(shapes[0]) != jax.tree.flatten(shapes[1]):  # containers need not define equality
        raise ValueError(f"{got_name} {shapes[0]}, but {expected_name} {shapes[1]}: both must be alike")

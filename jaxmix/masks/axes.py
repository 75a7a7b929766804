"""Masks composed axis by axis: boxes, centres and cells."""

from collections.abc import Sequence
import functools

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, PRNGKeyArray
import numpy as np

from jaxmix import checks
from jaxmix.types import Space


def rank(space: Space) -> int:
    """Returns the number of axes longer than 1; there must be at least one."""
    rank = sum(length > 1 for length in space)
    if rank == 0 or 0 in space:
        raise ValueError(
            f"this mask needs an axis longer than 1, and none of length 0; space is {space}: "
            "pass samples [n, *space, channels], or use the uniform mask (mixup)"
        )
    return rank


def spread(parts: list[Array]) -> list[Array]:
    """Expands one array [n, length] per axis so that together they broadcast to [n, *space]."""
    axes = range(1, len(parts) + 1)
    return [jnp.expand_dims(part, [o for o in axes if o != axis]) for axis, part in zip(axes, parts, strict=True)]


def random_centres(space: Space, n: int, rng: PRNGKeyArray) -> list[Int[Array, " n"]]:
    """Draws a uniform place along each axis for each of n samples."""
    checks.key(rng)
    return [
        jax.random.randint(axis_rng, (n,), 0, length, jnp.int32)
        for length, axis_rng in zip(space, jax.random.split(rng, len(space)), strict=True)
    ]


def box_sides(space: Space, area: Float[Array, " n"], centres: Sequence[Int[Array, " n"]]) -> list[Bool[Array, "n _"]]:
    """Returns which places along each axis lie in a box that covers a share `area` of space before clipping."""
    axes = rank(space)
    side = jnp.sqrt(area) if axes == 2 else area ** (1 / axes)  # sqrt is rounded correctly, a power is not
    sides = []
    for length, centre in zip(space, centres, strict=True):
        half = jnp.floor(length * side).astype(jnp.int32) // 2
        place = jnp.arange(length, dtype=jnp.int32)[None]
        within = (place >= (centre - half)[:, None]) & (place < (centre + half)[:, None])
        sides.append(within if length > 1 else jnp.ones_like(within))
    return sides


def inside(sides: list[Bool[Array, "n _"]]) -> Bool[Array, "n *space"]:
    """Returns whether each place lies in the box with these sides."""
    return functools.reduce(jnp.logical_and, spread(sides))


def along(maps: Float[Array, "n *places"], matrices: Sequence[np.ndarray]) -> Float[Array, "n *others"]:
    """Multiplies maps along each of their axes by a matrix [others, places]."""
    for matrix in matrices:  # each takes the first axis, and its places become the last
        maps = jnp.tensordot(maps, jnp.asarray(matrix, maps.dtype), ((1,), (1,)), precision="highest")
    return maps


def cells(length: int, count: int) -> np.ndarray:
    """Returns which places of an axis lie in which cell, [count, length]: place i lies in cell i * count // length."""
    return np.arange(count)[:, None] == np.arange(length)[None] * count // length


def averaged(maps: Float[Array, "n *places"], counts: Sequence[int]) -> Float[Array, "n *counts"]:
    """Averages maps over cells; counts says how many cells each axis has, at most one for each place."""
    if maps.shape[1:] == tuple(counts):
        return maps
    matrices = [cells(length, count) for length, count in zip(maps.shape[1:], counts, strict=True)]
    return along(maps, [matrix / matrix.sum(axis=1, keepdims=True) for matrix in matrices])

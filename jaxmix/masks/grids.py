"""Masks that choose cells of a grid at random."""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool, Float, PRNGKeyArray

from jaxmix import checks
from jaxmix.masks import axes
from jaxmix.types import Space


def grid(space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray, *, cells: int = 4) -> Bool[Array, "n *space"]:
    r"""Gives each cell of a grid to the sample or to the partner: GridMix' mask.

    Each cell is the sample's own with probability :math:`\lambda`, independently of the others.
    So the realised share, which is the mean of the weights, equals the requested ratio only in
    expectation. Independent cells are one reading of the paper, whose code was not available.
    Along an axis, lengths of cells differ by at most one place.

    Args:
      space: the lengths of the sample's axes, such as (h, w); axes of length 1 are covered
        whole.
      ratio: each sample's own share, [n], in [0, 1].
      rng: a JAX key, for the cells.
      cells: number of cells along each axis. A shorter axis has one cell for each place.

    Returns:
      Booleans [n, *space], constant within a cell.

    Raises:
      ValueError: if cells is less than 1, no axis of space is longer than 1, or an axis has
        length 0.

    Example:
      >>> masks.grid((6,), jnp.array([0.5]), jax.random.key(0), cells=3)
      Array([[False, False, False, False,  True,  True]], dtype=bool)

    References:
      Baek et al., `GridMix: Strong regularization through local context mapping
      <https://doi.org/10.1016/j.patcog.2020.107594>`_, 2021
    """
    checks.key(rng)
    checks.at_least_one("cells", cells)
    axes.rank(space)
    counts = [min(cells, length) for length in space]
    drawn = jax.random.uniform(rng, (*ratio.shape, *counts), jnp.float32)
    own = (drawn < jnp.expand_dims(ratio, range(1, drawn.ndim))).astype(jnp.float32)
    matrices = [axes.cells(length, count).T for length, count in zip(space, counts, strict=True)]
    return axes.along(own, matrices) > 0.5

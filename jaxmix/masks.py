"""Where in the sample: (space, ratio, rng) -> the sample's own weight at every place.

A mask returns weights [n], one for the whole sample, or [n, *space], in float32.
"""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool, Float, PRNGKeyArray

from jaxmix.types import Space


def uniform(space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray) -> Float[Array, " n"]:
    """Gives every place the same weight, the ratio: Mixup's mask.

    Args:
      space: ignored; any, empty included.
      ratio: shares of the sample itself, [n].
      rng: ignored.

    Returns:
      The ratio, [n].

    Example:
      >>> masks.uniform((8, 8), jnp.array([0.25]), jax.random.key(0))
      Array([0.25], dtype=float32)

    References:
      Zhang et al., `mixup: Beyond Empirical Risk Minimization
      <https://arxiv.org/abs/1710.09412>`_, 2018
    """
    del space, rng
    return ratio


def box(space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray) -> Float[Array, "n *space"]:
    r"""Gives a box to the partner and the rest to the sample: CutMix' mask.

    The box has the side ratio :math:`(1 - \lambda)^{1/r}` along each of the r axes longer
    than 1, its centre is uniform over the places of the sample, and what lies outside the
    sample is clipped. Sides are rounded down to even numbers. So the realised share,
    which is the mean of the weights, is at least the ratio asked for.

    Args:
      space: the lengths of the sample's axes, such as (h, w); axes of length 1 are covered
        whole.
      ratio: shares of the sample itself, [n].
      rng: a JAX key, for the centres.

    Returns:
      Weights [n, *space]: 0 inside the box, 1 outside.

    Raises:
      ValueError: if no axis of space is longer than 1.

    Example:
      >>> masks.box((4,), jnp.array([0.5]), jax.random.key(2))
      Array([[1., 1., 0., 0.]], dtype=float32)

    References:
      Yun et al., `CutMix: Regularization Strategy to Train Strong Classifiers with
      Localizable Features <https://arxiv.org/abs/1905.04899>`_, 2019
    """
    return jnp.where(_inside_box(space, 1 - ratio, rng), jnp.float32(0), jnp.float32(1))


def _inside_box(space: Space, area: Float[Array, " n"], rng: PRNGKeyArray) -> Bool[Array, "n *space"]:
    """Whether each place lies in a box that covers the given share of space before clipping."""
    rank = sum(length > 1 for length in space)
    if rank == 0:
        raise ValueError(
            f"a box needs an axis longer than 1, and space is {space}: "
            "pass samples [n, *space, channels], or use the uniform mask (mixup)"
        )
    side = jnp.sqrt(area) if rank == 2 else area ** (1 / rank)  # sqrt is rounded correctly, a power is not
    inside = jnp.ones((area.shape[0],) + (1,) * len(space), bool)
    for axis, (length, axis_rng) in enumerate(zip(space, jax.random.split(rng, len(space)), strict=True)):
        if length == 1:
            continue
        half = jnp.floor(length * side).astype(jnp.int32) // 2
        centre = jax.random.randint(axis_rng, area.shape, 0, length, jnp.int32)
        place = jnp.arange(length, dtype=jnp.int32)[None]
        within = (place >= (centre - half)[:, None]) & (place < (centre + half)[:, None])
        inside &= jnp.expand_dims(within, [1 + other for other in range(len(space)) if other != axis])
    return jnp.broadcast_to(inside, (area.shape[0], *space))

"""Masks with one shape at a random place."""

import math

from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool, Float, PRNGKeyArray

from jaxmix import checks
from jaxmix.masks import axes
from jaxmix.types import Scalar, Space


def uniform(space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray) -> Float[Array, " n"]:
    """Gives every place the ratio as its weight: Mixup's mask.

    Args:
      space: ignored; may be empty.
      ratio: each sample's own share, [n], in [0, 1].
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


def box(space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray) -> Bool[Array, "n *space"]:
    r"""Gives a box to the partner and the rest to the sample: CutMix' mask.

    The sides of the box are :math:`(1 - \lambda)^{1/r}` times the lengths of the r axes longer
    than 1, rounded down to even numbers. Its centre is uniform over the places of the sample,
    and the box is clipped to the sample. So the realised share, which is the mean of the
    weights, is at least the requested ratio.

    Args:
      space: the lengths of the sample's axes, such as (h, w); axes of length 1 are covered
        whole.
      ratio: each sample's own share, [n], in [0, 1].
      rng: a JAX key, for the centres.

    Returns:
      Booleans [n, *space]: False inside the box, True outside.

    Raises:
      ValueError: if no axis of space is longer than 1, or an axis has length 0.

    Example:
      >>> masks.box((4,), jnp.array([0.5]), jax.random.key(2))
      Array([[ True,  True, False, False]], dtype=bool)

    References:
      Yun et al., `CutMix: Regularization Strategy to Train Strong Classifiers with
      Localizable Features <https://arxiv.org/abs/1905.04899>`_, 2019
    """
    return ~axes.inside(axes.box_sides(space, 1 - ratio, axes.random_centres(space, len(ratio), rng)))


def framed_box(
    space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray, *, area_ratio: Scalar
) -> Float[Array, "n *space"]:
    r"""Gives a box to the partner and blends the frame around it: HMix' mask.

    The box is that of `box`, with area :math:`(1 - \lambda) \rho`. In the frame the weight is
    :math:`\lambda / c`, where c is the area of the frame after clipping and rounding. So the mean
    of the weights is always the requested ratio. At :math:`\rho = 0` this is `uniform`. At
    :math:`\rho = 1` it is `box`, if that is neither clipped nor rounded.

    Args:
      space: the lengths of the sample's axes, such as (h, w); axes of length 1 are covered
        whole.
      ratio: each sample's own share, [n], in [0, 1].
      rng: a JAX key, for the centres.
      area_ratio: :math:`\rho`, the part of the partner's share that is in the box, in [0, 1].
        Not checked when traced.

    Returns:
      Weights [n, *space]: 0 inside the box, one number in [0, 1] outside.

    Raises:
      ValueError: if area_ratio lies outside [0, 1], no axis of space is longer
        than 1, or an axis has length 0.

    Example:
      >>> masks.framed_box((4,), jnp.array([0.25]), jax.random.key(2), area_ratio=2 / 3)
      Array([[0.5, 0.5, 0. , 0. ]], dtype=float32)

    References:
      Park et al., `A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function
      Perspective <https://arxiv.org/abs/2208.09913>`_, 2022
    """
    checks.probability("area_ratio", area_ratio)
    area = (1 - ratio) * jnp.asarray(area_ratio, jnp.float32)
    sides = axes.box_sides(space, area, axes.random_centres(space, len(ratio), rng))
    inside = axes.inside(sides)
    places = math.prod(space)
    frame = places - math.prod(jnp.sum(side, axis=1, dtype=jnp.int32) for side in sides)
    outside = ratio * places / jnp.maximum(frame, 1).astype(jnp.float32)  # without a frame nobody gets it
    return jnp.where(inside, 0, jnp.expand_dims(outside, range(1, inside.ndim)))


def gaussian(space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray) -> Float[Array, "n *space"]:
    r"""Gives a bell-shaped spot to one of the pair and its surroundings to the other: GMix' mask.

    .. math:: G_j = \exp\Big(-\pi \sum_i \frac{(j_i - c_i)^2}{s^{2/r} N_i^2}\Big),
        \quad s = \min(\lambda, 1 - \lambda)

    The sum is over the r axes longer than 1, of lengths :math:`N_i`. The centre c is uniform over
    the places of the sample. The spot is the sample's own if :math:`\lambda < 1/2`, else the
    partner's. The realised share, which is the mean of the weights, differs from the requested
    ratio, because the border cuts off part of the spot.

    Args:
      space: the lengths of the sample's axes, such as (h, w); axes of length 1 are covered
        whole.
      ratio: each sample's own share, [n], in [0, 1].
      rng: a JAX key, for the centres.

    Returns:
      Weights [n, *space], in [0, 1].

    Raises:
      ValueError: if no axis of space is longer than 1, or an axis has length 0.

    Example:
      >>> masks.gaussian((4,), jnp.array([0.75]), jax.random.key(2)).round(2)
      Array([[1.  , 1.  , 0.96, 0.  ]], dtype=float32)

    References:
      Park et al., `A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function
      Perspective <https://arxiv.org/abs/2208.09913>`_, 2022
    """
    centres = axes.random_centres(space, len(ratio), rng)
    rank = axes.rank(space)
    area = jnp.maximum(jnp.minimum(ratio, 1 - ratio), 1e-6**rank)  # at 0 the spot is its centre alone
    variance = area if rank == 2 else area ** (2 / rank)
    profiles = []
    for length, centre in zip(space, centres, strict=True):
        distance = (jnp.arange(length, dtype=jnp.int32)[None] - centre[:, None]).astype(jnp.float32) / length
        profiles.append(jnp.exp(-jnp.pi * distance**2 / variance[:, None]))
    spot = math.prod(axes.spread(profiles))
    own = jnp.expand_dims(ratio < 0.5, range(1, 1 + len(space)))
    return jnp.where(own, spot, 1 - spot)

"""Masks with one soft shape at a random place, with a width that meets the ratio."""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from jaxmix import checks
from jaxmix.masks import axes
from jaxmix.types import Scalar, Space

Profile = Callable[..., Array]
"""(distance [n, length], sharpness [n, 1], *options) -> what the shape, 1 / sharpness wide, is along an axis."""


def smooth_spot(space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray) -> Float[Array, "n *space"]:
    r"""Gives a bell-shaped spot to the partner, with a width that meets the ratio: SmoothMix' mask.

    .. math:: W_j = 1 - \exp\Big(-\sum_i \frac{(j_i - c_i)^2}{2 \sigma^2 N_i^2}\Big)

    The sum is over the axes longer than 1, of lengths :math:`N_i`. The centre c is uniform over
    the lower edges of the places, as in the released code for the paper's circle. That code draws
    :math:`\sigma` uniformly between 1/4 and 1/2, which determines the share. Here :math:`\sigma`
    makes the mean of the weights equal to the requested ratio.

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
      >>> masks.smooth_spot((4,), jnp.array([0.5]), jax.random.key(2)).round(1)
      Array([[1. , 0.7, 0.1, 0.1]], dtype=float32)

    References:
      Lee et al., `SmoothMix: a Simple Yet Effective Data Augmentation to Train Robust Classifiers
      <https://doi.org/10.1109/CVPRW50498.2020.00386>`_, 2020
    """
    return 1 - _shape(_bell, _distances(space, len(ratio), rng), 1 - ratio)


def smooth_box(
    space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray, *, edge: Scalar = 0.1
) -> Float[Array, "n *space"]:
    r"""Gives a box with soft edges to the partner, with a size that meets the ratio: SmoothMix' square mask.

    .. math:: W_j = 1 - \prod_i \min\Big(1, \max\Big(0, 1 - \frac{|j_i - c_i| / (s N_i) - 1}{\epsilon}\Big)\Big)

    The product is over the axes longer than 1, of lengths :math:`N_i`. The partner's share is 1 in a
    box of sides :math:`2 s N_i`, and falls linearly to 0 around it. The centre c is uniform over the
    lower edges of the places. Code that builds on SmoothMix draws CutMix' box and puts such an edge
    around it. Here s makes the mean of the weights equal to the requested ratio.

    Args:
      space: the lengths of the sample's axes, such as (h, w); axes of length 1 are covered
        whole.
      ratio: each sample's own share, [n], in [0, 1].
      rng: a JAX key, for the centres.
      edge: :math:`\epsilon`, the width of the soft edge in halves of the box' sides, > 0. Not
        checked when traced.

    Returns:
      Weights [n, *space], in [0, 1].

    Raises:
      ValueError: if edge is not positive and finite, no axis of space is longer than 1, or an
        axis has length 0.

    Example:
      >>> weight = masks.smooth_box((6,), jnp.array([0.5]), jax.random.key(2), edge=1.0)
      >>> weight.shape, round(float(weight.mean()), 3)
      ((1, 6), 0.5)

    References:
      Lee et al., `SmoothMix: a Simple Yet Effective Data Augmentation to Train Robust Classifiers
      <https://doi.org/10.1109/CVPRW50498.2020.00386>`_, 2020
    """
    checks.positive("edge", edge)
    return 1 - _shape(_trapezoid, _distances(space, len(ratio), rng), 1 - ratio, jnp.asarray(edge, jnp.float32))


def _distances(space: Space, n: int, rng: PRNGKeyArray) -> list[Float[Array, "n _"]]:
    """Draws a centre, and returns the distances from it along each axis, in units of its length; 0 if that is 1."""
    axes.rank(space)
    distances = []
    for length, border in zip(space, axes.random_centres(space, n, rng), strict=True):
        distance = (jnp.arange(length, dtype=jnp.int32)[None] - border[:, None]).astype(jnp.float32) + 0.5
        distances.append(distance / length if length > 1 else jnp.zeros_like(distance))
    return distances


def _bell(distance: Float[Array, "n _"], sharpness: Float[Array, "n 1"]) -> Float[Array, "n _"]:
    return jnp.exp(-(sharpness**2) * distance**2 / 2)


def _trapezoid(
    distance: Float[Array, "n _"], sharpness: Float[Array, "n 1"], edge: Float[Array, ""]
) -> Float[Array, "n _"]:
    return jnp.clip(1 - (sharpness * jnp.abs(distance) - 1) / edge, 0, 1)


def _shape(
    profile: Profile, distances: list[Float[Array, "n _"]], area: Float[Array, " n"], *options: Any
) -> Float[Array, "n *space"]:
    """Returns the product of profiles along all axes, with a width at which its mean is `area`."""
    sharpness = _sharpness(profile, distances, area, *options)[:, None]
    return functools.reduce(
        jnp.multiply, axes.spread([profile(distance, sharpness, *options) for distance in distances])
    )


@functools.partial(jax.jit, static_argnums=0)  # outside of one, every call would compile the loop anew
def _sharpness(
    profile: Profile, distances: list[Float[Array, "n _"]], area: Float[Array, " n"], *options: Any
) -> Float[Array, " n"]:
    """Finds 1 / width at which a shape's mean is `area`, by bisection and a Newton step, which carries the gradient."""

    def mean(sharpness: Float[Array, " n"]) -> Float[Array, " n"]:
        profiles = [profile(distance, sharpness[:, None], *options) for distance in distances]
        return functools.reduce(jnp.multiply, [jnp.mean(along, axis=1) for along in profiles])

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        wide = mean(middle / (1 - middle)) > area
        return jnp.where(wide, middle, low), jnp.where(wide, high, middle)

    _, high = jax.lax.fori_loop(0, 16, halve, (jnp.zeros_like(area), jnp.ones_like(area)))
    narrow = jax.lax.stop_gradient(high)  # the bound at which an area of 0 is exactly 0
    sharpness = narrow / (1 - narrow)
    reached, slope = jax.jvp(mean, (sharpness,), (jnp.ones_like(sharpness),))
    return sharpness + jnp.where(slope < -1e-4, (area - reached) / jnp.minimum(slope, -1e-4), 0)

"""Coefficients by which mixing with a mask penalises gradients and curvature.

To second order, the loss on mixed samples is the loss on clean samples plus penalties. The distribution of ratio and
mask enters the penalties through these coefficients only.
"""

import math
from typing import Literal, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray
import numpy as np

from jaxmix import checks, ratios
from jaxmix.types import MaskFn, Scalar, Space

CHUNK_NUMBERS = 2**20  # numbers per array of a chunk: 4 MiB


class Profile(NamedTuple):
    """The coefficients for one anchor place, with Monte Carlo errors.

    Attributes:
      quadratic: a_jk for the anchor j and every place k, [*space].
      quadratic_error: standard error of quadratic, [*space].
      linear: b_k for every place k, [*space].
      linear_error: standard error of linear, [*space].
    """

    quadratic: Float[Array, "*space"]
    quadratic_error: Float[Array, "*space"]
    linear: Float[Array, "*space"]
    linear_error: Float[Array, "*space"]


def profile(
    mask: MaskFn,
    space: Space,
    rng: PRNGKeyArray,
    *,
    anchor: tuple[int, ...],
    alpha: Scalar = 1.0,
    form: Literal["paper", "exact"] = "paper",
    num_draws: int = 2**14,
) -> Profile:
    r"""Estimates the coefficients that tie every place to an anchor place, for any mask.

    .. math:: \text{paper:} \quad a_{jk} = \mathbb{E}[(1 - M_j)(1 - M_k)], \quad b_k = \mathbb{E}[1 - \lambda],
        \quad \lambda \sim \mathrm{Beta}(\alpha + 1, \alpha)

    .. math:: \text{exact:} \quad a_{jk} = \mathbb{E}[r (1 - M_j)(1 - M_k) + (1 - r) M_j M_k],
        \quad b_k = \mathbb{E}[r (1 - M_k) + (1 - r) M_k], \quad \lambda \sim \mathrm{Beta}(\alpha, \alpha)

    M are the mask's weights for :math:`\lambda`. Their mean r is the sample's share of the labels. Data are assumed to
    be centred. Then :math:`a_{jk}` weighs the penalties on products of gradients and on curvature between places j and
    k, and :math:`b_k` weighs the penalty on the product of sample and gradient at k. The exact form is correct to
    second order for every mask. The paper's form is correct if :math:`r = \lambda` and 1 - M at :math:`1 - \lambda`
    has the distribution of M at :math:`\lambda`. Of the methods here this holds for Mixup only.

    Args:
      mask: draws weights, (space, ratio, rng) -> [n] or [n, *space].
      space: the lengths of the sample's axes, such as (h, w).
      rng: a JAX key.
      anchor: index of the place j, one number per axis of space.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.
      form: "paper" or "exact", as above.
      num_draws: least number of masks to draw, at least 2. Memory does not grow with it.

    Returns:
      The anchor's coefficients and their standard errors, in float32.

    Raises:
      ValueError: if space has no places, the anchor lies outside of space, form is unknown, num_draws is less than 2,
        a concrete alpha is not positive and finite, or the mask returns another shape.
      TypeError: if anchor or num_draws are not integers, or alpha is not a single number.

    Example:
      >>> tied = coefficients.profile(masks.box, (5,), jax.random.key(0), anchor=(2,))
      >>> tied.quadratic.round(1)
      Array([0. , 0.1, 0.2, 0.1, 0. ], dtype=float32)

    References:
      Park et al., `A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function
      Perspective <https://arxiv.org/abs/2208.09913>`_, 2022
    """
    anchor = _checked(space, anchor, form, num_draws)
    checks.key(rng)
    checks.positive("alpha", alpha)
    places = math.prod(space)
    num_chunks = min(num_draws, -(-num_draws * places // CHUNK_NUMBERS))
    chunk = -(-num_draws // num_chunks)
    index = int(np.ravel_multi_index(anchor, space))

    def terms(rng: PRNGKeyArray) -> tuple[Array, Array]:
        """Draws the terms whose means are a and b, [chunk, places] each."""
        ratio_rng, coin_rng, mask_rng = jax.random.split(rng, 3)
        ratio = ratios.beta(chunk, ratio_rng, alpha=alpha)
        if form == "paper":  # kept with probability ratio, which makes the density f into 2 ratio f(ratio)
            ratio = jnp.where(jax.random.uniform(coin_rng, (chunk,), jnp.float32) < ratio, ratio, 1 - ratio)
        own = _weights(mask, space, ratio, mask_rng)
        partner = 1 - own
        quadratic = partner[:, index, None] * partner
        if form == "paper":
            return quadratic, jnp.broadcast_to(1 - ratio[:, None], own.shape)
        share = jnp.mean(own, axis=1, keepdims=True)
        quadratic = share * quadratic + (1 - share) * own[:, index, None] * own
        return quadratic, share * partner + (1 - share) * own

    def merge(moments: tuple[Array, Array], values: Array, done: Array) -> tuple[Array, Array]:
        """Updates mean and squared deviations of `done` chunks by another chunk, with Chan's formula."""
        mean, squares = moments
        chunk_mean = jnp.mean(values, axis=0)
        within = jnp.sum((values - chunk_mean[None]) ** 2, axis=0)
        step = chunk_mean - mean
        return mean + step / (done + 1), squares + within + step**2 * (chunk * done / (done + 1))

    def add(moments, now):
        done, rng = now
        return tuple(merge(old, values, done) for old, values in zip(moments, terms(rng), strict=True)), None

    none = jnp.zeros(places, jnp.float32)
    chunks = jnp.arange(num_chunks, dtype=jnp.float32), jax.random.split(rng, num_chunks)
    (quadratic, linear), _ = jax.lax.scan(add, ((none, none), (none, none)), chunks)
    n = float(chunk * num_chunks)  # may pass int32

    def estimate(mean: Array, squares: Array) -> tuple[Array, Array]:
        return mean.reshape(space), jnp.sqrt(squares / n / (n - 1)).reshape(space)

    return Profile(*estimate(*quadratic), *estimate(*linear))


def _weights(mask: MaskFn, space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray) -> Float[Array, "n places"]:
    """Draws the mask's weights at every place, flattened."""
    n = ratio.shape[0]
    weight = mask(space, ratio, rng)
    if jnp.shape(weight) not in ((n,), (n, *space)):
        raise ValueError(
            f"the mask returned shape {jnp.shape(weight)}, where {(n,)} or {(n, *space)} was expected: "
            "return one weight per ratio, or one per ratio and place"
        )
    weight = jnp.asarray(weight, jnp.float32).reshape(n, -1)
    return jnp.broadcast_to(weight, (n, math.prod(space)))


def _checked(space: Space, anchor: tuple[int, ...], form: str, num_draws: int) -> tuple[int, ...]:
    """Returns the anchor as integers, after checking the arguments."""
    if not isinstance(space, tuple | list) or not space or min(space) < 1:
        raise ValueError(f"space {space} has no places: give the lengths of the sample's axes, such as (h, w)")
    numbers = anchor if isinstance(anchor, tuple | list) else (anchor,)
    if not all(isinstance(number, int | np.integer) for number in (*numbers, num_draws)):
        raise TypeError(f"anchor and num_draws must be integers known to Python, got {anchor!r} and {num_draws!r}")
    if len(numbers) != len(space):
        raise ValueError(f"anchor {anchor} must have one index per axis of space {space}, such as its centre")
    if not all(0 <= place < length for place, length in zip(numbers, space, strict=True)):
        raise ValueError(f"anchor {anchor} lies outside of space {space}: count places from 0 along every axis")
    if form not in ("paper", "exact"):
        raise ValueError(f"form must be 'paper' or 'exact', got {form!r}")
    if num_draws < 2:
        raise ValueError(f"num_draws must be at least 2, since a standard error needs two draws, got {num_draws}")
    return tuple(int(number) for number in numbers)

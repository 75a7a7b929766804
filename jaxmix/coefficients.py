"""How a mask regularises: the coefficients by which mixing penalises gradients and curvature.

To second order, a loss on mixed samples is the loss on clean ones plus penalties into which the law of ratio and mask
enters only through the numbers computed here.
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

CHUNK_NUMBERS = 2**20  # that are held at a time: 4 MiB for every array of a chunk


class Profile(NamedTuple):
    """The coefficients of one anchor place, and the Monte Carlo errors of each.

    Attributes:
      quadratic: a_jk of the anchor j against every place k, [*space].
      quadratic_error: its standard error, [*space].
      linear: b_k of every place, [*space].
      linear_error: its standard error, [*space].
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
    r"""Estimates how strongly mixing ties each place to the anchor, for any mask.

    .. math:: \text{paper:} \quad a_{jk} = \mathbb{E}[(1 - M_j)(1 - M_k)], \quad b_k = \mathbb{E}[1 - \lambda],
        \quad \lambda \sim \mathrm{Beta}(\alpha + 1, \alpha)

    .. math:: \text{exact:} \quad a_{jk} = \mathbb{E}[r (1 - M_j)(1 - M_k) + (1 - r) M_j M_k],
        \quad b_k = \mathbb{E}[r (1 - M_k) + (1 - r) M_k], \quad \lambda \sim \mathrm{Beta}(\alpha, \alpha)

    with M the weights that the mask gives for :math:`\lambda`, and r their mean, by which labels are mixed. Data are
    taken as centred. Then :math:`a_{jk}` weighs the penalties on products of gradients and on curvature between places
    j and k, and :math:`b_k` that on the agreement of sample and gradient at k. The exact form is right to second order
    for every mask; the paper's is where masks 1 - M are as likely at :math:`1 - \lambda` as M at :math:`\lambda`, and
    :math:`r = \lambda`: of the methods here, for Mixup alone.

    Args:
      mask: (space, ratio, rng) -> weights [n] or [n, *space].
      space: the lengths of the sample's axes, such as (h, w).
      rng: a JAX key.
      anchor: index of the place j, one number per axis of space.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.
      form: "paper" or "exact".
      num_draws: how many masks are drawn, at the least, and at least 2. Memory does not grow with it.

    Returns:
      The coefficients of the anchor with their standard errors, in float32.

    Raises:
      ValueError: if space has no places, the anchor is not one of them, form is neither of the two, num_draws is less
        than 2, a concrete alpha is not positive and finite, or the mask returns another shape.
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
        """What a and b are the means of, [chunk, places] each."""
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
        """Chan's update of mean and squared deviations after as many chunks as done."""
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
    """The mask's weights at every place, in a row."""
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
    """The anchor, once nothing is wrong whatever is drawn."""
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
        raise ValueError(f"num_draws must be at least 2, as it takes two for a standard error, got {num_draws}")
    return tuple(int(number) for number in numbers)

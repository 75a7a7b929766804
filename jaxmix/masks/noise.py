"""Masks cut from low-frequency noise."""

import functools
import math

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool, Float, PRNGKeyArray
import numpy as np

from jaxmix import checks
from jaxmix.masks import axes
from jaxmix.types import Scalar, Space

LEFT_OUT = 1e-5  # of the variance
FEW = 4096  # places that a threshold is searched at


def fourier(
    space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray, *, decay: Scalar = 3.0
) -> Bool[Array, "n *space"]:
    r"""Gives the sample the places where smooth noise is highest: FMix' mask.

    .. math:: G = \mathrm{Re}\,\mathcal{F}^{-1}\big(Z / \max(f, 1 / \max_i N_i)^\delta\big)

    Z is complex Gaussian white noise, f the frequency in cycles per place, and :math:`N_i` the
    length of axis i. The sample gets the share :math:`\lambda` of places where G is highest. With
    at most 4,096 places their number is :math:`\lambda` of all, rounded, unless the noise has
    ties. With more places a coarser lattice of them sets the threshold. Then the realised share,
    which is the mean of the weights, is within .005 of the ratio for images and within .02 for
    videos.

    A random series of cosines and sines with the covariance of G, up to a factor, replaces the
    Fourier transform. It omits the highest frequencies, which together have less than 1e-5 of the
    variance. At 224 x 224 this changes one place in 1,000. A traced decay keeps all frequencies.

    Args:
      space: the lengths of the sample's axes, such as (h, w); axes of length 1 are covered
        whole.
      ratio: each sample's own share, [n], in [0, 1].
      rng: a JAX key, for the noise.
      decay: :math:`\delta`, the exponent by which amplitudes fall with frequency, at least 0. A
        larger decay gives smoother borders. Not checked when traced.

    Returns:
      Booleans [n, *space]: True where the noise is highest.

    Raises:
      ValueError: if decay is negative or not finite, no axis of space is longer than 1, or an
        axis has length 0.

    Example:
      >>> masks.fourier((6,), jnp.array([0.5]), jax.random.key(0))
      Array([[ True,  True, False, False, False,  True]], dtype=bool)

    References:
      Harris et al., `FMix: Enhancing Mixed Sample Data Augmentation
      <https://arxiv.org/abs/2002.12047>`_, 2020
    """
    checks.key(rng)
    checks.non_negative("decay", decay)
    rank = axes.rank(space)
    every = [length // 2 for length in space]
    kept = every if isinstance(decay, jax.core.Tracer) else _kept(space, float(decay))
    frequency = _frequency(space, [np.r_[: k + 1, 1 : k + 1] for k in kept])
    amplitude = jnp.asarray(frequency, jnp.float32)[None] ** -jnp.asarray(decay, jnp.float32)
    coefficients = amplitude * jax.random.normal(rng, (*ratio.shape, *frequency.shape), jnp.float32)
    waves = [_waves(length, k) for length, k in zip(space, kept, strict=True)]
    step = math.ceil((math.prod(space) / FEW) ** (1 / rank))
    few = axes.along(coefficients, [wave[min(step, len(wave)) // 2 :: step] for wave in waves])
    threshold = _threshold(few, ratio, num_halvings=28 if step == 1 else 16)
    return axes.along(coefficients, waves) > jnp.expand_dims(threshold, range(1, 1 + len(space)))


def _frequency(space: Space, harmonics: list[np.ndarray]) -> np.ndarray:
    """Returns the frequency of every product of one harmonic per axis, in units of the lowest frequency."""
    along = [(k * max(space) / length) ** 2 for length, k in zip(space, harmonics, strict=True)]
    return np.sqrt(np.maximum(functools.reduce(np.add, np.ix_(*along)), 1))


def _kept(space: Space, decay: float) -> list[int]:
    """Returns how many harmonics each axis keeps: those above have less than LEFT_OUT of the variance."""
    harmonics = [np.arange(length // 2 + 1) for length in space]
    waves = [np.where((k == 0) | (2 * k == length), 1, 2) for length, k in zip(space, harmonics, strict=True)]
    variance = _frequency(space, harmonics) ** (-2 * decay) * functools.reduce(np.multiply, np.ix_(*waves))
    variance.flat[0] = 0  # a constant moves no place
    along = [k / length for length, k in zip(space, harmonics, strict=True)]
    highest = functools.reduce(np.maximum, np.ix_(*along)).ravel()
    order = np.argsort(highest)
    beyond = 1 - np.cumsum(variance.ravel()[order]) / np.sum(variance)
    bound = highest[order][np.argmax(beyond < LEFT_OUT)]
    return [int(np.sum(frequencies <= bound)) - 1 for frequencies in along]


def _waves(length: int, kept: int) -> Float[np.ndarray, "length waves"]:
    """Returns a constant, cosines and sines along one axis, weighted for a frequency and its negative together."""
    k = np.arange(1, kept + 1)
    phase = 2 * np.pi / length * (np.outer(np.arange(length), k) % length)
    weight = np.where(2 * k == length, 1, np.sqrt(2))
    waves = [np.ones((length, 1)), weight * np.cos(phase), weight * np.sin(phase)]
    return np.concatenate(waves, axis=1).astype(np.float32)


@functools.partial(jax.jit, static_argnames="num_halvings")  # outside of one, every call would compile the loop anew
def _threshold(
    values: Float[Array, "n *places"], ratio: Float[Array, " n"], *, num_halvings: int
) -> Float[Array, " n"]:
    """Finds the threshold that a share of each sample's values exceeds, by bisection: a sort takes 20 times as long."""
    per_sample = tuple(range(1, values.ndim))
    wanted = jnp.round(ratio * math.prod(values.shape[1:]))

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        above = jnp.sum(values > jnp.expand_dims(middle, per_sample), per_sample, dtype=jnp.int32)
        more = above.astype(jnp.float32) > wanted
        return jnp.where(more, middle, low), jnp.where(more, high, middle)

    bounds = jnp.min(values, per_sample) - 1, jnp.max(values, per_sample)
    threshold = jax.lax.fori_loop(0, num_halvings, halve, bounds)[1]
    return jnp.where(ratio == 0, jnp.inf, jnp.where(ratio == 1, -jnp.inf, threshold))

"""Saliency, which guides masks to the places that count most: batch -> [n, *places].

A guide is any function of the batch that returns maps [n, *space], or coarser ones. To use a
network, pass `guide=lambda batch: attention_of(params, batch)`, where attention_of returns the
class token's attention to patches, [n, h, w]. No gradient flows through a guide.
"""

import math

from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from jaxmix import checks
from jaxmix.masks import axes
from jaxmix.types import Batch

SMOOTHING = 2.5 / 64
"""Standard deviation of the Gaussian, as a share of the map's longest axis."""

LEAST = 1e-6
"""Share of the largest amplitude below which float32 has only noise."""


def spectral_residual(batch: Batch, *, places: int = 64) -> Float[Array, "n *places"]:
    r"""Computes saliency maps without a network, from what deviates from a smooth spectrum.

    .. math:: S = g * \big| F^{-1}\big[\exp(L - h * L + i P)\big] \big|^2

    L is the logarithm and P the phase of the spectrum, h averages 3 neighbours along each axis
    of the (periodic) spectrum, and g is a Gaussian with a standard deviation of 2.5 in 64 places.
    Places beyond the border count as 0. Maps do not depend on the scale of the batch.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays, whose
        leaf of highest rank is used. Channels are averaged.
      places: largest number of places along an axis of the maps. Larger samples are averaged over
        equal steps along all axes, since the method needs coarse images. 64 as in the paper.

    Returns:
      Nonnegative float32 maps [n, *places].

    Raises:
      ValueError: if places is less than 1, or the batch has no spatial axis longer than 1.
      TypeError: if that leaf is neither float nor uint8.

    Example:
      >>> images = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3)).at[0, 20:24, 8:12].add(1)
      >>> maps = saliency.spectral_residual(images)
      >>> maps[0, 20:24, 8:12].mean().item() > 3 * maps.mean().item()
      True

    References:
      Hou and Zhang, `Saliency Detection: A Spectral Residual Approach
      <https://doi.org/10.1109/CVPR.2007.383267>`_, 2007
    """
    checks.at_least_one("places", places)
    lead = checks.lead_leaf(batch)
    checks.measurable(lead, "pass guide, a function from the batch to how much each place counts")
    space = np.shape(lead)[1:-1]
    axes.rank(space)
    step = math.ceil(max(space) / places)
    gray = jnp.mean(jnp.asarray(lead), axis=-1, dtype=jnp.float32)
    gray = axes.averaged(gray, [math.ceil(length / step) for length in space])
    dims = range(1, gray.ndim)
    spectrum = jnp.fft.fftn(gray, axes=dims)
    amplitude = jnp.abs(spectrum)
    largest = jnp.max(amplitude, axis=dims, keepdims=True)
    expected = jnp.log(jnp.maximum(amplitude, jnp.maximum(LEAST * largest, jnp.finfo(jnp.float32).tiny)))
    for axis in dims:
        expected = (jnp.roll(expected, -1, axis) + expected + jnp.roll(expected, 1, axis)) / 3
    residual = jnp.real(jnp.fft.ifftn(spectrum * jnp.exp(-expected).astype(spectrum.dtype), axes=dims)) ** 2
    deviation = SMOOTHING * max(gray.shape[1:])
    return axes.along(residual, [_gaussian(length, deviation) for length in gray.shape[1:]])


def _gaussian(length: int, deviation: float) -> np.ndarray:
    """Returns the matrix that smooths along an axis, with zeros beyond the border."""
    reach = length + math.ceil(8 * deviation)
    weight = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    distance = np.arange(length)[:, None] - np.arange(length)[None]
    return weight[reach + distance] / weight.sum()

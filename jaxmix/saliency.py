"""How much each place of a sample counts, for masks that look at a guide: batch -> [n, *places].

A guide is any function of the batch that returns maps [n, *space], or coarser ones. So a network
is one by a line, `guide=lambda batch: attention_of(params, batch)`, where that returns its
class token's attention to patches, [n, h, w]; no gradient flows through it.
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
"""The standard deviation of the Gaussian, by the longest axis of the map."""

LEAST = 1e-6
"""The amplitude, by the largest, below which float32 has only noise."""


def spectral_residual(batch: Batch, *, places: int = 64) -> Float[Array, "n *places"]:
    r"""Finds what stands out from the rest of a sample, without a network: what its spectrum does not foretell.

    .. math:: S = g * \big| F^{-1}\big[\exp(L - h * L + i P)\big] \big|^2

    with L the logarithm and P the phase of the spectrum, h the mean over 3 neighbours along each
    axis of it (which is periodic), and g a Gaussian of 2.5 in 64 places. Nothing beyond the
    border is salient. Maps do not depend on the scale of the batch.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree, of which the leaf
        of highest rank counts. Channels are averaged.
      places: the most along an axis. Samples that are larger are averaged over equal steps along
        all axes, as the method works on coarse images: 64 in the paper.

    Returns:
      Maps [n, *places], not negative, float32.

    Raises:
      ValueError: if places is less than 1, or the batch has no space.
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
    """The matrix that smooths an axis; of what it sums up, nothing lies beyond the border."""
    reach = length + math.ceil(8 * deviation)
    weight = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    distance = np.arange(length)[:, None] - np.arange(length)[None]
    return weight[reach + distance] / weight.sum()

"""jaxmix-C: 17 image corruptions at 5 severities, with the parameters of CIFAR-10-C.

Every corruption takes float images in [0, 1], [n, h, w, c], gray (c = 1) or colour (c = 3), one
key per image and a severity, and computes in float32. The result for an image depends on its own
key only, not on the batch; draw keys with `keys`. All corruptions except those in `ON_HOST` are
pure, and can be jitted with a fixed severity.

This is not CIFAR-10-C: do not compare errors on it with published numbers. Values are not rounded
to 8 bits, elastic transforms interpolate exactly instead of in 32nds of a pixel, frost (which
needs photographs) and spatter are missing, and the random draws differ. Radii, shifts and kernels
in pixels are those for 32 x 32 images at every size. Zoom, pixelate and elastic transforms scale
with the image.

References:
  Hendrycks and Dietterich, `Benchmarking Neural Network Robustness to Common Corruptions and
  Perturbations <https://arxiv.org/abs/1903.12261>`_, 2019
"""

from collections.abc import Callable
import zlib

import jax
from jax import Array
from jaxtyping import Int

from jaxmix.evaluation.corruptions.blur import defocus_blur, gaussian_blur, glass_blur, motion_blur, zoom_blur
from jaxmix.evaluation.corruptions.digital import contrast, elastic_transform, jpeg_compression, pixelate, saturate
from jaxmix.evaluation.corruptions.levels import Keys
from jaxmix.evaluation.corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from jaxmix.evaluation.corruptions.weather import brightness, fog, snow

CORRUPTIONS: dict[str, Callable] = {
    corruption.__name__: corruption
    for corruption in (
        gaussian_noise,
        shot_noise,
        impulse_noise,
        defocus_blur,
        glass_blur,
        motion_blur,
        zoom_blur,
        snow,
        fog,
        brightness,
        contrast,
        elastic_transform,
        pixelate,
        jpeg_compression,
    )
}
"""The 14 corruptions that count in the mean, by CIFAR-10-C's names."""

EXTRAS: dict[str, Callable] = {
    "speckle_noise": speckle_noise,
    "gaussian_blur": gaussian_blur,
    "saturate": saturate,
}
"""Corruptions for validation, which do not count in the mean."""

ON_HOST = frozenset({"jpeg_compression"})
"""Corruptions that run on numpy arrays and cannot be jitted."""


def keys(indices: Int[Array, " n"], *, corruption: str, severity: int, seed: int = 0) -> Keys:
    """Returns one key per image, which depends on (seed, corruption, severity, index) only.

    Args:
      indices: indices of the images in their data set, [n].
      corruption: a name. Its checksum is folded in, so other corruptions do not change its keys.
      severity: 1 to 5.
      seed: seed of all draws.

    Returns:
      One key per image, [n].

    Example:
      >>> rng = corruptions.keys(jnp.array([7, 8]), corruption="fog", severity=3)
      >>> bool(rng[1] == corruptions.keys(jnp.array([8]), corruption="fog", severity=3)[0])
      True
    """
    # Threefry whatever the default: only its draws are those of each key alone under vmap.
    rng = jax.random.key(seed, impl="threefry2x32")
    rng = jax.random.fold_in(jax.random.fold_in(rng, zlib.crc32(corruption.encode())), severity)
    return jax.vmap(jax.random.fold_in, (None, 0))(rng, indices)
